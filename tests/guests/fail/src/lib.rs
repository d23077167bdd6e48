//! Returns an error after it has written `partial`. The message has an end of line and an escape code in it, which the log
//! must not pass on.

use std::io::Write;

use uninterruptible_guest::{Connection, Error};

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> Result<(), Error> {
    connection.write_all(b"partial\n")?;
    Err(Error::new("multi\nline \x1b[31m message"))
}
