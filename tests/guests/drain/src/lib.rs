//! Sends back the bytes that it receives until the host drains. Then it says `bye` and ends.

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
