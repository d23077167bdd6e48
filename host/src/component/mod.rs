//! A plugin's file: from bytes to something that can be instantiated, and what its guests are
//! granted.

pub(crate) mod backtrace;
pub(crate) mod cache;
pub(crate) mod code;
pub(crate) mod contract;
pub(crate) mod engine;
pub(crate) mod file;
pub mod grants;
pub(crate) mod interfaces;
mod kind;
pub(crate) mod loaded;
pub(crate) mod lowering;
pub(crate) mod mappings;
mod outline;
pub(crate) mod places;
pub(crate) mod pool;
pub(crate) mod problem;
mod reading;
pub(crate) mod sandboxed_dir;
mod source;
mod survey;

pub use grants::Grants;
pub use kind::{Generation, Kind};
pub use mappings::Shortage;
pub use problem::{LoadError, Problem};
pub use source::{ComponentLayer, GuestStart, Limits, Source, Wasi03};
pub use survey::{Access, Import, Memories, Survey};
