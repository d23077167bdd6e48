//! The bytes from the peer, on WASI 0.2. It owns the read buffer and the memory of how the input ended: the host tells of a
//! failure once and calls the stream closed from then on, which a second read must not mistake for an end.

use std::io::{self, BufRead, ErrorKind, Read, Write};

use crate::host::sync::{InputStream, StreamError, drain, poll};
use crate::output::Output;

/// The first read asks for this much, and reads that come back full ask for twice as much up to the limit: most
/// connections send one short message, and the host may have to reserve what is asked for.
pub(crate) const FIRST_READ: usize = 4 * 1024;
/// Past this size a read gets no cheaper by the byte.
pub(crate) const LARGEST_READ: usize = 64 * 1024;

/// The receiving half of a [`Connection`](crate::Connection).
///
/// Reading returns 0 bytes when the peer has closed its sending side, and only then. A reset, a timeout and a TLS
/// connection that was cut off are errors of the kind [`ErrorKind::ConnectionReset`], however often one reads again.
///
/// Dropping it discards whatever still arrives. It never resets the connection.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    consumed: usize,
    ask: usize,
    state: State,
    stream: InputStream,
}

#[derive(Debug)]
enum State {
    Open,
    Ended,
    Failed(String),
}

/// What [`Input::ready`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A read returns at once: with bytes, with the end, or with an error.
    Input,
    /// The host waits for this connection to finish: [`is_draining`](crate::Connection::is_draining) is true.
    Draining,
}

impl Input {
    pub(crate) fn new(stream: InputStream) -> Self {
        Self { buffer: Vec::new(), consumed: 0, ask: FIRST_READ, state: State::Open, stream }
    }

    /// Waits until there is something to read or the host drains, whichever comes first; draining where both are so.
    ///
    /// For a handler of a long-lived protocol, which says goodbye between two messages:
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

    /// Copies everything up to the end of this input to `output`, and returns how many bytes that were.
    ///
    /// Faster than [`std::io::copy`]: the host moves the bytes, without taking them through the guest's memory.
    ///
    /// # Errors
    ///
    /// Whatever reading or writing fails with.
    pub fn copy_to(&mut self, output: &mut Output) -> io::Result<u64> {
        let mut copied = 0;
        loop {
            // First what an earlier read has left in the buffer. After a splice that was told "closed", this finds out
            // which of the two ends it was: an ended input reads as empty, a closed output fails the write.
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

    /// Lets the host move bytes until one of the two ends is closed, and returns how many it moved.
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

    /// Takes the next bytes from the host. Call it with an empty buffer.
    fn receive(&mut self) {
        match self.stream.blocking_read(self.ask as u64) {
            Ok(bytes) => {
                if bytes.len() == self.ask {
                    self.ask = (self.ask * 2).min(LARGEST_READ);
                }
                self.buffer = bytes;
                self.consumed = 0;
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
        while self.consumed == self.buffer.len() && matches!(self.state, State::Open) {
            self.receive();
        }
        if self.consumed == self.buffer.len() {
            self.check()?;
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

    /// Appends whole buffers, where the standard library's own method would copy piece by piece.
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
