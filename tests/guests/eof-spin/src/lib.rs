//! Reads for ever after the end of its input: reading the end again does not count as movement for
//! any limit.

use std::io::{self, Read};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let mut read = 0;
    loop {
        read += connection.read(&mut [0; 16])?;
        std::hint::black_box(read);
    }
}
