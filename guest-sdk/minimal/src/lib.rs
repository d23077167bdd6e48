//! Plugins for `uninterruptible-host` that are served faster, since they ask for less of WASI.
//!
//! Each connection has an instance of its plugin, and each function that a component imports takes time in each of them, called or
//! not. Rust's standard library can always print the message of a panic, for which its C library imports a dozen functions:
//! standard input, terminals, the end of the process. A plugin that names this crate has three instead:
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
//! # What it takes away
//!
//! **Writing files**, and whatever else the standard library writes through a descriptor: [`std::net`]'s `write_vectored` too. Whoever
//! does that panics, with a message that says why. It is for plugins that serve connections by this SDK, and not for programs, whose
//! standard output is the connection.
//!
//! All else is as it was: `println!`, `eprintln!` and the messages of panics go to the host's log, [`std::env::var`] finds what the
//! operator has granted, files can be read. Clocks, random numbers and connections that the guest makes by the SDK's `Outgoing` cost
//! what they did, and only where they are used.
//!
//! # How
//!
//! It defines the three functions of the C library that the standard library calls for that, `write`, `writev` and `getenv`, so
//! that the linker does not look for them there. It does so for `wasm32-wasip2` alone; for any other target it is empty, and a
//! plugin is then what it is without it.

#[cfg(all(target_os = "wasi", target_env = "p2"))]
mod descriptors;
