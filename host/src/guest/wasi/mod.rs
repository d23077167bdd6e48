//! The granted parts of WASI beside the connection: files, sockets and outgoing requests.

pub(super) mod concurrent_files;
pub(super) mod entries;
pub(super) mod files;
pub(crate) mod idle;
pub(crate) mod outgoing;
pub(super) mod sockets;
pub(super) mod upstream;
