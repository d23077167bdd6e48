//! Writes for ever, until writing fails: for peers that do not read, and for those that leave.

use std::io::{self, Write};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let block = vec![b'x'; 64 * 1024];
    loop {
        connection.write_all(&block)?;
    }
}
