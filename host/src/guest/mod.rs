//! Plugins and their guests: what is compiled, linked and decided once for a plugin, and what is made anew for each
//! connection.
//!
//! ```text
//! once:        grants ─► file ─► contract, cache ─► pool (engine) ─► plugin (linked, tried)
//! connection:  plugin.guest ─► state (store data) ─► streams ─► wire
//!                 ├► meter (CPU time)   ├► memory, stdio, facts
//!                 └► background         └► files ─► beneath, sockets: what was granted, within places
//! ```

mod ahead;
mod background;
mod backtrace;
mod beneath;
mod bindings;
pub(crate) mod cache;
mod code;
mod command;
mod concurrent_files;
mod concurrent_streams;
pub(crate) mod contract;
mod digest;
mod engine;
mod entries;
mod exchange;
mod facts;
mod failure;
mod file;
mod files;
pub mod grants;
mod idle;
mod interfaces;
mod judgement;
mod kind;
mod late_start;
mod loaded;
mod machine;
mod mappings;
mod memory;
mod meter;
mod outgoing;
mod outline;
mod places;
mod plugin;
mod pool;
mod problem;
mod program;
mod reading;
mod resources;
mod sockets;
mod state;
mod stdio;
mod streams;
mod survey;
mod ucspi;
mod upstream;

pub use ahead::{Compiled, compile};
pub use digest::Digest;
pub use exchange::{Exchange, Taken, Verdict};
pub use facts::{ConnectionId, Facts};
pub use failure::{Failure, Fault, Reason};
pub use grants::Grants;
pub use kind::{Generation, Kind};
pub use mappings::Shortage;
pub(crate) use memory::mebibytes;
pub use plugin::{About, Plugin, Source};
pub use problem::{LoadError, Problem};
pub use survey::{Access, Import, Memories, Survey};
