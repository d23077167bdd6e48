//! Discards its input at once, then writes 100,000 bytes: a peer that is still sending must get all
//! of them, and no reset.

use std::io::{self, Write};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(connection: Connection) -> io::Result<()> {
    let (_facts, input, mut output) = connection.split();
    drop(input);
    output.write_all(&[b'x'; 100_000])
}
