//! The log, the counters, the reasons why connections fail, and the exit codes.

pub mod connection_id;
pub mod counters;
pub mod digest;
pub mod exit;
pub mod failure;
pub mod generation;
pub mod log;
pub mod secret;
