//! The kernel: the fence around `unsafe`, signals, processes, identity, and the machine's memory.

pub(crate) mod kernel;
pub(crate) mod machine;
pub mod privilege;
pub mod process;
#[cfg(test)]
pub(crate) mod random;
pub mod signals;
