//! Answers with 200,000 bytes, then waits for a line, and sends it back. A peer that first reads
//! everything must get everything, although the guest does not return to its output.

use std::io::{self, BufRead, Write};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    connection.write_all(&[b'x'; 200_000])?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    write!(connection, "you said: {line}")
}
