//! Traps after it has written `partial`: written bytes must arrive, and other connections must not
//! notice.

use std::io::{self, Write};

use uninterruptible_guest::Connection;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"partial\n")?;
    // In WebAssembly this is the instruction `unreachable`, without the message that a panic prints
    // first.
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}
