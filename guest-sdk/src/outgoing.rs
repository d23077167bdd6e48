//! Connections that a guest makes, on WASI 0.2. It owns what they are for a handler; how one is made is `outgoing/connect.rs`.

#[cfg(target_family = "wasm")]
pub(crate) mod connect;

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use crate::host::sync::{OutgoingSocket, connect};
use crate::input::Input;
use crate::output::Output;

/// A connection that a guest has made, to an address that the operator has granted (`--guest-connect`).
///
/// It is read from and written to as the guest's own [`Connection`](crate::Connection) is, and has the same two halves. What is
/// written to it is on its way when the call returns.
///
/// ```
/// use std::io::{self, Write};
/// use std::time::Duration;
/// use uninterruptible_guest::{Connection, Outgoing};
///
/// /// Passes on what a time server says.
/// #[uninterruptible_guest::handler]
/// fn handle_request(mut connection: Connection) -> io::Result<()> {
///     let mut server = Outgoing::connect("time.internal:13", Duration::from_secs(5))?;
///     let (from_server, _) = server.halves();
///     let (_, to_peer) = connection.halves();
///     from_server.copy_to(to_peer).map(drop)
/// }
/// # use uninterruptible_guest::testing::{Peer, Server};
/// # fn main() {
/// #     let server = Server::new().sends("noon\n");
/// #     assert_eq!(Peer::new().reaches("time.internal:13", &server).meets(handle_request).text(), "noon\n");
/// # }
/// ```
#[derive(Debug)]
pub struct Outgoing {
    // The order is the order of dropping, as in a connection.
    output: Output,
    input: Input,
}

impl Outgoing {
    /// Connects to `HOST:PORT`, where HOST is a name or an address (`[2001:db8::7]:443`), within a time. Of a name, one
    /// address is tried after the other.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) where it was not granted,
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused), [`TimedOut`](io::ErrorKind::TimedOut), and so on, each of which
    /// says so in words.
    pub fn connect(target: &str, within: Duration) -> io::Result<Self> {
        let (input, output, socket) = connect(target, within)?;
        let socket: Rc<dyn Socket> = Rc::new(socket);
        Ok(Self { output: Output::outgoing(output, Rc::clone(&socket)), input: Input::outgoing(input, socket) })
    }

    /// Takes the connection apart.
    #[must_use]
    pub fn split(self) -> (Input, Output) {
        (self.input, self.output)
    }

    /// Both halves, to read from one while writing to the other.
    pub fn halves(&mut self) -> (&mut Input, &mut Output) {
        (&mut self.input, &mut self.output)
    }

    /// Closes the sending side: see [`Output::finish`].
    ///
    /// # Errors
    ///
    /// If the other side has gone before everything was passed on; the sending side is closed all the same.
    pub fn finish(&mut self) -> io::Result<()> {
        self.output.finish()
    }

    /// Reads one message of a protocol: see [`Input::read_frame`].
    ///
    /// # Errors
    ///
    /// What `parse` refuses with, a message that is too long or not whole, and whatever reading fails with.
    pub fn read_frame<T, E: From<io::Error>>(
        &mut self,
        most: usize,
        parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<Option<T>, E> {
        self.input.read_frame(most, parse)
    }
}

impl Read for Outgoing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.input.read(into)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.input.read_to_end(into)
    }
}

impl BufRead for Outgoing {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }
}

impl Write for Outgoing {
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

/// What the streams of a connection come from, and must not outlive. It is known by name only where one is made, so that a plugin
/// which makes none imports no sockets.
pub(crate) trait Socket: fmt::Debug {
    /// After what was written.
    fn shut_down_sending(&self);
}

impl Socket for OutgoingSocket {
    fn shut_down_sending(&self) {
        self.shut_down();
    }
}

/// Closes the sending side of a socket when it is dropped: a socket does not do so when its stream is.
#[derive(Debug)]
pub(crate) struct SendingSide(pub(crate) Rc<dyn Socket>);

impl Drop for SendingSide {
    fn drop(&mut self) {
        self.0.shut_down_sending();
    }
}
