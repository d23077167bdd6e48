//! Creates streams and futures for ever and keeps both ends: for the resource limit of a guest, on
//! the 0.3 contract.
#![allow(missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({ path: "../../../wit/0.3", world: "plugin-async", generate_all });

use exports::uninterruptible::server::handler::{Connection, Guest};
use wit_bindgen::StreamReader;

struct Plugin;

impl Guest for Plugin {
    async fn handle_request(connection: Connection, _input: StreamReader<u8>) -> StreamReader<u8> {
        let mut streams = Vec::new();
        let mut futures = Vec::new();
        loop {
            streams.push(wit_stream::new::<u8>());
            futures.push(connection.input_end());
        }
    }
}

export!(Plugin);
