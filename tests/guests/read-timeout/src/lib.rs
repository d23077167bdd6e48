//! Waits for input or 1 s, whichever comes first, and answers `input` or `timeout`. It proves
//! that a guest with a timer starts when the connection is accepted. A start at the first byte
//! would defer the timer.
#![allow(missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({
    inline: "
        package test:guest;
        world guest {
            import wasi:clocks/monotonic-clock@0.2.0;
            export uninterruptible:server/handler@0.2.0;
        }
    ",
    path: ["../../../wit/0.2", "../wit/clocks"],
    generate_all,
});

use exports::uninterruptible::server::handler::{Connection, Guest, InputStream, OutputStream};
use wasi::clocks::monotonic_clock::subscribe_duration;
use wasi::io::poll::poll;

const PATIENCE: u64 = 1_000_000_000;

struct Plugin;

impl Guest for Plugin {
    fn handle_request(_connection: Connection, input: InputStream, output: OutputStream) -> Result<(), String> {
        let (arrived, late) = (input.subscribe(), subscribe_duration(PATIENCE));
        let answer: &[u8] = if poll(&[&arrived, &late]).contains(&0) { b"input\n" } else { b"timeout\n" };
        drop(arrived);
        output.blocking_write_and_flush(answer).map_err(|error| error.to_string())
    }
}

export!(Plugin);
