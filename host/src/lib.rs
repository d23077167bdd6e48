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
//! Data goes one way, left to right and down; what an earlier part has parsed (`config`'s limits,
//! `bind`'s addresses) the later ones use as types. The binary is all that is meant to be used:
//! this library exists so that the parts can be tested and documented.

pub mod admin;
pub mod command;
pub mod component;
pub mod config;
pub mod connection;
#[cfg(any(test, fuzzing))]
#[path = "../../tests/fuzz/promises.rs"]
pub mod fuzz;
pub mod guest;
pub mod handoff;
pub mod lifecycle;
pub mod net;
pub mod record;
pub mod system;
pub mod wire;
