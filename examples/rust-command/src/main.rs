//! A program that knows nothing of the host: it answers the line that it reads with `Hello NAME!`.

use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let mut name = String::new();
    io::stdin().lock().read_line(&mut name)?;
    let name = match name.trim() {
        "" => "world",
        name => name,
    };
    writeln!(io::stdout(), "Hello {name}!")
}
