//! Creates timers for ever and keeps them: for the resource limit of a guest.
#![allow(missing_docs, reason = "generated bindings")]

use std::io;

use uninterruptible_guest::Connection;
use wasi::clocks::monotonic_clock::subscribe_duration;

wit_bindgen::generate!({
    inline: "package test:guest; world guest { import wasi:clocks/monotonic-clock@0.2.0; }",
    path: ["../../../wit/0.2", "../wit/clocks"],
    generate_all,
});

#[uninterruptible_guest::handler]
fn handle_request(_connection: Connection) -> io::Result<()> {
    let mut held = Vec::new();
    loop {
        held.push(subscribe_duration(u64::MAX));
    }
}
