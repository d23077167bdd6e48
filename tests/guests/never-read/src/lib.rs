//! Never reads and never writes, but waits for an hour: a peer that sends is held back, and the
//! guest uses no CPU time.
#![allow(missing_docs, reason = "generated bindings")]

use std::io;

use uninterruptible_guest::Connection;
use wasi::clocks::monotonic_clock::subscribe_duration;

wit_bindgen::generate!({
    inline: "package test:guest; world guest { import wasi:clocks/monotonic-clock@0.2.0; }",
    path: ["../../../wit/0.2", "../wit/clocks"],
    generate_all,
});

const AN_HOUR: u64 = 3_600_000_000_000;

#[uninterruptible_guest::handler]
fn handle_request(_connection: Connection) -> io::Result<()> {
    subscribe_duration(AN_HOUR).block();
    Ok(())
}
