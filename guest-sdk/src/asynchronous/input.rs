//! The bytes from the peer, on WASI 0.3. It owns the read buffer, and asks why the stream ended
//! before it reports an end: the stream alone cannot tell an end from a reset.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read};
use std::mem::ManuallyDrop;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Output;
use crate::Ready;
use crate::framing;
use crate::host::asynchronous::{Connection, StreamRead, StreamReader, StreamResult, drain};
use crate::input::{FIRST_READ, LARGEST_READ};

/// The receiving half of a [`Connection`](super::Connection).
///
/// Reading returns 0 bytes only when the peer has closed its sending side. A reset, a timeout and a
/// truncated TLS connection are errors of the kind [`ErrorKind::ConnectionReset`], on every later
/// read too.
///
/// All read futures are cancel safe: dropping one does not lose a byte of the connection, so
/// `select!` is safe. (Bytes that [`read_until`](Self::read_until) and similar functions have
/// already appended stay appended.)
///
/// Dropping it discards further input. It never resets the connection.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    consumed: usize,
    ask: usize,
    state: State,
    stream: StreamReader,
    connection: Rc<ManuallyDrop<Connection>>,
}

#[derive(Debug)]
enum State {
    Open,
    /// The stream has ended, and the reason is not known yet.
    Closed,
    Ended,
    Failed(String),
}

impl Input {
    pub(crate) fn new(stream: StreamReader, connection: Rc<ManuallyDrop<Connection>>) -> Self {
        Self { buffer: Vec::new(), consumed: 0, ask: FIRST_READ, state: State::Open, stream, connection }
    }

    /// The bytes that have arrived and were not [consumed](Self::consume), at least one; empty at
    /// the end of the input.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.consumed == self.buffer.len() {
            self.fill_more().await?;
        }
        Ok(&self.buffer[self.consumed..])
    }

    /// Takes more bytes from the host, and appends them to the unconsumed ones; none at the end of
    /// the input.
    async fn fill_more(&mut self) -> io::Result<()> {
        let before = self.buffer.len() - self.consumed;
        while self.buffer.len() - self.consumed == before {
            match &self.state {
                State::Open => self.receive().await,
                State::Closed => {
                    self.state = match self.connection.input_end().await {
                        Ok(()) => State::Ended,
                        Err(message) => State::Failed(message),
                    }
                }
                State::Ended => break,
                State::Failed(message) => return Err(io::Error::new(ErrorKind::ConnectionReset, message.as_str())),
            }
        }
        Ok(())
    }

    /// Reads one message of a protocol, of at most `most` bytes, and returns the result of `parse`;
    /// `None` if the input ends before a message begins.
    ///
    /// `parse` gets the bytes that have arrived since the last message. It returns `None` while the
    /// message is incomplete, and is then called again with more bytes. For a complete message it
    /// returns its result and the message's length in bytes. The bytes after the message stay in
    /// the buffer. [`Input::read_frame`](crate::Input::read_frame) of a 0.2 plugin has an example.
    ///
    /// # Errors
    ///
    /// The errors of `parse`; [`ErrorKind::InvalidData`] if `most` bytes are not a complete
    /// message; [`ErrorKind::UnexpectedEof`] if the input ends within a message; a broken
    /// connection.
    pub async fn read_frame<T, E: From<io::Error>>(
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
            self.fill_more().await?;
            if self.buffer.len() - self.consumed == before {
                return Ok(framing::end(before)?);
            }
        }
    }

    /// Marks bytes of [`fill_buf`](Self::fill_buf) as used.
    pub fn consume(&mut self, amount: usize) {
        self.consumed = self.buffer.len().min(self.consumed + amount);
    }

    /// Reads the bytes that have arrived, as many as fit; 0 is the end of the input.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf().await?.read(into)?;
        self.consume(length);
        Ok(length)
    }

    /// Appends bytes up to and including the delimiter, up to the end of the input, or `most`
    /// bytes, whichever comes first. Returns the number of bytes. The limit is needed because the
    /// peer decides where the delimiter is.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub async fn read_until(&mut self, delimiter: u8, most: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let mut appended = 0;
        while appended < most {
            let available = self.fill_buf().await?;
            let within = &available[..available.len().min(most - appended)];
            let found = within.iter().position(|&byte| byte == delimiter);
            let length = found.map_or(within.len(), |position| position + 1);
            into.extend_from_slice(&within[..length]);
            self.consume(length);
            appended += length;
            if found.is_some() || length == 0 {
                break;
            }
        }
        Ok(appended)
    }

    /// Appends a line with its end, or the rest of the input; 0 is the end of the input. Only the
    /// guest's memory limits a line that never ends: [`read_until`](Self::read_until) has a limit.
    ///
    /// # Errors
    ///
    /// If the connection broke, or the line is not UTF-8 ([`ErrorKind::InvalidData`], and the line is gone).
    pub async fn read_line(&mut self, into: &mut String) -> io::Result<usize> {
        let mut line = Vec::new();
        let length = self.read_until(b'\n', usize::MAX, &mut line).await?;
        let line = str::from_utf8(&line).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        into.push_str(line);
        Ok(length)
    }

    /// Appends everything up to the end of the input, and returns the number of bytes.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub async fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let before = into.len();
        loop {
            let available = self.fill_buf().await?;
            if available.is_empty() {
                return Ok(into.len() - before);
            }
            let length = available.len();
            into.extend_from_slice(available);
            self.consume(length);
        }
    }

    /// Copies everything up to the end of this input to `output`, and returns the number of bytes.
    /// It writes from the read buffer, without a copy.
    ///
    /// # Errors
    ///
    /// Any error of reading or writing.
    pub async fn copy_to(&mut self, output: &mut Output) -> io::Result<u64> {
        let mut copied = 0;
        loop {
            let length = self.fill_buf().await?.len();
            if length == 0 {
                return Ok(copied);
            }
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            output.write_from(&mut self.buffer).await?;
            copied += length as u64;
        }
    }

    /// Waits until there is something to read or the host drains, whichever comes first; draining
    /// if both are true.
    pub async fn ready(&mut self) -> Ready {
        let mut draining = pin!(drain::wait());
        let mut filled = pin!(self.fill_buf());
        poll_fn(|context| {
            if draining.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ready::Draining);
            }
            // The next read finds the error again.
            filled.as_mut().poll(context).map(|_| Ready::Input)
        })
        .await
    }

    /// Takes the next bytes from the host, and appends them to the unconsumed ones.
    async fn receive(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.drain(..std::mem::take(&mut self.consumed));
        buffer.reserve(self.ask);
        let room = buffer.capacity();
        let read = pin!(self.stream.read(buffer));
        let receiving = Receiving { read, buffer: &mut self.buffer, state: &mut self.state, done: false };
        receiving.await;
        if self.buffer.len() == room {
            self.ask = (self.ask * 2).min(LARGEST_READ);
        }
    }
}

/// A read that returns the buffer, with the bytes that have arrived, when it completes or is
/// dropped.
struct Receiving<'a, 'b> {
    read: Pin<&'a mut StreamRead<'b>>,
    buffer: &'a mut Vec<u8>,
    state: &'a mut State,
    done: bool,
}

impl Receiving<'_, '_> {
    fn complete(&mut self, (result, buffer): (StreamResult, Vec<u8>)) {
        self.done = true;
        *self.buffer = buffer;
        if result == StreamResult::Dropped {
            *self.state = State::Closed;
        }
    }
}

impl Future for Receiving<'_, '_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.read.as_mut().poll(context).map(|result| self.complete(result))
    }
}

impl Drop for Receiving<'_, '_> {
    fn drop(&mut self) {
        if !self.done {
            let result = self.read.as_mut().cancel();
            self.complete(result);
        }
    }
}
