//! Does the work of `hello` for one connection on the standard streams: a program that other
//! servers start for each connection.

use std::io::{self, BufRead, Read, Write};

const LINE_LIMIT: u64 = 4096;

fn main() -> io::Result<()> {
    let mut line = Vec::with_capacity(64);
    io::stdin().lock().take(LINE_LIMIT).read_until(b'\n', &mut line)?;
    let name = match line.trim_ascii() {
        [] => b"world",
        name => name,
    };
    io::stdout().write_all(&[b"Hello ", name, b"!\n"].concat())
}
