//! The bytes to the peer, on WASI 0.2. It owns the way of a write to the host, and the half-close.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::rc::Rc;

use crate::host::sync::{InputStream, OutputStream, Pollable, StreamError};
use crate::pieces::Pieces;
use crate::socket::{SendingSide, Socket};

/// The most bytes of one `blocking-write-and-flush`; one more byte makes the guest trap.
const LARGEST_BLOCKING_WRITE: usize = 4096;

/// The sending half of a [`Connection`](crate::Connection).
///
/// Written bytes go out by themselves: there is no buffer to flush. The host gathers small writes
/// until the handler waits or ends, or has computed for a few milliseconds. [`flush`](Write::flush)
/// sends them at once. A peer that does not read makes writes wait. After the peer has gone, writes
/// fail with [`ErrorKind::BrokenPipe`].
///
/// Dropping it closes the sending side after the written bytes: the peer reads an end, and the
/// input stays readable.
#[derive(Debug)]
pub struct Output {
    /// `None` after the sending side is closed.
    stream: Option<OutputStream>,
    /// For an outgoing connection: dropped after the stream.
    sending_side: Option<SendingSide>,
}

impl Output {
    pub(crate) fn new(stream: OutputStream) -> Self {
        Self { stream: Some(stream), sending_side: None }
    }

    pub(crate) fn outgoing(stream: OutputStream, socket: Rc<dyn Socket>) -> Self {
        Self { stream: Some(stream), sending_side: Some(SendingSide(socket)) }
    }

    /// Closes the sending side after the written bytes, so that the peer reads an end. Waits for a
    /// peer that reads slowly. Later writes fail.
    ///
    /// # Errors
    ///
    /// If the peer has gone. The sending side is closed anyway.
    pub fn finish(&mut self) -> io::Result<()> {
        let flushed = match &self.stream {
            Some(stream) => wait_for_room(stream).map(drop),
            None => Ok(()),
        };
        self.close();
        flushed
    }

    fn close(&mut self) {
        self.stream = None;
        self.sending_side = None;
    }

    /// Writes the bytes that the host takes without waiting, possibly none. Returns their number.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stream = self.stream()?;
        let permitted = stream.check_write().map_err(failure)?;
        let length = usize::try_from(permitted).unwrap_or(usize::MAX).min(bytes.len());
        if length > 0 {
            stream.write(&bytes[..length]).map_err(failure)?;
        }
        Ok(length)
    }

    /// Closes the sending side if no written bytes have to be waited for. Returns whether it is
    /// closed.
    pub(crate) fn try_finish(&mut self) -> io::Result<bool> {
        let closed = match &self.stream {
            Some(stream) => stream.check_write().map_err(failure)? > 0,
            None => true,
        };
        if closed {
            self.close();
        }
        Ok(closed)
    }

    /// Waits for the written bytes; `None` after the sending side is closed.
    pub(crate) fn subscribe(&self) -> Option<Pollable<'_>> {
        self.stream.as_ref().map(OutputStream::subscribe)
    }

    pub(crate) fn splice(&mut self, from: &InputStream, most: u64) -> Result<u64, StreamError> {
        match &self.stream {
            Some(stream) => stream.blocking_splice(from, most),
            None => Err(StreamError::Closed),
        }
    }

    fn stream(&self) -> io::Result<&OutputStream> {
        self.stream.as_ref().ok_or_else(|| io::Error::new(ErrorKind::BrokenPipe, "the sending side is closed"))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stream = self.stream()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        // One call to the host, where `check-write`, `write` and `flush` are three.
        if bytes.len() <= LARGEST_BLOCKING_WRITE {
            stream.blocking_write_and_flush(bytes).map_err(failure)?;
            return Ok(bytes.len());
        }
        let length = wait_for_room(stream)?.min(bytes.len());
        // It goes out without a flush, while the next piece is made.
        stream.write(&bytes[..length]).map_err(failure)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream()?.blocking_flush().map_err(failure)
    }

    /// Gathers the pieces of a `write!`. Each would be a call to the host.
    fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        match arguments.as_str() {
            Some(text) => self.write_all(text.as_bytes()),
            None => Pieces::gather(arguments, |piece| self.write_all(piece)),
        }
    }
}

/// Waits for room, and returns the number of bytes that can be written.
fn wait_for_room(stream: &OutputStream) -> io::Result<usize> {
    loop {
        match stream.check_write().map_err(failure)? {
            0 => stream.blocking_flush().map_err(failure)?,
            permitted => return Ok(usize::try_from(permitted).unwrap_or(usize::MAX)),
        }
    }
}

fn failure(error: StreamError) -> io::Error {
    match error {
        StreamError::Closed => io::Error::new(ErrorKind::BrokenPipe, "the peer has gone"),
        StreamError::LastOperationFailed(error) => io::Error::new(ErrorKind::BrokenPipe, error.to_debug_string()),
    }
}
