//! The host's functions, under one name for both targets: the bindings in WebAssembly, and a
//! stand-in that keeps the same contract elsewhere. All code above this file is the same on both.
//! That makes native tests of a handler, and of this SDK, meaningful.

#[cfg(target_family = "wasm")]
pub(crate) mod sync {
    pub(crate) use crate::bindings::sync::uninterruptible::server::{drain, types::Connection};
    pub(crate) use crate::bindings::sync::wasi::io::poll::poll;
    pub(crate) use crate::bindings::sync::wasi::io::streams::{InputStream, OutputStream, StreamError};
    pub(crate) use crate::connect::{OutgoingSocket, connect};

    /// The stand-in's type borrows its stream.
    pub(crate) type Pollable<'a> = crate::bindings::sync::wasi::io::poll::Pollable;
}

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::sync;

#[cfg(target_family = "wasm")]
pub(crate) mod asynchronous {
    pub(crate) use wit_bindgen::StreamResult;

    pub(crate) use crate::bindings::asynchronous::uninterruptible::server::{drain, types::Connection};

    pub(crate) type StreamReader = wit_bindgen::StreamReader<u8>;
    pub(crate) type StreamRead<'a> = wit_bindgen::rt::async_support::StreamRead<'a, u8>;
    pub(crate) type StreamWriter = wit_bindgen::StreamWriter<u8>;
}

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::asynchronous;
