//! The connection of a 0.3 plugin: the two halves and the facts, in one value.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use super::{Input, Output};
use crate::Ready;
use crate::facts::facts;
use crate::host::asynchronous as host;

/// The connection that an async handler serves: it reads the peer's bytes, writes to the peer, and
/// gives facts about it.
///
/// Reading returns 0 bytes only when the peer has closed its sending side. A reset, a timeout and a
/// truncated TLS connection are errors of the kind
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset). When a write returns, the host has taken
/// the bytes: there is no buffer to flush.
///
/// Dropping the connection closes the sending side and discards further input.
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
    /// Never dropped, as in a 0.2 plugin.
    resource: Rc<ManuallyDrop<host::Connection>>,
}

facts!(Connection, facts.resource);
facts!(Facts, resource);

impl Connection {
    pub(crate) fn new(
        resource: Rc<ManuallyDrop<host::Connection>>,
        input: host::StreamReader,
        output: host::StreamWriter,
    ) -> Self {
        Self { output: Output::new(output), input: Input::new(input, Rc::clone(&resource)), facts: Facts { resource } }
    }

    /// Splits the connection, for a handler that drops one half early or passes them to different
    /// futures.
    #[must_use]
    pub fn split(self) -> (Facts, Input, Output) {
        (self.facts, self.input, self.output)
    }

    /// Both halves, to read from one while writing to the other.
    pub fn halves(&mut self) -> (&mut Input, &mut Output) {
        (&mut self.input, &mut self.output)
    }

    /// Logs a message as the reason why serving this connection failed, like an error that the
    /// handler returns. The first message counts. It does not end the handler.
    pub fn fail(&self, message: &str) {
        self.facts.fail(message);
    }

    /// See [`Input::fill_buf`].
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf().await
    }

    /// See [`Input::consume`].
    pub fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }

    /// See [`Input::read`].
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.input.read(into).await
    }

    /// See [`Input::read_line`].
    ///
    /// # Errors
    ///
    /// If the connection broke, or the line is not UTF-8.
    pub async fn read_line(&mut self, into: &mut String) -> io::Result<usize> {
        self.input.read_line(into).await
    }

    /// See [`Input::read_until`].
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub async fn read_until(&mut self, delimiter: u8, most: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        self.input.read_until(delimiter, most, into).await
    }

    /// See [`Input::read_to_end`].
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub async fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.input.read_to_end(into).await
    }

    /// See [`Input::read_frame`].
    ///
    /// # Errors
    ///
    /// The errors of `parse`; a message that is too long or incomplete; a broken connection.
    pub async fn read_frame<T, E: From<io::Error>>(
        &mut self,
        most: usize,
        parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<Option<T>, E> {
        self.input.read_frame(most, parse).await
    }

    /// See [`Input::ready`].
    pub async fn ready(&mut self) -> Ready {
        self.input.ready().await
    }

    /// See [`Output::write_all`].
    ///
    /// # Errors
    ///
    /// If the peer has gone.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes).await
    }

    /// Called by `write!(connection, …).await`: see [`Output::write_fmt`].
    pub fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> impl Future<Output = io::Result<()>> + use<'_> {
        self.output.write_fmt(arguments)
    }

    /// See [`Output::finish`].
    pub fn finish(&mut self) {
        self.output.finish();
    }
}

impl Facts {
    /// See [`Connection::fail`].
    pub fn fail(&self, message: &str) {
        self.resource.fail(message);
    }
}
