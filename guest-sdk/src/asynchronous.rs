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
//! An async handler can wait for several things at once: for both directions, for input and a
//! timer, for two peers. A handler that does one thing after another should be an `fn`: that is
//! smaller, and uses the generation of WASI that the host recommends.
//!
//! The handler runs until it returns. The peer reads an end only then, or when the handler
//! [finishes](Connection::finish) or drops its output. After its return the host ends it, so it
//! must finish lasting work, such as writing a file, before. There is no runtime to start and no
//! executor to spawn on: combine futures with the `futures` crate. A handler may wait only for
//! events from the host.

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

use crate::host::asynchronous as host;
use crate::outcome::Outcome;

/// Runs a handler on a connection to its end, and reports its error to the host.
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
