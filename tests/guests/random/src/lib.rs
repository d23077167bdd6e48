//! Answers with 8 random bytes in hexadecimal: no two instances may answer the same.
#![allow(missing_docs, reason = "generated bindings")]

use std::io::{self, Write};

use uninterruptible_guest::Connection;
use wasi::random::random::get_random_bytes;

wit_bindgen::generate!({
    inline: "package test:guest; world guest { import wasi:random/random@0.2.0; }",
    path: "../wit/random",
    generate_all,
});

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let hex: String = get_random_bytes(8).iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(connection, "{hex}")
}
