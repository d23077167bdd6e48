//! Passes 4097 bytes to `blocking-write-and-flush`, which takes 4096: the host must trap it. The
//! SDK never does this, so the guest uses the bindings directly.
#![allow(missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({ path: "../../../wit/0.2", world: "plugin", generate_all });

use exports::uninterruptible::server::handler::{Connection, Guest, InputStream, OutputStream};

struct Plugin;

impl Guest for Plugin {
    fn handle_request(_connection: Connection, _input: InputStream, output: OutputStream) -> Result<(), String> {
        output.blocking_write_and_flush(&[b'x'; 4097]).map_err(|error| error.to_string())
    }
}

export!(Plugin);
