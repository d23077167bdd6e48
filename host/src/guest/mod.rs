//! Guests: an instance of a plugin at work, one for each connection.
//!
//! ```text
//! connection:  plugin.guest ─► state (store data) ─► streams ─► wire
//!                 ├► meter (CPU time)   ├► memory, stdio, facts
//!                 └► background         └► files, sockets: the grants, within places
//! ```

mod ahead;
mod background;
mod bindings;
mod command;
mod exchange;
pub(crate) mod io;
mod late_start;
mod link;
mod lowered;
mod memory;
mod meter;
mod outcome;
mod plugin;
pub(crate) mod program;
mod resources;
pub(crate) mod state;
pub(crate) mod wasi;

pub use ahead::{Compiled, compile};
pub use exchange::{Exchange, Taken, Verdict};
pub use io::Facts;
pub(crate) use memory::mebibytes;
pub use plugin::{About, Plugin};
