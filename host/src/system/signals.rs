//! Signals in, events out.
//!
//! [`install`] is the first thing that `main` does, because the default action of USR1 and HUP is
//! to end the process. Signals that arrive before the first read are kept. A dedicated thread then
//! passes signals to the `lifecycle`, so that load on the runtime does not delay them. The `anchor`
//! has no threads and reads them itself. This module does not know what a signal *means*.

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

/// A command that an operator gives by a signal.
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

/// The handlers, and the signals that they have caught.
#[derive(Debug)]
pub struct Handlers(SignalDelivery<UnixStream, SignalOnly>);

/// Installs the handlers, then unblocks the signals that the parent process blocked. An anchor
/// blocks them, so that no signal arrives before the handlers. PIPE needs no handler: Rust's
/// runtime ignores it before `main`.
///
/// # Errors
///
/// If the system refuses a handler or a socket pair.
pub fn install() -> io::Result<Handlers> {
    // The handlers are installed one after another. Until the last one is, signals stay pending.
    meaningful().thread_block()?;
    let (reader, writer) = UnixStream::pair()?;
    // The default action of XFSZ is to end the process. With a handler, the write that is too large
    // fails instead, and its error is reported. An ignored CHLD, which a process may inherit, makes
    // the kernel reap children before their status is read.
    let caught = [SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGXFSZ, SIGCHLD];
    let delivery = SignalDelivery::with_pipe(reader, writer, SignalOnly, caught)?;
    // All of them: successors inherit the mask, and should start with an empty one.
    SigSet::all().thread_unblock()?;
    Ok(Handlers(delivery))
}

impl Handlers {
    /// Also catches the end of a child.
    ///
    /// # Errors
    ///
    /// If the system refuses the handler.
    pub fn watch_children(&self) -> io::Result<()> {
        self.0.handle().add_signal(SIGCHLD)
    }

    /// The signals caught since the last call, each once.
    pub fn caught(&mut self) -> impl Iterator<Item = i32> {
        self.0.pending()
    }

    /// Starts the thread that passes signals on.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn deliver(mut self) -> io::Result<Signals> {
        let (sender, receiver) = mpsc::channel(16);
        let deliver = move || {
            loop {
                // It fails only when a signal interrupts it, and a signal is what it waits for.
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
    /// Readable when a signal was caught.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// The signals that this process receives.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// The next signal. Never ends. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await, // The thread cannot end before its receiver does.
        }
    }
}
