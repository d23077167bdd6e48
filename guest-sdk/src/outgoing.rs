//! Connections that a guest makes, on WASI 0.2: their interface for a handler. `connect.rs` makes
//! them.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use crate::host::sync::{OutgoingSocket, connect};
use crate::input::Input;
use crate::output::Output;
use crate::socket::Socket;

/// A connection that a guest has made, to an address that the operator has granted (`--guest-connect`).
///
/// Reads and writes like the guest's own [`Connection`](crate::Connection), with the same two
/// halves. Written bytes are on their way when the call returns.
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
    // Fields drop in this order, as in a connection.
    output: Output,
    input: Input,
}

impl Outgoing {
    /// Connects to `HOST:PORT`, where HOST is a name or an address (`[2001:db8::7]:443`), within a
    /// time. Tries the addresses of a name one after another.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the target is not granted,
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused),
    /// [`TimedOut`](io::ErrorKind::TimedOut), and so on, each with a message.
    pub fn connect(target: &str, within: Duration) -> io::Result<Self> {
        let (input, output, socket) = connect(target, within)?;
        let socket: Rc<dyn Socket> = Rc::new(socket);
        Ok(Self { output: Output::outgoing(output, Rc::clone(&socket)), input: Input::outgoing(input, socket) })
    }

    /// Splits the connection.
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
    /// If the server has gone before it got all bytes. The sending side is closed anyway.
    pub fn finish(&mut self) -> io::Result<()> {
        self.output.finish()
    }

    /// Reads one message of a protocol: see [`Input::read_frame`].
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

impl Socket for OutgoingSocket {
    fn shut_down_sending(&self) {
        self.shut_down();
    }
}
