//! Answers a name with a greeting: `bob` and the end of the line, or of the input, with `Hello bob!`.
//!
//! No name is answered with `Hello world!`. A name is what is left of the line without the spaces around it. Of a line
//! longer than [`LONGEST_LINE`] only the beginning counts, since the peer must not decide how much memory a guest uses.

use std::io::{self, BufRead, Read, Write};

use uninterruptible_guest::Connection;

/// In bytes, the end of the line included.
pub const LONGEST_LINE: u64 = 4096;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let mut line = Vec::new();
    (&mut connection).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let name = match line.trim_ascii() {
        [] => b"world",
        name => name,
    };
    connection.write_all(&[b"Hello ", name, b"!\n"].concat())
}
