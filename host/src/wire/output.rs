//! The guest's bytes on their way out, and the half-close that ends them.
//!
//! Every write to the socket is here. Little is held back until the guest waits, computes for long, or ends: what it writes piece
//! by piece is one packet, and so are its last bytes and the end that follows them. What the kernel does not take then is kept,
//! one piece of it, until it does; why a write failed is kept for good.

use super::{CHUNK, Wire};
use bytes::{Buf, Bytes, BytesMut};
use rustix::net::{Shutdown, send, shutdown};
use std::{
    io, mem,
    task::{Context, Poll, ready},
};

/// The most that is held back: what one record of TLS holds, too.
const HELD_BACK: usize = 16 << 10;

impl Wire {
    /// How much may be written by [`Self::write`], which is nothing where there is no room. It holds for one write, also where the
    /// room is gone by then.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn permit(&self) -> io::Result<usize> {
        let room = self.try_room()?;
        let mut state = self.state();
        state.permit = if room { CHUNK.saturating_sub(state.unsent.len()) } else { 0 };
        Ok(state.permit)
    }

    /// Takes the permit, and a new one where there is none.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn take_permit(&self) -> io::Result<usize> {
        if self.state().permit == 0 {
            self.permit()?;
        }
        Ok(mem::take(&mut self.state().permit))
    }

    /// Takes all of it, and keeps what the kernel does not take at once. It must be permitted, or there must be room.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn write(&self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(&bytes)? {
                Some(count) => bytes.advance(count),
                None => {
                    self.keep(BytesMut::from(bytes));
                    // The guest may not come back for it before its peer has had it.
                    self.changed.notify_waiters();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes some of it: all, where that is little enough to be held back, else what the kernel takes at once. `None` where there
    /// is no room for any.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let fits = {
            let state = self.state();
            !state.stuck() && state.unsent.len() + bytes.len() <= HELD_BACK
        };
        if !fits && !self.try_flush()? {
            // The guest may not come back for what it has written before.
            self.changed.notify_waiters();
            return Ok(None);
        }
        if bytes.len() > HELD_BACK {
            return self.send(bytes);
        }
        let mut state = self.state();
        if let Some(kind) = state.output_failed {
            return Err(kind.into());
        }
        state.unsent.extend_from_slice(bytes);
        Ok(Some(bytes.len()))
    }

    /// What the kernel takes at once; `None` where it takes nothing. Under TLS one piece is kept that was encrypted already, and
    /// `None` is the answer until the kernel has taken that.
    fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let sent = {
            let mut state = self.state();
            if let Some(kind) = state.output_failed {
                return Err(kind.into());
            }
            let flags = state.send_flags();
            match &mut state.tls {
                None => self.socket.try_write(|socket| Ok(send(socket, bytes, flags)?)).inspect(|_| self.moved()),
                Some(session) => self.encrypt(session, bytes, flags),
            }
        };
        match sent {
            Ok(count) => Ok(Some(count)),
            Err(error) => {
                self.state().output_lost |= !waits(&error);
                self.not_sent(error).map(|()| None)
            }
        }
    }

    /// Nothing where the kernel would not take anything now; otherwise nothing is sent any more.
    fn not_sent(&self, error: io::Error) -> io::Result<()> {
        if waits(&error) {
            return Ok(());
        }
        {
            let mut state = self.state();
            state.output_failed = Some(error.kind());
            state.unsent = BytesMut::new();
            state.refused = false;
            // What is encrypted goes nowhere either: whoever tends the socket must not try it for ever.
            state.tls.iter_mut().for_each(|session| session.mute());
        }
        self.changed.notify_waiters();
        Err(error)
    }

    /// The kernel takes no more for now.
    fn keep(&self, mut bytes: BytesMut) {
        let mut state = self.state();
        state.refused = true;
        if state.unsent.is_empty() {
            mem::swap(&mut state.unsent, &mut bytes);
        } else {
            state.unsent.extend_from_slice(&bytes);
        }
    }

    /// Whether everything that was written has been taken by the kernel, after one more attempt.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    fn try_flush(&self) -> io::Result<bool> {
        let mut unsent = {
            let mut state = self.state();
            if let Some(kind) = state.output_failed {
                return Err(kind.into());
            }
            state.refused = false;
            mem::take(&mut state.unsent)
        };
        while !unsent.is_empty() {
            match self.send(&unsent)? {
                Some(count) => unsent.advance(count),
                None => {
                    self.keep(unsent);
                    return Ok(false);
                }
            }
        }
        match self.flush_encrypted() {
            Ok(flushed) => Ok(flushed),
            Err(error) => self.not_sent(error).map(|()| false),
        }
    }

    /// Sends what is held back: whoever writes does something else now.
    pub fn release(&self) {
        let held_back = {
            let state = self.state();
            !state.unsent.is_empty() && !state.stuck()
        };
        // Whoever writes next is told of an error.
        if held_back && matches!(self.try_flush(), Ok(false)) {
            self.changed.notify_waiters();
        }
    }

    /// Waits until everything that was written has been taken by the kernel, or the connection broke.
    pub(super) async fn flushed(&self) {
        while let Ok(false) = self.try_flush() {
            self.writable().await;
        }
    }

    /// Whether something can be written: the kernel has taken what it would not take at once, after one more attempt.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn try_room(&self) -> io::Result<bool> {
        let (stuck, failed) = {
            let state = self.state();
            (state.stuck(), state.output_failed)
        };
        match failed {
            Some(kind) => Err(kind.into()),
            None if stuck => self.try_flush(),
            None => Ok(true),
        }
    }

    /// Waits until there is room, or the connection broke.
    pub async fn room(&self) {
        while let Ok(false) = self.try_room() {
            self.writable().await;
        }
    }

    async fn writable(&self) {
        if let Err(error) = self.socket.writable().await {
            // Told at the next attempt.
            self.not_sent(error).ok();
        }
    }

    /// Waits until writing would not block, for streams that are polled.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        if let Err(error) = ready!(self.socket.poll_writable(context)) {
            // Told at the next attempt.
            self.not_sent(error).ok();
        }
        Poll::Ready(())
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

    /// The same where the end of the connection says that all has come, as in HTTP/1.0: the peer gets a reset.
    pub fn reset_output(&self) {
        self.cut_output();
        self.state().output_reset = true;
    }

    pub(super) fn shut_output(&self) {
        let mut state = self.state();
        if !mem::replace(&mut state.output_shut, true) {
            state.tls.iter_mut().for_each(|session| session.mute());
            // Where the peer is gone there is nobody to tell.
            shutdown(self.socket.descriptor(), Shutdown::Write).ok();
        }
    }
}

/// Whether that is no error, but the kernel's word that it takes nothing now.
pub(super) fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
