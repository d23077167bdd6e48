//! TLS between the guest's bytes and the socket: the handshake, and each direction's path through
//! the session.
//!
//! A plain connection has no session, and pays one check for that.

use super::{
    State, Wire,
    input::InputEnd,
    output::waits,
    tls::{HandshakeError, Session, Step},
};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use std::io::{self, IoSlice, Read, Write};

impl Wire {
    /// Performs the handshake of a session. Afterwards everything read and written is data within
    /// it.
    ///
    /// # Errors
    ///
    /// If the handshake fails. [`Self::conclude`] then sends the alert, if there is one.
    pub async fn secure(&self, session: Session) -> Result<(), HandshakeError> {
        let mut session = Box::new(session);
        let shaken = loop {
            let ready = match session.handshake(&mut Transport(self, SendFlags::NOSIGNAL)) {
                Ok(Step::Done) => break Ok(()),
                Ok(Step::Readable) => self.socket.readable().await,
                Ok(Step::Writable) => self.socket.writable().await,
                Err(error) => break Err(error),
            };
            if let Err(error) = ready {
                break Err(HandshakeError::Broken(error));
            }
        };
        self.state().tls = Some(session);
        shaken
    }

    /// Reads facts about the peer from the TLS session; `None` without TLS.
    pub fn session<T>(&self, ask: impl FnOnce(&Session) -> T) -> Option<T> {
        self.state().tls.as_deref().map(ask)
    }

    /// Passes the next data to `take`, which returns the number of bytes that it used. 0 after the
    /// peer's `close_notify`.
    pub(super) fn decrypt(&self, session: &mut Session, take: impl FnOnce(&[u8]) -> usize) -> io::Result<usize> {
        let read = session.read(&mut Transport(self, SendFlags::NOSIGNAL), take);
        if session.has_unsent() {
            // TLS has an answer for the peer, which `tend` has to send.
            self.changed.notify_waiters();
        }
        read?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    pub(super) fn encrypt(&self, session: &mut Session, data: &[u8], flags: SendFlags) -> io::Result<usize> {
        let was_stuck = session.has_unsent();
        let written = session.write(&mut Transport(self, flags), data);
        // Once, because `tend` comes here too.
        if session.has_unsent() && !was_stuck {
            self.changed.notify_waiters();
        }
        written?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Whether no encrypted bytes are left to send. After the last data this includes
    /// `close_notify`.
    pub(super) fn flush_encrypted(&self) -> io::Result<bool> {
        let mut state = self.state();
        let finished = state.output_finished && !state.output_cut;
        let flags = state.send_flags();
        let Some(session) = &mut state.tls else { return Ok(true) };
        let data = session.has_unsent();
        if finished {
            session.finish();
        }
        let flushed = session.flush(&mut Transport(self, flags));
        state.output_lost |= data && flushed.as_ref().is_err_and(|error| !waits(error));
        flushed
    }

    /// Whether data or an end can be read without waiting; `None` without TLS.
    pub(super) fn has_data(&self) -> Option<bool> {
        let read = {
            let mut state = self.state();
            state.tls.as_ref()?;
            if state.input_end.is_some() {
                return Some(true);
            }
            state.tls.as_deref_mut().map(|session| self.decrypt(session, |_| 0))?
        };
        match read {
            Ok(_) => Some(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(false),
            // Reported once.
            Err(error) => {
                self.input_ended(InputEnd::Broken(error.kind()));
                Some(true)
            }
        }
    }

    /// Drops the session: input is only discarded from here on, and needs no decryption. A TLS
    /// error is not a reason to close at once: unread bytes would cause a reset, and the peer might
    /// miss the alert.
    pub(super) fn forget_session(&self) {
        let mut state = self.state();
        if state.tls.take().is_some() && matches!(state.input_end, Some(InputEnd::Broken(_))) {
            state.input_end = None;
        }
    }
}

impl State {
    /// Whether the kernel has not taken bytes that it was asked to take.
    pub(super) fn stuck(&self) -> bool {
        self.refused || self.tls.as_ref().is_some_and(|session| session.has_unsent())
    }

    /// Before the end the last bytes are sent with MSG_MORE, so that they go out with it.
    pub(super) fn send_flags(&self) -> SendFlags {
        if self.output_finished { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL }
    }
}

/// The socket as the session sees it, and the flags for sending. It never waits.
struct Transport<'a>(&'a Wire, SendFlags);

impl Read for Transport<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self(wire, _) = self;
        wire.socket.try_read(|socket| Ok(recv(socket, buffer, RecvFlags::empty())?.0))
    }
}

impl Write for Transport<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(wire, flags) = self;
        let count = wire.socket.try_write(|socket| Ok(send(socket, bytes, *flags)?))?;
        wire.moved();
        Ok(count)
    }

    /// All records at once.
    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        let Self(wire, flags) = self;
        let mut nothing = SendAncillaryBuffer::default();
        let count = wire.socket.try_write(|socket| Ok(sendmsg(socket, records, &mut nothing, *flags)?))?;
        wire.moved();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
