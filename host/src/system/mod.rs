//! The kernel: the fence around `unsafe`, signals, processes, identity, and what the machine has.

#[cfg(test)]
pub(crate) mod dice;
pub(crate) mod kernel;
pub(crate) mod machine;
pub mod privilege;
pub mod process;
pub mod signals;
