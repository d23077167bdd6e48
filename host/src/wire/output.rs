//! The guest's bytes on their way out, and the half-close that ends them.
//!
//! Every write to the socket is here. What the kernel does not take at once is kept, one piece of it, until it does; why a
//! write failed is kept for good.

use super::Wire;
use bytes::Bytes;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use std::{
    io, mem,
    task::{Context, Poll, ready},
};
use tokio::io::Interest;

impl Wire {
    /// Writes what the kernel takes at once and keeps the rest, which [`Self::tend`] sends. No more may be written until
    /// [`Self::try_flush`] says so.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn write(&self, bytes: Bytes) -> io::Result<()> {
        if !self.send_or_keep(bytes)? {
            // The guest may not come back for it before its peer has had it.
            self.changed.notify_waiters();
        }
        Ok(())
    }

    /// Whether the kernel took all of it.
    fn send_or_keep(&self, mut bytes: Bytes) -> io::Result<bool> {
        while !bytes.is_empty() {
            match self.try_write(&bytes)? {
                Some(count) => drop(bytes.split_to(count)),
                None => {
                    self.state().unsent = bytes;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes what the kernel takes at once, keeping nothing; `None` where it takes nothing. Under TLS one piece is kept that was
    /// encrypted already, and `None` is the answer until the kernel has taken that.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let written = {
            let mut state = self.state();
            if let Some(kind) = state.output_failed {
                return Err(kind.into());
            }
            match &mut state.tls {
                None => self
                    .socket
                    .try_io(Interest::WRITABLE, |socket| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?))
                    .inspect(|_| self.moved()),
                Some(session) => self.encrypt(session, bytes),
            }
        };
        match written {
            Ok(count) => Ok(Some(count)),
            Err(error) => self.not_sent(error).map(|()| None),
        }
    }

    /// Nothing where the kernel would not take anything now; otherwise nothing is sent any more.
    fn not_sent(&self, error: io::Error) -> io::Result<()> {
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
            return Ok(());
        }
        {
            let mut state = self.state();
            state.output_failed = Some(error.kind());
            state.unsent = Bytes::new();
        }
        self.changed.notify_waiters();
        Err(error)
    }

    /// Whether everything that was written has been taken by the kernel, after one more attempt.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn try_flush(&self) -> io::Result<bool> {
        let unsent = {
            let mut state = self.state();
            if let Some(kind) = state.output_failed {
                return Err(kind.into());
            }
            mem::take(&mut state.unsent)
        };
        if !self.send_or_keep(unsent)? {
            return Ok(false);
        }
        match self.flush_encrypted() {
            Ok(flushed) => Ok(flushed),
            Err(error) => self.not_sent(error).map(|()| false),
        }
    }

    /// Waits until everything that was written has been taken by the kernel, or the connection broke.
    pub async fn flushed(&self) {
        while let Ok(false) = self.try_flush() {
            match self.socket.writable().await {
                Ok(mut ready) => ready.retain_ready(),
                Err(_) => return std::future::pending().await, // The runtime is shutting down.
            }
        }
    }

    /// Waits until writing would not block, for streams that are polled.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        match ready!(self.socket.poll_write_ready(context)) {
            Ok(mut ready) => {
                ready.retain_ready();
                Poll::Ready(())
            }
            Err(_) => Poll::Pending, // The runtime is shutting down.
        }
    }

    /// No one will write any more: closes the sending side, at once where everything is sent, else [`Self::tend`] does
    /// when it is. Under TLS the peer is told by `close_notify` first, and may go on sending.
    pub fn finish_output(&self) {
        if mem::replace(&mut self.state().output_finished, true) {
            return;
        }
        match self.try_flush() {
            Ok(true) | Err(_) => self.shut_output(),
            Ok(false) => self.changed.notify_waiters(),
        }
    }

    /// The guest has failed in the middle of what it was writing. What there is of it is sent, but under TLS the end is not announced,
    /// so that nobody takes a part for the whole. Without TLS there is no such difference.
    pub fn cut_output(&self) {
        let mut state = self.state();
        state.output_cut = !state.output_finished;
    }

    pub(super) fn shut_output(&self) {
        let mut state = self.state();
        if !mem::replace(&mut state.output_shut, true) {
            state.tls.iter_mut().for_each(|session| session.mute());
            // Where the peer is gone there is nobody to tell.
            shutdown(self.socket.get_ref(), Shutdown::Write).ok();
        }
    }
}
