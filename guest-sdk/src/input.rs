//! The bytes from the peer, on WASI 0.2. It owns the read buffer and remembers how the input ended:
//! the host reports a failure once and then calls the stream closed, which a second read must not
//! take for an end.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::rc::Rc;

use crate::framing;
use crate::host::sync::{InputStream, Pollable, StreamError, drain, poll};
use crate::output::Output;
use crate::socket::Socket;

/// The first read asks for this many bytes. A read that fills its buffer doubles the next one, up
/// to the limit: most connections send one short message, and the host may have to reserve the
/// requested memory.
pub(crate) const FIRST_READ: usize = 4 * 1024;
/// Above this size a read does not get cheaper by the byte.
pub(crate) const LARGEST_READ: usize = 64 * 1024;

/// The receiving half of a [`Connection`](crate::Connection).
///
/// Reading returns 0 bytes only when the peer has closed its sending side. A reset, a timeout and a
/// truncated TLS connection are errors of the kind [`ErrorKind::ConnectionReset`], on every later
/// read too.
///
/// Dropping it discards further input. It never resets the connection.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    consumed: usize,
    ask: usize,
    state: State,
    stream: InputStream,
    /// For an outgoing connection: the socket of the stream, dropped after it.
    _socket: Option<Rc<dyn Socket>>,
}

#[derive(Debug)]
enum State {
    Open,
    Ended,
    Failed(String),
}

/// The result of [`Input::ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A read returns at once: with bytes, the end, or an error.
    Input,
    /// The host waits for this connection to finish: [`is_draining`](crate::Connection::is_draining) is true.
    Draining,
}

impl Input {
    pub(crate) fn new(stream: InputStream) -> Self {
        Self { buffer: Vec::new(), consumed: 0, ask: FIRST_READ, state: State::Open, stream, _socket: None }
    }

    pub(crate) fn outgoing(stream: InputStream, socket: Rc<dyn Socket>) -> Self {
        Self { _socket: Some(socket), ..Self::new(stream) }
    }

    /// Waits until there is something to read or the host drains, whichever comes first; draining
    /// if both are true.
    ///
    /// For a handler of a long-lived protocol that says goodbye between two messages:
    ///
    /// ```
    /// use std::io::{self, BufRead, Write};
    /// use uninterruptible_guest::{Connection, Ready};
    ///
    /// #[uninterruptible_guest::handler]
    /// fn handle_request(mut connection: Connection) -> io::Result<()> {
    ///     let mut line = String::new();
    ///     while connection.ready() == Ready::Input {
    ///         line.clear();
    ///         if connection.read_line(&mut line)? == 0 {
    ///             return Ok(());
    ///         }
    ///         write!(connection, "you said: {line}")?;
    ///     }
    ///     connection.write_all(b"goodbye\n")
    /// }
    /// # fn main() {}
    /// ```
    pub fn ready(&mut self) -> Ready {
        let draining = drain::subscribe();
        if draining.ready() {
            return Ready::Draining;
        }
        if self.consumed < self.buffer.len() || !matches!(self.state, State::Open) {
            return Ready::Input;
        }
        let arrived = self.stream.subscribe();
        match poll(&[&draining, &arrived]).first() {
            Some(0) => Ready::Draining,
            _ => Ready::Input,
        }
    }

    /// Whether a read returns at once: with bytes, the end, or an error.
    ///
    /// After [`ready`](Self::ready) has returned [`Ready::Draining`], it tells a handler whether
    /// there is still a message to answer.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.consumed < self.buffer.len() || !matches!(self.state, State::Open) || self.stream.subscribe().ready()
    }

    /// Reads one message of a protocol, of at most `most` bytes, and returns the result of `parse`;
    /// `None` if the input ends before a message begins.
    ///
    /// `parse` gets the bytes that have arrived since the last message. It returns `None` while the
    /// message is incomplete, and is then called again with more bytes. For a complete message it
    /// returns its result and the message's length in bytes. The bytes after the message stay in
    /// the buffer, for the next message or for reading a body.
    ///
    /// ```
    /// use std::io;
    /// use uninterruptible_guest::{Connection, Error};
    ///
    /// #[uninterruptible_guest::handler]
    /// fn handle_request(mut connection: Connection) -> Result<(), Error> {
    ///     // A byte that says how many follow it.
    ///     let parse = |bytes: &[u8]| -> io::Result<_> {
    ///         let Some((length, rest)) = bytes.split_first() else { return Ok(None) };
    ///         let message = rest.get(..usize::from(*length)).map(<[u8]>::to_vec);
    ///         Ok(message.map(|message| (message, 1 + usize::from(*length))))
    ///     };
    ///     while let Some(message) = connection.read_frame(256, parse)? {
    ///         io::Write::write_all(&mut connection, &message)?;
    ///     }
    ///     Ok(())
    /// }
    /// # use uninterruptible_guest::testing::Peer;
    /// # fn main() { assert_eq!(Peer::new().sends("\x02ab\x03").sends("cde").meets(handle_request).text(), "abcde"); }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of `parse`; [`ErrorKind::InvalidData`] if `most` bytes are not a complete
    /// message; [`ErrorKind::UnexpectedEof`] if the input ends within a message; any error of
    /// reading.
    pub fn read_frame<T, E: From<io::Error>>(
        &mut self,
        most: usize,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<Option<T>, E> {
        loop {
            let available = &self.buffer[self.consumed..];
            if let Some((message, length)) = framing::find(available, most, &mut parse)? {
                self.consume(length);
                return Ok(Some(message));
            }
            let before = available.len();
            self.fill_more()?;
            if self.buffer.len() - self.consumed == before {
                return Ok(framing::end(before)?);
            }
        }
    }

    /// Takes more bytes from the host; none at the end of the input.
    fn fill_more(&mut self) -> io::Result<()> {
        let before = self.buffer.len() - self.consumed;
        while self.buffer.len() - self.consumed == before && matches!(self.state, State::Open) {
            self.receive();
        }
        if self.buffer.len() - self.consumed == before { self.check() } else { Ok(()) }
    }

    /// Copies everything up to the end of this input to `output`, and returns the number of bytes.
    ///
    /// Faster than [`std::io::copy`]: the host moves the bytes, without passing them through the
    /// guest's memory.
    ///
    /// # Errors
    ///
    /// Any error of reading or writing.
    pub fn copy_to(&mut self, output: &mut Output) -> io::Result<u64> {
        let mut copied = 0;
        loop {
            // First the rest of an earlier read in the buffer. After a splice reported "closed",
            // this finds out which of the two ends it was: an ended input reads as empty, a closed
            // output fails the write.
            let chunk = self.fill_buf()?;
            if chunk.is_empty() {
                return Ok(copied);
            }
            let length = chunk.len();
            output.write_all(chunk)?;
            self.consume(length);
            copied += length as u64;
            copied += self.splice_to(output)?;
        }
    }

    /// Lets the host move bytes until one of the two ends is closed, and returns the number of
    /// bytes.
    fn splice_to(&mut self, output: &mut Output) -> io::Result<u64> {
        let mut moved = 0;
        loop {
            match output.splice(&self.stream, LARGEST_READ as u64) {
                Ok(length) => moved += length,
                Err(StreamError::Closed) => return Ok(moved),
                Err(StreamError::LastOperationFailed(error)) => {
                    self.state = State::Failed(error.to_debug_string());
                    return self.check().map(|()| moved);
                }
            }
        }
    }

    /// The bytes that have arrived, without waiting: `None` if there are none yet, empty at the
    /// end.
    pub(crate) fn try_fill(&mut self) -> io::Result<Option<&[u8]>> {
        if self.is_waiting() {
            let received = self.stream.read(LARGEST_READ as u64);
            self.take(received);
        }
        if self.is_waiting() {
            return Ok(None);
        }
        self.fill_buf().map(Some)
    }

    /// Whether there is nothing to read yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.consumed == self.buffer.len() && matches!(self.state, State::Open)
    }

    pub(crate) fn subscribe(&self) -> Pollable<'_> {
        self.stream.subscribe()
    }

    /// Takes the next bytes from the host, and appends them to the unconsumed ones.
    fn receive(&mut self) {
        let received = self.stream.blocking_read(self.ask as u64);
        self.take(received);
    }

    fn take(&mut self, received: Result<Vec<u8>, StreamError>) {
        match received {
            Ok(bytes) => {
                if bytes.len() == self.ask {
                    self.ask = (self.ask * 2).min(LARGEST_READ);
                }
                self.buffer.drain(..std::mem::take(&mut self.consumed));
                // Nearly always the buffer is empty, and nothing has to be copied.
                if self.buffer.is_empty() {
                    self.buffer = bytes;
                } else {
                    self.buffer.extend_from_slice(&bytes);
                }
            }
            Err(StreamError::Closed) => self.state = State::Ended,
            Err(StreamError::LastOperationFailed(error)) => self.state = State::Failed(error.to_debug_string()),
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.state {
            State::Open | State::Ended => Ok(()),
            State::Failed(message) => Err(io::Error::new(ErrorKind::ConnectionReset, message.as_str())),
        }
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.consumed == self.buffer.len() {
            self.fill_more()?;
        }
        Ok(&self.buffer[self.consumed..])
    }

    fn consume(&mut self, amount: usize) {
        self.consumed = self.buffer.len().min(self.consumed + amount);
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let length = available.read(into)?;
        self.consume(length);
        Ok(length)
    }

    /// Appends whole buffers. The standard library's own method would copy piece by piece.
    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let before = into.len();
        loop {
            let available = self.fill_buf()?;
            if available.is_empty() {
                return Ok(into.len() - before);
            }
            let length = available.len();
            into.extend_from_slice(available);
            self.consume(length);
        }
    }
}
