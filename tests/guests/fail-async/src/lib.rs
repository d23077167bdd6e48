//! The guest `fail` on the 0.3 contract, where an error is `connection.fail`.

use uninterruptible_guest::Error;
use uninterruptible_guest::asynchronous::Connection;

#[uninterruptible_guest::handler]
async fn handle_request(mut connection: Connection) -> Result<(), Error> {
    connection.write_all(b"partial\n").await?;
    Err(Error::new("multi\nline \x1b[31m message"))
}
