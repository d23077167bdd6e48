//! Begins a read of zero bytes, which waits for input without taking any, and cancels it at once.
//! Logs how the read ended, then returns its input as its output.
#![allow(missing_docs, reason = "generated bindings")]

wit_bindgen::generate!({ path: "../../../wit/0.3", world: "plugin-async", generate_all });

use std::{future::poll_fn, pin::pin, task::Poll};

use exports::uninterruptible::server::handler::{Connection, Guest};
use wit_bindgen::StreamReader;

struct Plugin;

impl Guest for Plugin {
    async fn handle_request(_connection: Connection, mut input: StreamReader<u8>) -> StreamReader<u8> {
        let ended = {
            let mut read = pin!(input.read(Vec::new()));
            match poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await {
                Poll::Pending => read.cancel().0,
                Poll::Ready((result, _)) => result,
            }
        };
        println!("a read of nothing: {ended:?}");
        input
    }
}

export!(Plugin);
