//! Sends back what it receives, until the peer has sent everything.

use std::io;

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let (input, output) = connection.halves();
    input.copy_to(output)?;
    output.finish()
}
