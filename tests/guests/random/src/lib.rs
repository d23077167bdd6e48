//! Takes as many random bytes in one call as its peer asks for (8 by default), and answers with
//! their number and the first 8 in hexadecimal: two instances must not answer the same.
#![allow(missing_docs, reason = "generated bindings")]

use std::io::{self, BufRead, Write};

use uninterruptible_guest::Connection;
use wasi::random::random::get_random_bytes;

wit_bindgen::generate!({
    inline: "package test:guest; world guest { import wasi:random/random@0.2.0; }",
    path: "../wit/random",
    generate_all,
});

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let bytes = get_random_bytes(line.trim().parse().unwrap_or(8));
    let hex: String = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    writeln!(connection, "{} {hex}", bytes.len())
}
