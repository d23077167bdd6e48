//! Answers, closes its output, and never returns: it looks finished to the peer, and yet the host
//! has to end it.
#![allow(missing_docs, reason = "generated bindings")]

use std::io::{self, Write};

use uninterruptible_guest::Connection;
use wasi::clocks::monotonic_clock::subscribe_duration;

wit_bindgen::generate!({
    inline: "package test:guest; world guest { import wasi:clocks/monotonic-clock@0.2.0; }",
    path: ["../../../wit/0.2", "../wit/clocks"],
    generate_all,
});

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"finished\n")?;
    connection.finish()?;
    loop {
        subscribe_duration(u64::MAX).block();
    }
}
