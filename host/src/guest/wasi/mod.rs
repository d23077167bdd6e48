//! What WASI offers a guest beside its connection: files, sockets and requests of its own, as far as they are granted.

pub(super) mod concurrent_files;
pub(super) mod entries;
pub(super) mod files;
pub(crate) mod idle;
pub(crate) mod outgoing;
pub(super) mod sockets;
pub(super) mod upstream;
