//! Reads on and on after the end of its input: an end that is read again is no progress, for no limit.

use std::io::{self, Read};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    loop {
        connection.read(&mut [0; 16])?;
    }
}
