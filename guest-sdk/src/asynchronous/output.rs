//! The bytes to the peer, on WASI 0.3. It owns the memory of a write, and the half-close.

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind, Write};

use crate::host::asynchronous::StreamWriter;

/// The sending half of a [`Connection`](super::Connection).
///
/// When a write returns, the host has taken the bytes: there is no buffer to flush. A peer that
/// does not read makes writes wait. After the peer has gone, writes fail with
/// [`ErrorKind::BrokenPipe`].
///
/// Dropping it closes the sending side after the written bytes: the peer reads an end, and the
/// input stays readable.
#[derive(Debug)]
pub struct Output {
    /// `None` after the sending side is closed.
    stream: Option<StreamWriter>,
    /// The host reads from this memory during a write, so nothing else may use it: bytes are copied
    /// into it, and it is kept for the next write.
    bytes: Vec<u8>,
}

impl Output {
    pub(crate) fn new(stream: StreamWriter) -> Self {
        Self { stream: Some(stream), bytes: Vec::new() }
    }

    /// Writes all of `bytes`. If the future is dropped before it completes, some of them may have
    /// been written.
    ///
    /// # Errors
    ///
    /// If the peer has gone, or the sending side is closed.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.write_gathered().await
    }

    /// Writes formatted text. Called by `write!(output, …).await` and `writeln!(output, …).await`.
    ///
    /// The text is formatted at once, so that no value in it is borrowed while the write waits.
    pub fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> impl Future<Output = io::Result<()>> + use<'_> {
        self.bytes.clear();
        let formatted = self.bytes.write_fmt(arguments);
        async move {
            formatted?;
            self.write_gathered().await
        }
    }

    /// Closes the sending side, so that the peer reads an end after the written bytes. Later writes
    /// fail.
    pub fn finish(&mut self) {
        self.stream = None;
    }

    /// Writes the content of `buffer` without copying it, and leaves it empty, with its memory, for
    /// the next read.
    pub(crate) async fn write_from(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        std::mem::swap(&mut self.bytes, buffer);
        let written = self.write_gathered().await;
        std::mem::swap(&mut self.bytes, buffer);
        buffer.clear();
        written
    }

    async fn write_gathered(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Err(io::Error::new(ErrorKind::BrokenPipe, "the sending side is closed"));
        };
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.bytes = stream.write_all(std::mem::take(&mut self.bytes)).await;
        if self.bytes.is_empty() { Ok(()) } else { Err(io::Error::new(ErrorKind::BrokenPipe, "the peer has gone")) }
    }
}
