//! The kernel: the fence around `unsafe`, signals, processes, identity, and the machine's memory.

#[cfg(test)]
pub(crate) mod dice;
pub(crate) mod kernel;
pub(crate) mod machine;
pub mod privilege;
pub mod process;
pub mod signals;
