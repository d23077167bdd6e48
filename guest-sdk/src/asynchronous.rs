//! Plugins that are an `async fn`: the 0.3 contract, with the component model's own streams.
//!
//! ```
//! use std::io;
//! use uninterruptible_guest::asynchronous::Connection;
//!
//! #[uninterruptible_guest::handler]
//! async fn handle_request(mut connection: Connection) -> io::Result<()> {
//!     let mut name = String::new();
//!     connection.read_line(&mut name).await?;
//!     writeln!(connection, "Hello {}!", name.trim()).await
//! }
//! # fn main() {}
//! ```
//!
//! An async handler can wait for several things at once: for both directions, for input and a timer, for two peers. One that
//! does one thing after another is better off as an `fn`, which is smaller, and runs on the generation of WASI that
//! the host recommends.
//!
//! The handler runs until it returns; only then, or when it [finishes](Connection::finish) or drops its output, does the
//! peer read an end. After both the host cuts it off: what must last, a file for example, comes before. There is
//! no runtime to start and nothing to spawn on; combine futures with what the `futures` crate has for that. A
//! handler may wait only for what comes from the host.

mod connection;
mod input;
mod output;
#[cfg(any(target_family = "wasm", test))]
pub(crate) mod task;

use std::mem::ManuallyDrop;
use std::rc::Rc;

pub use connection::{Connection, Facts};
pub use input::Input;
pub use output::Output;

use crate::export::Outcome;
use crate::host::asynchronous as host;

/// Runs a handler on a connection to its end, and tells the host of an error.
pub(crate) async fn serve<R: Outcome>(
    handler: impl AsyncFnOnce(Connection) -> R,
    resource: host::Connection,
    input: host::StreamReader,
    output: host::StreamWriter,
) {
    let resource = Rc::new(ManuallyDrop::new(resource));
    let connection = Connection::new(Rc::clone(&resource), input, output);
    if let Err(message) = handler(connection).await.message() {
        resource.fail(&message);
    }
}
