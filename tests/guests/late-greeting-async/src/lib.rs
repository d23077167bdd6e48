//! Greets after 200 ms, without reading. A guest of WASI 0.3 that waits for a clock must start when
//! the connection is accepted, since its first byte may never come.
#![allow(missing_docs, reason = "generated bindings")]

use std::io;

use uninterruptible_guest::asynchronous::Connection;
use wasi::clocks::monotonic_clock::wait_for;

wit_bindgen::generate!({
    inline: "package test:guest; world guest { import wasi:clocks/monotonic-clock@0.3.0; }",
    path: "../wit/clocks-0.3",
    generate_all,
});

#[uninterruptible_guest::handler]
async fn handle_request(mut connection: Connection) -> io::Result<()> {
    wait_for(200_000_000).await;
    connection.write_all(b"at last\n").await
}
