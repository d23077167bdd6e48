//! Signals in, events out.
//!
//! [`install`] is the first thing that `main` does, because the default action of USR1 and HUP is death. A thread of its
//! own waits for signals and passes them on, so that no load on the runtime delays them. What a signal *means* is not
//! known here: that is the `lifecycle`'s business.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use std::{io, thread};
use tokio::sync::mpsc;

/// What an operator asked for by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: shut down gracefully.
    Terminate,
    /// USR1: hot restart.
    Restart,
    /// HUP: reload in place.
    Reload,
}

/// The stream of signals that the process gets.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

/// Installs the handlers. PIPE needs none: Rust's runtime has it ignored before `main`.
///
/// # Errors
///
/// Where the system refuses a handler, a pipe or a thread.
pub fn install() -> io::Result<Signals> {
    let mut source = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGXFSZ])?;
    let (sender, receiver) = mpsc::channel(16);
    thread::Builder::new().name("signals".into()).spawn(move || {
        for number in source.forever() {
            let signal = match number {
                SIGUSR1 => Signal::Restart,
                SIGHUP => Signal::Reload,
                // Its default is death; caught, the write that was too large fails instead, and says so.
                SIGXFSZ => continue,
                _ => Signal::Terminate,
            };
            if sender.blocking_send(signal).is_err() {
                break; // The lifecycle has ended, and the process with it.
            }
        }
    })?;
    Ok(Signals(receiver))
}

impl Signals {
    /// The next signal. Never ends, and may be dropped and called again.
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await, // The thread cannot end before its receiver does.
        }
    }
}
