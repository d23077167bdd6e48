//! Sends back what it receives until the host drains; then it says `bye` and is finished.

use std::io::{self, BufRead, Write};

use uninterruptible_guest::{Connection, Ready};

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    while connection.ready() == Ready::Input {
        let (input, output) = connection.halves();
        let arrived = input.fill_buf()?;
        if arrived.is_empty() {
            return Ok(());
        }
        let length = arrived.len();
        output.write_all(arrived)?;
        input.consume(length);
    }
    connection.write_all(b"bye\n")
}
