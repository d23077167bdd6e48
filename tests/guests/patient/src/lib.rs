//! Answers with 200,000 bytes, then waits for a line, and says what it was. A peer that reads everything before it goes on must
//! get everything, though the guest does not come back to its output.

use std::io::{self, BufRead, Write};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    connection.write_all(&[b'x'; 200_000])?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    write!(connection, "you said: {line}")
}
