//! What the host offers, under one name for both targets: the bindings to it in WebAssembly, and a stand-in that keeps the
//! same contract elsewhere. Everything above this file is the same code on both, which is what makes native tests of a
//! handler, and of this SDK, mean something.

#[cfg(target_family = "wasm")]
pub(crate) use crate::bindings::sync::{
    uninterruptible::server::{drain, types::Connection},
    wasi::io::{
        poll::poll,
        streams::{InputStream, OutputStream, StreamError},
    },
};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::sync::{Connection, InputStream, OutputStream, StreamError, drain, poll};
