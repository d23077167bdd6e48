//! Formatted text, gathered into few writes without allocating memory.

use std::fmt::{self, Write};
use std::io;

/// Longer than nearly every formatted line of a protocol. Longer text goes out in pieces of this
/// size.
const SIZE: usize = 1024;

/// A buffer on the stack between formatting and writing.
pub(crate) struct Pieces<T> {
    buffer: [u8; SIZE],
    length: usize,
    take: T,
    /// The real error: `fmt::Error` carries none.
    failure: Option<io::Error>,
}

impl<T: FnMut(&[u8]) -> io::Result<()>> Pieces<T> {
    /// Formats `arguments` and passes the text to `take`, in order, until it fails.
    pub(crate) fn gather(arguments: fmt::Arguments<'_>, take: T) -> io::Result<()> {
        let mut pieces = Self { buffer: [0; SIZE], length: 0, take, failure: None };
        match pieces.write_fmt(arguments) {
            Ok(()) => (pieces.take)(&pieces.buffer[..pieces.length]),
            Err(fmt::Error) => {
                Err(pieces.failure.unwrap_or_else(|| io::Error::other("a Display implementation failed")))
            }
        }
    }

    fn pass_on(&mut self) -> fmt::Result {
        let length = std::mem::take(&mut self.length);
        (self.take)(&self.buffer[..length]).map_err(|error| {
            self.failure = Some(error);
            fmt::Error
        })
    }
}

impl<T: FnMut(&[u8]) -> io::Result<()>> Write for Pieces<T> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.length == SIZE {
                self.pass_on()?;
            }
            let length = rest.len().min(SIZE - self.length);
            self.buffer[self.length..self.length + length].copy_from_slice(&rest[..length]);
            self.length += length;
            rest = &rest[length..];
        }
        Ok(())
    }
}
