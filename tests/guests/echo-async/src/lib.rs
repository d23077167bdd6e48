//! The plugin `echo` on the 0.3 contract: for bulk transfer and half-close on the component model's
//! own streams.

use std::io;

use uninterruptible_guest::asynchronous::Connection;
use uninterruptible_guest_minimal as _;

#[uninterruptible_guest::handler]
async fn handle_request(mut connection: Connection) -> io::Result<()> {
    let (input, output) = connection.halves();
    input.copy_to(output).await?;
    output.finish();
    Ok(())
}
