//! Plugins and their guests: what is compiled, linked and decided once for a plugin, and what is made anew for each
//! connection.
//!
//! ```text
//! once:        contract ─► grants ─► cache ─► engine ─► plugin (linked, tried)
//! connection:  plugin.serve ─► state (store data) ─► streams ─► wire
//!                 └► meter (CPU time)   ├► memory, stdio, facts
//!                                       └► files ─► beneath, sockets: what was granted, within places
//! ```

mod ahead;
mod backtrace;
mod beneath;
mod bindings;
mod cache;
mod concurrent_files;
mod concurrent_streams;
mod contract;
mod digest;
mod engine;
mod facts;
mod failure;
mod files;
pub mod grants;
mod interfaces;
mod kind;
mod late_start;
mod memory;
mod meter;
mod places;
mod plugin;
mod sockets;
mod state;
mod stdio;
mod streams;
mod survey;

pub use ahead::{Compiled, compile};
pub use digest::Digest;
pub use facts::{ConnectionId, Facts};
pub use failure::{Failure, Fault, Reason};
pub use grants::Grants;
pub use kind::{Generation, Kind};
pub use plugin::{LoadError, Plugin, Problem, Source};
pub use survey::{Access, Import, Memories, Survey};
