//! The guest's bytes on their way out, and the half-close that ends them.
//!
//! Every write to the socket is here. Output is held back until the guest waits, computes for long,
//! or ends, up to a small amount: pieces that the guest writes one by one become one packet, and
//! its last bytes go out with the end. Output that the kernel does not take is kept, up to one
//! chunk. The reason why a write failed is kept for good.

use super::{CHUNK, Wire};
use bytes::{Buf, Bytes, BytesMut};
use rustix::net::{Shutdown, send, shutdown};
use std::{
    io, mem,
    task::{Context, Poll, ready},
};

/// The most bytes that are held back: the capacity of one TLS record.
const HELD_BACK: usize = 16 << 10;

impl Wire {
    /// The number of bytes that [`Self::write`] may take; 0 if there is no room. Valid for one
    /// write, even if the room is gone by then.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub fn permit(&self) -> io::Result<usize> {
        let room = self.try_room()?;
        let mut state = self.state();
        state.permit = if room { CHUNK.saturating_sub(state.unsent.len()) } else { 0 };
        Ok(state.permit)
    }

    /// Consumes the permit, or a new one if there is none.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub fn take_permit(&self) -> io::Result<usize> {
        if self.state().permit == 0 {
            self.permit()?;
        }
        Ok(mem::take(&mut self.state().permit))
    }

    /// Takes all bytes, and keeps those that the kernel does not take at once. The caller needs a
    /// permit, or room.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub fn write(&self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(&bytes)? {
                Some(count) => bytes.advance(count),
                None => {
                    self.keep(BytesMut::from(bytes));
                    // The guest may not write again before its peer has received this.
                    self.changed.notify_waiters();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes some bytes: all, if they are few enough to be held back, else those that the kernel
    /// takes at once. `None` if there is no room.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let fits = {
            let state = self.state();
            !state.stuck() && state.unsent.len() + bytes.len() <= HELD_BACK
        };
        if !fits && !self.try_flush()? {
            // The guest may not come back for its earlier bytes.
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

    /// Sends the bytes that the kernel takes at once; `None` if it takes none. Under TLS one
    /// encrypted piece is kept, and the result is `None` until the kernel has taken it.
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

    /// Does nothing if the kernel cannot take more now. After any other error, nothing more is
    /// sent.
    fn not_sent(&self, error: io::Error) -> io::Result<()> {
        if waits(&error) {
            return Ok(());
        }
        {
            let mut state = self.state();
            state.output_failed = Some(error.kind());
            state.unsent = BytesMut::new();
            state.refused = false;
            // Encrypted bytes are dropped too: `tend` must not retry them for ever.
            state.tls.iter_mut().for_each(|session| session.mute());
        }
        self.changed.notify_waiters();
        Err(error)
    }

    /// Keeps the bytes that the kernel does not take now.
    fn keep(&self, mut bytes: BytesMut) {
        let mut state = self.state();
        state.refused = true;
        if state.unsent.is_empty() {
            mem::swap(&mut state.unsent, &mut bytes);
        } else {
            state.unsent.extend_from_slice(&bytes);
        }
    }

    /// Whether the kernel has taken everything that was written, after one more attempt.
    ///
    /// # Errors
    ///
    /// If the connection broke.
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

    /// Sends the output held back, because the guest does something other than writing now.
    pub fn release(&self) {
        let held_back = {
            let state = self.state();
            !state.unsent.is_empty() && !state.stuck()
        };
        // The next write reports an error.
        if held_back && matches!(self.try_flush(), Ok(false)) {
            self.changed.notify_waiters();
        }
    }

    /// Waits until the kernel has taken everything that was written, or the connection broke.
    pub(super) async fn flushed(&self) {
        while let Ok(false) = self.try_flush() {
            self.writable().await;
        }
    }

    /// Whether there is room to write, after one more attempt to send kept bytes.
    ///
    /// # Errors
    ///
    /// If the connection broke.
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
            // The next attempt reports the error.
            self.not_sent(error).ok();
        }
    }

    /// Waits until writing would not block, for streams that are polled.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        if let Err(error) = ready!(self.socket.poll_writable(context)) {
            // The next attempt reports the error.
            self.not_sent(error).ok();
        }
        Poll::Ready(())
    }

    /// Ends the output: closes the sending side at once if everything is sent, else [`Self::tend`]
    /// closes it later. Under TLS the peer first gets `close_notify`, and may go on sending.
    pub fn finish_output(&self) {
        if mem::replace(&mut self.state().output_finished, true) {
            return;
        }
        match self.try_flush() {
            Ok(true) | Err(_) => self.shut_output(),
            Ok(false) => self.changed.notify_waiters(),
        }
    }

    /// The guest has failed in the middle of its output. The bytes so far are sent, but under TLS
    /// the end is not announced, so that the peer does not take a part for the whole. Without TLS
    /// there is no such difference.
    pub fn cut_output(&self) {
        let mut state = self.state();
        state.output_cut = !state.output_finished;
    }

    /// As [`Self::cut_output`], for a protocol in which the end marks a complete answer, such as
    /// HTTP/1.0: the peer gets a reset.
    pub fn reset_output(&self) {
        self.cut_output();
        self.state().output_reset = true;
    }

    pub(super) fn shut_output(&self) {
        let mut state = self.state();
        if !mem::replace(&mut state.output_shut, true) {
            state.tls.iter_mut().for_each(|session| session.mute());
            // Fails if the peer is gone, which needs no report.
            shutdown(self.socket.descriptor(), Shutdown::Write).ok();
        }
    }
}

/// Whether the error only says that the kernel takes nothing now.
pub(super) fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
