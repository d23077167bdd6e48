//! Prints output that is hard on a log: many lines, escape codes, bytes that are not UTF-8, a very
//! long line, and a last line without an end. Then it answers normally.

use std::io::{self, Write};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    for number in 0..1000 {
        println!("standard output, line {number}");
        eprintln!("standard error, line {number}");
    }
    println!("\x1b[31mred\x1b[0m \x07 \r{{\"level\":\"error\",\"message\":\"forged\"}}");
    io::stderr().write_all(b"not \xff UTF-8\n")?;
    println!("{}", "long ".repeat(20_000));
    print!("without an end");
    io::stdout().flush()?;
    connection.write_all(b"said\n")
}
