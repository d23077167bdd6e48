//! TLS between the guest's bytes and the socket: the handshake, and each direction's way through the session.
//!
//! A plain connection has no session, and pays for one with a look at whether it has.

use super::{
    State, Wire,
    input::InputEnd,
    output::waits,
    tls::{HandshakeError, Session, Step},
};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use std::io::{self, IoSlice, Read, Write};

impl Wire {
    /// Goes through the handshake of a session. Afterwards all that is read and written is data within it.
    ///
    /// # Errors
    ///
    /// Where there will be none. What there is to tell the peer is sent by [`Self::conclude`].
    pub async fn secure(&self, session: Session) -> Result<(), HandshakeError> {
        let mut session = Box::new(session);
        let shaken = loop {
            let ready = match session.shake(&mut Transport(self, SendFlags::NOSIGNAL)) {
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

    /// What is known of the peer by TLS, where there is any.
    pub fn session<T>(&self, ask: impl FnOnce(&Session) -> T) -> Option<T> {
        self.state().tls.as_deref().map(ask)
    }

    /// Has `take` copy what it wants of the next data. 0 is the peer's word that it was the last.
    pub(super) fn decrypt(&self, session: &mut Session, take: impl FnOnce(&[u8]) -> usize) -> io::Result<usize> {
        let read = session.read(&mut Transport(self, SendFlags::NOSIGNAL), take);
        if session.has_unsent() {
            // An answer to the peer that its reader has no part in.
            self.changed.notify_waiters();
        }
        read?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    pub(super) fn encrypt(&self, session: &mut Session, data: &[u8], flags: SendFlags) -> io::Result<usize> {
        let was_stuck = session.has_unsent();
        let written = session.write(&mut Transport(self, flags), data);
        // Once: whoever tends the socket comes here too.
        if session.has_unsent() && !was_stuck {
            self.changed.notify_waiters();
        }
        written?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Whether nothing encrypted is left to send; after the last data that includes the word that it was the last.
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

    /// Whether there is data to read, or an end, without waiting; `None` where there is no TLS.
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
            // Told once.
            Err(error) => {
                self.input_ended(InputEnd::Broken(error.kind()));
                Some(true)
            }
        }
    }

    /// What still comes is wanted by nobody, and need not be decrypted to be discarded. What broke TLS is no reason to close at once:
    /// bytes that are left unread would make a reset of it, and the peer might never see the alert.
    pub(super) fn forget_session(&self) {
        let mut state = self.state();
        if state.tls.take().is_some() && matches!(state.input_end, Some(InputEnd::Broken(_))) {
            state.input_end = None;
        }
    }
}

impl State {
    /// Whether the kernel has not taken what it was asked to take.
    pub(super) fn stuck(&self) -> bool {
        self.refused || self.tls.as_ref().is_some_and(|session| session.has_unsent())
    }

    /// The last bytes wait for the end, which follows as soon as all of them are sent, and go out with it.
    pub(super) fn send_flags(&self) -> SendFlags {
        if self.output_finished { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL }
    }
}

/// The socket as a session sees it, and how what it sends is sent. It never waits.
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
