//! Plugins for `uninterruptible-host`, in Rust.
//!
//! The host accepts connections; a plugin answers them. A plugin is one function, which serves one connection:
//!
//! ```
//! use std::io::{BufRead, Write};
//! use uninterruptible_guest::Connection;
//!
//! #[uninterruptible_guest::handler]
//! fn handle_request(mut connection: Connection) -> std::io::Result<()> {
//!     let mut name = String::new();
//!     connection.read_line(&mut name)?;
//!     writeln!(connection, "Hello {}!", name.trim())
//! }
//! # use uninterruptible_guest::testing::Peer;
//! # fn main() { assert_eq!(Peer::new().sends("bob\n").meets(handle_request).text(), "Hello bob!\n"); }
//! ```
//!
//! # From a function to a plugin
//!
//! The crate is a library that is built to a file of its own:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! uninterruptible-guest = "0.1"
//!
//! [profile.release]
//! opt-level = "s"
//! lto = "fat"
//! codegen-units = 1
//! panic = "abort"
//! strip = true
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes the plugin, and `uninterruptible-host --plugin hello.wasm` serves
//! it. The profile is what keeps it small, and so is that it is built as nothing else; a plugin works without either. One that
//! writes no files is faster with the crate `uninterruptible-guest-minimal`.
//!
//! # What a handler can rely on
//!
//! * **It is alone.** Each connection has an instance of its own, made for it and thrown away after it. Statics start afresh,
//!   nothing is shared, and nothing has to be cleaned up.
//! * **An end is an end.** Reading returns 0 bytes when the peer has closed its sending side, and only then. A reset, a
//!   timeout and a TLS connection that was cut off are errors.
//! * **Writes go out.** There is no buffer to forget to flush: what is written is sent when the handler waits or ends, and within a
//!   few milliseconds where it computes.
//! * **Both directions hold back.** Who does not read stops the other side.
//! * **Errors are reported.** What it returns goes to the host's log, as does what it prints and a panic's message. The
//!   peer sees only that the connection closes, after what was written before.
//!
//! Time, memory, and what it may hold are limited, by the host's configuration and not by the handler's good manners. What
//! a peer sends is not limited by anybody else: bound what you keep of it, as in
//! `(&mut connection).take(4096).read_line(&mut line)`.
//!
//! # Protocols
//!
//! A connection is [`Read`](std::io::Read), [`BufRead`](std::io::BufRead) and [`Write`](std::io::Write), so that whatever works over
//! these works over it. For protocols whose messages a parser finds, such as `httparse`, there is
//! [`read_frame`](Connection::read_frame); for codecs that own their buffer, [`fill_buf`](std::io::BufRead::fill_buf) and
//! [`consume`](std::io::BufRead::consume) fill it.
//!
//! [`Outgoing`] is a connection that the guest makes, to where the operator allows; [`relay`] passes bytes both ways between two.
//!
//! # Two generations
//!
//! An `fn` makes a plugin on WASI 0.2: small, fast, and what the host recommends. An `async fn` makes one on WASI 0.3, for
//! handlers that wait for several things at once; it takes the [`Connection` of the module
//! `asynchronous`](asynchronous::Connection).
//!
//! # Tests
//!
//! The crate builds natively too. There a handler runs over a connection in memory, without WebAssembly: see [`testing`].
//!
//! # No `unsafe`
//!
//! This crate forbids `unsafe` code to itself, and a plugin can do the same: `#![forbid(unsafe_code)]`. The code that has to
//! be unsafe is what `wit-bindgen` generates.
#![forbid(unsafe_code)]

pub mod asynchronous;
#[cfg(target_family = "wasm")]
mod bindings;
mod connection;
mod error;
mod export;
mod facts;
mod framing;
mod host;
mod input;
mod outgoing;
mod output;
mod pieces;
mod relay;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use connection::{Connection, Facts};
pub use error::Error;
pub use input::{Input, Ready};
pub use outgoing::Outgoing;
pub use output::Output;
pub use relay::{Relayed, relay};
/// Makes a function the handler of a plugin.
///
/// The function may have any name. It takes the connection and returns `Result<(), E>`, where `E` is anything that implements
/// [`Display`](std::fmt::Display): [`std::io::Error`], [`Error`], `String`. A crate has one handler.
///
/// An `fn` takes a [`Connection`]:
///
/// ```
/// use std::io::{self, Write};
/// use uninterruptible_guest::Connection;
///
/// #[uninterruptible_guest::handler]
/// fn handle_request(mut connection: Connection) -> io::Result<()> {
///     writeln!(connection, "You are {}.", connection.peer_address())
/// }
/// # use uninterruptible_guest::testing::Peer;
/// # fn main() { assert_eq!(Peer::new().meets(handle_request).text(), "You are tcp://127.0.0.1:40312.\n"); }
/// ```
///
/// An `async fn` takes an [`asynchronous::Connection`]:
///
/// ```
/// use std::io;
/// use uninterruptible_guest::asynchronous::Connection;
///
/// #[uninterruptible_guest::handler]
/// async fn handle_request(mut connection: Connection) -> io::Result<()> {
///     let you = connection.peer_address();
///     writeln!(connection, "You are {you}.").await
/// }
/// # use uninterruptible_guest::testing::Peer;
/// # fn main() { assert_eq!(Peer::new().meets_async(handle_request).text(), "You are tcp://127.0.0.1:40312.\n"); }
/// ```
///
/// The function stays what it was, so that tests can call it. What could not be called is refused when it is compiled,
/// natively too, with the culprit and the remedy: another argument, another result, a generic function. This does not
/// compile, since the connection is that of the other kind:
///
/// ```compile_fail
/// #[uninterruptible_guest::handler]
/// async fn handle_request(connection: uninterruptible_guest::Connection) -> std::io::Result<()> {
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// Nor does this, since the error is none:
///
/// ```compile_fail
/// #[uninterruptible_guest::handler]
/// fn handle_request(connection: uninterruptible_guest::Connection) -> Option<()> {
///     Some(())
/// }
/// # fn main() {}
/// ```
pub use uninterruptible_guest_macros::handler;

/// For the code that `#[handler]` writes.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen::StreamReader;

    #[cfg(target_family = "wasm")]
    pub use crate::bindings::{asynchronous as asynchronous_bindings, sync as sync_bindings};
    pub use crate::export::{asynchronous, returns, sync};
}
