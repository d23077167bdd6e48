//! A hot restart: the exchange between the process that serves and the one that takes over.
//! docs/reference/handoff-protocol.md is the specification of both sides.
//!
//! ```text
//!  predecessor (offer)                                  successor (adopt)
//!      start ──────────────────────────────────────────► configuration, plugin
//!      ◄──────────────────────────────────────── hello ──
//!      ── offer 1 of n … n of n ────────────────────────► listeners matched, new ones bound
//!      ◄───────────────────────────────────── prepared ──
//!      ── commit ───────────────────────────────────────►
//!      stops accepting ◄─────────────────────── serving ── accepts
//!      ── settled, when the window is over ─────────────► owns paths and pidfile
//! ```
//!
//! Nothing here decides what the process does: the lifecycle does that, and drives both sides.

pub mod adopt;
pub mod channel;
pub mod draining;
pub mod fault;
pub mod handoff_socket;
pub mod message;
pub mod offer;
pub mod start;
pub mod starter;

pub use channel::Side;
