//! Black-box tests: the real binary, real plugins, real sockets. `plugins/build` makes the plugins
//! first.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::let_underscore_must_use,
    unreachable_pub,
    reason = "a test fails by panicking, and says on standard error what it saw"
)]

mod activation;
mod admin;
mod admin_commands;
mod anchor;
mod binding;
mod boot;
mod cache;
mod certificates;
mod client_certificates;
mod clients;
mod commands;
mod configuration;
mod connections;
mod contract;
mod documentation;
mod documents;
mod examples;
mod exhaustion;
mod failures;
mod frames;
mod generated;
mod granted_connections;
mod granted_files;
mod grants;
mod handoff;
mod harness;
mod http;
mod http_clients;
mod http_corpus;
mod http_drain;
mod http_failures;
mod http_handlers;
mod http_limits;
mod http_outgoing;
mod http_unfinished;
mod inspect;
mod invariants;
mod isolation;
mod kv;
mod limits;
mod log_file;
mod modules;
mod notify;
mod openssl;
mod operator;
mod pidfile;
mod player;
mod points;
mod privilege;
mod project;
mod protocol;
mod proxy_protocol;
#[path = "../host/src/system/random.rs"]
mod random;
mod raw_calls;
mod reach;
mod records;
mod reload;
mod restrict;
mod room;
mod rooms;
mod secrets;
mod secure;
mod service;
mod shutdown;
mod signals;
mod sources;
mod start;
mod static_files;
mod streams;
mod supervisor;
mod takeover;
mod tcp_proxy;
mod tls;
mod tls_clients;
mod tls_files;
mod tls_tickets;
mod totals;
mod unix;
mod watch;
