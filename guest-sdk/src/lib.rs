//! Plugins for `uninterruptible-host`, in Rust.
#![forbid(unsafe_code)]

pub mod asynchronous;
#[cfg(target_family = "wasm")]
mod bindings;
mod connection;
mod error;
#[doc(hidden)]
mod export;
mod facts;
mod host;
mod input;
mod output;
mod pieces;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use connection::{Connection, Facts};
pub use error::Error;
pub use input::{Input, Ready};
pub use output::Output;
pub use uninterruptible_guest_macros::handler;

#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen::StreamReader;

    #[cfg(target_family = "wasm")]
    pub use crate::bindings::{asynchronous as asynchronous_bindings, sync as sync_bindings};
    pub use crate::export::{asynchronous, returns, sync};
}
