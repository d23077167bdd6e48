//! The TLS of one connection, without its socket: handshake, records, alerts, and facts about the
//! peer.
//!
//! Nothing is read before it is wanted, and nothing is encrypted before the previous bytes have
//! gone out, so that back-pressure works as without TLS. The library limits traffic that carries no
//! data (empty records, key updates, warnings).

use super::{
    clients::{self, Clients},
    objection::NONE_SHOWN,
};
use crate::wire::CHUNK;
use rustls::{
    CommonState, HandshakeKind, ProtocolVersion, ServerConnection,
    pki_types::{CertificateDer, UnixTime},
};
use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    sync::Arc,
};

/// TLS between the plaintext of a connection and its socket.
pub struct Session {
    connection: ServerConnection,
    /// The authorities of client certificates, if clients have to show one.
    clients: Option<Arc<Clients>>,
    /// The time of the handshake, at which certificates had to be valid.
    begun: UnixTime,
    /// Nothing may be sent any more.
    mute: bool,
}

/// What a handshake waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is done.
    Done,
    /// Bytes from the peer.
    Readable,
    /// Room for bytes to the peer.
    Writable,
}

/// The reason why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The two sides do not agree, or the peer does not speak TLS.
    #[error("TLS handshake: {0}")]
    Refused(#[from] rustls::Error),
    /// The client's certificate is missing or rejected. The text contains names that the client has
    /// chosen.
    #[error("TLS handshake: {0}")]
    Certificate(String),
    /// The peer has closed its side.
    #[error("TLS handshake: the peer closed the connection before it finished")]
    Left,
    /// The transport broke.
    #[error("TLS handshake: {0}")]
    Broken(io::Error),
}

impl Session {
    pub(super) fn new(mut connection: ServerConnection, clients: Option<Arc<Clients>>) -> Self {
        connection.set_buffer_limit(Some(CHUNK));
        Self { connection, clients, begun: UnixTime::now(), mute: false }
    }

    /// Advances the handshake as far as possible without waiting.
    ///
    /// # Errors
    ///
    /// If the handshake fails. The alert has been sent, if there was room.
    pub fn handshake(&mut self, transport: &mut (impl Read + Write)) -> Result<Step, HandshakeError> {
        loop {
            let sent = self.flush(transport).map_err(HandshakeError::Broken)?;
            if !self.connection.is_handshaking() {
                self.begun = UnixTime::now();
                // Remaining output, such as tickets, goes out with the first data.
                return self.check_resumed().map(|()| Step::Done);
            }
            if !sent {
                return Ok(Step::Writable);
            }
            match self.connection.read_tls(transport) {
                Ok(0) => return Err(HandshakeError::Left),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Readable),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(HandshakeError::Broken(error)),
            }
            if let Err(error) = self.connection.process_new_packets() {
                // Sends the alert. The peer may be gone, or not take it.
                self.flush(transport).ok();
                return Err(match (error, clients::objection()) {
                    (_, Some(objection)) => HandshakeError::Certificate(objection),
                    (rustls::Error::NoCertificatesPresented, None) => HandshakeError::Certificate(NONE_SHOWN.into()),
                    (error, None) => error.into(),
                });
            }
        }
    }

    /// The library takes the client's certificate from the ticket as verified at that time. It may
    /// have expired since.
    fn check_resumed(&mut self) -> Result<(), HandshakeError> {
        let Some(clients) = &self.clients else { return Ok(()) };
        if self.connection.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let (sent, begun) = (self.sent_certificates(), self.begun);
        if clients.verified(sent, begun).is_ok() {
            return Ok(());
        }
        let objection = clients.objection_to(sent, begun).unwrap_or_default();
        // It is too late for an alert. At least the end does not look like a regular one.
        self.mute = true;
        Err(HandshakeError::Certificate(format!(
            "the session ticket is of a certificate that is no longer accepted: {objection}"
        )))
    }

    /// Passes the next data to `take`, which returns the number of bytes that it used. Returns
    /// `None` if there is no data yet, and 0 after the peer's `close_notify`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the transport ended without `close_notify`; any other error that broke
    /// the connection.
    pub fn read(
        &mut self,
        transport: &mut (impl Read + Write),
        take: impl FnOnce(&[u8]) -> usize,
    ) -> io::Result<Option<usize>> {
        loop {
            let mut reader = self.connection.reader();
            match reader.fill_buf() {
                Ok([]) => return Ok(Some(0)),
                Ok(data) => {
                    let taken = take(data);
                    reader.consume(taken);
                    return Ok(Some(taken));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.kind().into()),
            }
            match self.connection.read_tls(transport) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let processed = self.connection.process_new_packets();
            // Sends an answer or an alert. If that fails, the next write reports it.
            self.flush(transport).ok();
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Encrypts some of `data`, sends the bytes that the transport takes and keeps the rest.
    /// Returns `None` while bytes from before are kept.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub fn write(&mut self, transport: &mut impl Write, data: &[u8]) -> io::Result<Option<usize>> {
        if !self.flush(transport)? {
            return Ok(None);
        }
        let taken = self.connection.writer().write(data)?;
        self.flush(transport)?;
        Ok(Some(taken))
    }

    /// Sends encrypted bytes. Returns whether all are sent.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub fn flush(&mut self, transport: &mut impl Write) -> io::Result<bool> {
        while self.has_unsent() {
            match self.connection.write_tls(transport) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether encrypted bytes wait to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.mute && self.connection.wants_write()
    }

    /// Ends the output with one `close_notify`. Input goes on.
    pub fn finish(&mut self) {
        self.connection.send_close_notify();
    }

    /// Stops all sending, because the transport takes nothing any more: the library's answers to
    /// the peer are dropped.
    pub fn mute(&mut self) {
        self.mute = true;
    }

    /// The TLS version, by its name in the contract.
    pub fn version(&self) -> Option<&'static str> {
        match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        }
    }

    /// The server name that the peer asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.connection.server_name()
    }

    /// The application protocol that both sides agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The peer's verified certificates in DER, its own first. Other certificates that it sent are
    /// left out.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let verified = self.clients.as_ref().map(|clients| clients.verified(self.sent_certificates(), self.begun));
        verified.and_then(Result::ok).unwrap_or_default()
    }

    fn sent_certificates(&self) -> &[CertificateDer<'static>] {
        let state: &CommonState = &self.connection;
        state.peer_certificates().unwrap_or_default()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("version", &self.version()).finish_non_exhaustive()
    }
}
