//! Starts a host, talks to it, and ends it. A failing test prints all that the host said.

mod host;
mod load;
mod places;
pub mod run;
mod setup;
mod waiting;

pub use crate::connections::{Address, Stream, Transport, connect, connect_from, read_line, read_to_end};
pub use host::Host;
pub use load::Load;
pub use places::{directory, own_addresses, plugin, shared_cache, unix_uri};
pub use run::{cannot, root, seed, skip, skip_unless};
pub use setup::Setup;
pub use waiting::{PATIENCE, pace, wait_for};
