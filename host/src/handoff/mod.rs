//! A hot restart: the exchange between the process that serves and the one that takes over. docs/handoff.md is its
//! specification; this is both sides of it.
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
//! Nothing here decides what the process does: that is the lifecycle's business, which drives both sides.

pub mod adopt;
pub mod channel;
pub mod door;
pub mod draining;
pub mod fault;
pub mod message;
pub mod offer;
pub mod start;
pub mod starter;

pub use channel::Side;
