//! A native server that answers each connection with a fresh WebAssembly guest.
//!
//! ```text
//!            what was typed   what was meant    where it listens
//!  process ──► cli ──────────► config ─────────► bind ──────────┐
//!     │                          │                              ▼
//!     └► signals ─► lifecycle ◄──┴─► guest (plugin: compiled,  accept ── counts, then spawns
//!                   the one state     cached, linked once)      │
//!                   machine             │                       ▼
//!                                       └────────────────────► connection ─► wire ◄─► peer
//!                                                               │ │            ▲
//!                                          handlers, programs:  │ └► guest ────┤ streams
//!                                          requests:            └► http ───────┘ heads, bodies
//!                                                                   └► guest     of each request
//! ```
//!
//! Data goes one way, left to right and down; what an earlier part has parsed (`config`'s limits, `bind`'s addresses) the later
//! ones use as types. The binary is all that is meant to be used: this library exists so that the parts can be tested and
//! documented.

pub mod accept;
pub mod admin;
pub mod admission;
pub mod anchor;
pub mod bind;
pub mod check;
pub mod cli;
pub mod command;
pub mod config;
pub mod connection;
pub mod counters;
#[cfg(test)]
mod dice;
pub mod drain;
pub mod exit;
pub mod fault;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod guest;
pub mod handoff;
mod http;
mod inspect;
pub mod lifecycle;
pub mod log;
pub mod notify;
pub mod pidfile;
pub mod privilege;
pub mod project;
pub mod proxy_header;
pub mod quota;
pub mod restrict;
pub mod secret;
pub mod service;
pub mod signals;
mod sys;
pub mod tls;
pub mod watch;
pub mod wire;
