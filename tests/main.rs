//! Black-box tests: the real binary, real plugins, real sockets. `plugins/build` makes the plugins first.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::let_underscore_must_use,
    unreachable_pub,
    reason = "a test fails by panicking, and says on standard error what it saw"
)]

mod anchor;
mod boot;
mod cache;
mod clients;
mod contract;
mod exhaustion;
mod failures;
mod handoff;
mod harness;
mod isolation;
mod limits;
mod notify;
mod pidfile;
mod player;
mod points;
mod protocol;
mod proxy_protocol;
mod reload;
mod restrict;
mod service;
mod shutdown;
mod signals;
mod start;
mod streams;
mod supervisor;
mod takeover;
mod unix;
