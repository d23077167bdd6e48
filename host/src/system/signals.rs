//! Signals in, events out.
//!
//! [`install`] is the first thing that `main` does, because the default action of USR1 and HUP is death. What is caught before
//! anybody asks is kept. A thread of its own then passes signals on to the `lifecycle`, so that no load on the runtime delays
//! them; the `anchor`, which has no threads, asks by itself. What a signal *means* is not known here.

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{self, SigSet},
};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};
use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    thread,
};
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

/// The signals that have a meaning for a host.
pub fn meaningful() -> SigSet {
    [signal::SIGTERM, signal::SIGINT, signal::SIGUSR1, signal::SIGHUP].into_iter().collect()
}

/// The handlers, and what they have caught.
#[derive(Debug)]
pub struct Handlers(SignalDelivery<UnixStream, SignalOnly>);

/// Installs the handlers, and lets through what whoever started this process has held back: an anchor does, so that no signal
/// meets a process without handlers. PIPE needs none: Rust's runtime has it ignored before `main`.
///
/// # Errors
///
/// Where the system refuses a handler or a socket pair.
pub fn install() -> io::Result<Handlers> {
    // Handlers are installed one after the other: until the last one is, whatever comes waits.
    meaningful().thread_block()?;
    let (reader, writer) = UnixStream::pair()?;
    // XFSZ has death as its default; caught, the write that was too large fails instead, and says so.
    // An ignored CHLD, which may be inherited, would have the kernel reap children before anyone has asked for their status.
    let caught = [SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGXFSZ, SIGCHLD];
    let delivery = SignalDelivery::with_pipe(reader, writer, SignalOnly, caught)?;
    // All of them: the mask is inherited by successors, who should start without one.
    SigSet::all().thread_unblock()?;
    Ok(Handlers(delivery))
}

impl Handlers {
    /// Catches the end of a child, too.
    ///
    /// # Errors
    ///
    /// Where the system refuses the handler.
    pub fn watch_children(&self) -> io::Result<()> {
        self.0.handle().add_signal(SIGCHLD)
    }

    /// The numbers of all signals that have come since it was asked last, each once.
    pub fn caught(&mut self) -> impl Iterator<Item = i32> {
        self.0.pending()
    }

    /// Starts the thread that passes signals on.
    ///
    /// # Errors
    ///
    /// Where the system refuses a thread.
    pub fn deliver(mut self) -> io::Result<Signals> {
        let (sender, receiver) = mpsc::channel(16);
        let deliver = move || {
            loop {
                // It fails only when a signal interrupts it, which is what it waits for.
                poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).ok();
                for number in self.caught() {
                    let signal = match number {
                        SIGUSR1 => Signal::Restart,
                        SIGHUP => Signal::Reload,
                        SIGTERM | SIGINT => Signal::Terminate,
                        _ => continue,
                    };
                    if sender.blocking_send(signal).is_err() {
                        return; // The lifecycle has ended, and the process with it.
                    }
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(deliver)?;
        Ok(Signals(receiver))
    }
}

impl AsFd for Handlers {
    /// Readable when something was caught.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// The stream of signals that the process gets.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// The next signal. Never ends, and may be dropped and called again.
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await, // The thread cannot end before its receiver does.
        }
    }
}
