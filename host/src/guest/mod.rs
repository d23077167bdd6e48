//! Plugins and their guests: what is compiled, linked and decided once for a plugin, and what is made anew for each
//! connection.
//!
//! ```text
//! once:        contract ─► cache ─► engine ─► plugin (linked, tried)
//! connection:  plugin.serve ─► state (store data) ─► streams ─► wire
//!                 └► meter (CPU time)   └► memory, stdio, facts
//! ```

mod bindings;
mod cache;
mod concurrent_streams;
mod contract;
mod engine;
mod facts;
mod failure;
mod late_start;
mod memory;
mod meter;
mod plugin;
mod state;
mod stdio;
mod streams;

pub use facts::{ConnectionId, Facts};
pub use failure::{Failure, Fault, Reason};
pub use plugin::{LoadError, Plugin, Source};
