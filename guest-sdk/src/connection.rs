//! The connection of a 0.2 plugin: the two halves and the facts, in one value that reads and writes.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::mem::ManuallyDrop;

use crate::facts::facts;
use crate::host::sync::{self as host, InputStream, OutputStream};
use crate::input::{Input, Ready};
use crate::output::Output;

/// The connection that a handler serves: it reads the peer's bytes, writes to the peer, and gives
/// facts about it.
///
/// Reading returns 0 bytes only when the peer has closed its sending side. A reset, a timeout and a
/// truncated TLS connection are errors of the kind
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset). Written bytes go out by themselves.
/// [`Input`] and [`Output`] have the details.
///
/// When the handler returns, the host flushes the written bytes and closes. Dropping the connection
/// earlier closes the sending side and discards further input.
#[derive(Debug)]
pub struct Connection {
    // Fields drop in this order: first the one that the peer waits for.
    output: Output,
    input: Input,
    facts: Facts,
}

/// Facts about a connection, apart from its bytes. Dropping it has no effect on the connection.
#[derive(Debug)]
pub struct Facts {
    /// Never dropped: the host drops it with the instance, and an earlier drop would be a call
    /// without effect.
    resource: ManuallyDrop<host::Connection>,
}

facts!(Connection, facts.resource);
facts!(Facts, resource);

impl Connection {
    pub(crate) fn new(resource: host::Connection, input: InputStream, output: OutputStream) -> Self {
        Self {
            output: Output::new(output),
            input: Input::new(input),
            facts: Facts { resource: ManuallyDrop::new(resource) },
        }
    }

    /// Splits the connection, for a handler that drops one half early or passes them to different
    /// functions.
    #[must_use]
    pub fn split(self) -> (Facts, Input, Output) {
        (self.facts, self.input, self.output)
    }

    /// Both halves, to read from one while writing to the other.
    pub fn halves(&mut self) -> (&mut Input, &mut Output) {
        (&mut self.input, &mut self.output)
    }

    /// Closes the sending side: see [`Output::finish`].
    ///
    /// # Errors
    ///
    /// If the peer has gone. The sending side is closed anyway.
    pub fn finish(&mut self) -> io::Result<()> {
        self.output.finish()
    }

    /// Waits until there is something to read or the host drains: see [`Input::ready`].
    pub fn ready(&mut self) -> Ready {
        self.input.ready()
    }

    /// Reads one message of a protocol with `parse`: see [`Input::read_frame`].
    ///
    /// # Errors
    ///
    /// The errors of `parse`; a message that is too long or incomplete; any error of reading.
    pub fn read_frame<T, E: From<io::Error>>(
        &mut self,
        most: usize,
        parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<Option<T>, E> {
        self.input.read_frame(most, parse)
    }

    /// Whether a read returns at once: see [`Input::has_arrived`].
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.input.has_arrived()
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.input.read(into)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.input.read_to_end(into)
    }
}

impl BufRead for Connection {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        self.output.write_fmt(arguments)
    }
}
