//! Makes plugins for `uninterruptible-host` faster, because they import less of WASI.
//!
//! Each connection has its own instance of the plugin. Each function that a component imports takes
//! time in each instance, whether it is called or not. Rust's standard library can always print the
//! message of a panic, and for that its C library imports a dozen functions: standard input,
//! terminals, process exit. A plugin that names this crate imports three instead:
//!
//! ```toml
//! [dependencies]
//! uninterruptible-guest = "0.1"
//! uninterruptible-guest-minimal = "0.1"
//! ```
//!
//! ```
//! use uninterruptible_guest_minimal as _;
//! ```
//!
//! # What it removes
//!
//! **Writing files**, and everything else that the standard library writes through a descriptor,
//! including `write_vectored` of [`std::net`]. These calls panic with a message that says why. The
//! crate is for plugins that serve connections with this SDK, and not for programs, whose standard
//! output is the connection.
//!
//! Everything else stays: `println!`, `eprintln!` and panic messages go to the host's log,
//! [`std::env::var`] reads granted variables, and files can be read. Clocks, random numbers and
//! connections by the SDK's `Outgoing` cost the same as before, and only if they are used.
//!
//! # How it works
//!
//! It defines the three C functions that the standard library calls for this, `write`, `writev` and
//! `getenv`, so that the linker does not take them from the C library. It does so only for
//! `wasm32-wasip2`. For other targets it is empty and changes nothing.

#[cfg(all(target_os = "wasi", target_env = "p2"))]
mod descriptors;
