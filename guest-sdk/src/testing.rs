//! Unit tests of a handler, natively and in memory: describe what the peer does, and check what it
//! received.
//!
//! ```
//! use std::io::{self, BufRead, Write};
//! use uninterruptible_guest::{Connection, testing::Peer};
//!
//! fn handle_request(mut connection: Connection) -> io::Result<()> {
//!     let mut name = String::new();
//!     connection.read_line(&mut name)?;
//!     writeln!(connection, "Hello {}!", name.trim())
//! }
//!
//! assert_eq!(Peer::new().sends("bo").sends("b\n").meets(handle_request).text(), "Hello bob!\n");
//! assert!(Peer::new().sends("bo").resets("reset by peer").meets(handle_request).error.is_some());
//! ```
//!
//! The test runs the handler's own code on the SDK's own streams. The stand-in below them keeps the
//! contract as strictly as the host. A test cannot cover the wire here: packets, time and the
//! host's limits.
//!
//! Tests do not wait. If a handler waits for something that the peer never does, the test panics
//! instead of hanging. The module does not exist in WebAssembly.

pub(crate) mod asynchronous;
pub(crate) mod sync;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;

pub use wire::Facts;
use wire::{Event, Wire};

use crate::outcome::Outcome;

/// A peer of a connection: it sends the given pieces, and then ends its side.
#[derive(Debug, Default)]
#[must_use = "a peer does nothing until it meets a handler"]
pub struct Peer {
    facts: Facts,
    wire: Wire,
}

/// Another server, to which the handler connects by [`Outgoing`](crate::Outgoing): the pieces that
/// it sends, and after the test, the bytes that it received.
#[derive(Debug)]
#[must_use = "a server does nothing until a peer reaches it"]
pub struct Server(Rc<RefCell<Wire>>);

impl Server {
    /// A server that sends nothing and ends its side at once.
    #[expect(clippy::new_without_default, reason = "there is nothing usual about a server that says nothing")]
    pub fn new() -> Self {
        Self(Rc::default())
    }

    fn and(self, event: Event) -> Self {
        self.0.borrow_mut().script.push_back(event);
        self
    }

    /// Sends bytes that arrive together.
    pub fn sends(self, bytes: impl AsRef<[u8]>) -> Self {
        self.and(Event::Arrival(bytes.as_ref().to_vec()))
    }

    /// Resets the connection after the pieces. The message is the host's.
    pub fn resets(self, message: &str) -> Self {
        self.and(Event::Failure(message.to_owned()))
    }

    /// Neither ends its side nor sends more.
    pub fn stays_silent(self) -> Self {
        self.and(Event::Silence)
    }

    /// Leaves after it has received this many bytes: later writes fail.
    pub fn leaves_after(self, bytes: usize) -> Self {
        self.0.borrow_mut().leaves_after = Some(bytes);
        self
    }

    /// The bytes that it received.
    #[must_use]
    pub fn got(&self) -> Vec<u8> {
        self.0.borrow().delivered.clone()
    }

    /// Whether the handler has closed its sending side.
    #[must_use]
    pub fn got_end(&self) -> bool {
        self.0.borrow().got_end
    }
}

/// The result of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The bytes that the peer received.
    pub bytes: Vec<u8>,
    /// The message in the host's log: the handler's error, or its failure by
    /// [`fail`](crate::asynchronous::Connection::fail).
    pub error: Option<String>,
}

impl Peer {
    /// A peer that sends nothing and ends its side at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends bytes that arrive together.
    pub fn sends(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.wire.script.push_back(Event::Arrival(bytes.as_ref().to_vec()));
        self
    }

    /// At this point of the conversation the host begins to drain.
    pub fn drains(mut self) -> Self {
        self.wire.script.push_back(Event::Drain);
        self
    }

    /// Resets the connection after the pieces, instead of ending its side. The message is the
    /// host's.
    pub fn resets(mut self, message: &str) -> Self {
        self.wire.script.push_back(Event::Failure(message.to_owned()));
        self
    }

    /// Makes an async handler wait once before the next piece. Has no effect on a blocking handler.
    pub fn pauses(mut self) -> Self {
        self.wire.script.push_back(Event::Pause);
        self
    }

    /// Neither ends its side nor sends more.
    pub fn stays_silent(mut self) -> Self {
        self.wire.script.push_back(Event::Silence);
        self
    }

    /// Leaves after it has received this many bytes: later writes fail.
    pub fn leaves_after(mut self, bytes: usize) -> Self {
        self.wire.leaves_after = Some(bytes);
        self
    }

    /// Lets the handler connect to a server, once: see [`Server`]. All other addresses refuse.
    pub fn reaches(mut self, address: &str, server: &Server) -> Self {
        self.wire.servers.push((address.to_owned(), Rc::clone(&server.0)));
        self
    }

    /// Sets the facts about this peer. The default is a plain TCP connection over loopback.
    pub fn known_by(mut self, facts: Facts) -> Self {
        self.facts = facts;
        self
    }

    /// Serves this peer with a handler of the 0.2 contract.
    ///
    /// # Panics
    ///
    /// If the handler waits for something that the peer never does.
    pub fn meets<R: Outcome>(self, handler: impl FnOnce(crate::Connection) -> R) -> Answer {
        let (resource, wire) = self.connect();
        let connection = crate::Connection::new(
            resource,
            sync::InputStream(Rc::clone(&wire)),
            sync::OutputStream::new(Rc::clone(&wire)),
        );
        let outcome = handler(connection).message();
        Answer::new(&wire, outcome)
    }

    /// Serves this peer with a handler of the 0.3 contract.
    ///
    /// # Panics
    ///
    /// If the handler waits for something that the peer never does.
    pub fn meets_async<R: Outcome>(self, handler: impl AsyncFnOnce(crate::asynchronous::Connection) -> R) -> Answer {
        let (resource, wire) = self.connect();
        let input = asynchronous::StreamReader::new(Rc::clone(&wire));
        let output = asynchronous::StreamWriter::new(Rc::clone(&wire));
        asynchronous::block_on(crate::asynchronous::serve(handler, resource, input, output));
        Answer::new(&wire, Ok(()))
    }

    fn connect(self) -> (wire::Resource, Rc<RefCell<Wire>>) {
        let wire = Rc::new(RefCell::new(self.wire));
        wire::make_current(&wire);
        (wire::Resource { facts: self.facts, wire: Rc::clone(&wire) }, wire)
    }
}

impl Answer {
    fn new(wire: &RefCell<Wire>, outcome: Result<(), String>) -> Self {
        let mut wire = wire.borrow_mut();
        Self { bytes: std::mem::take(&mut wire.delivered), error: outcome.err().or(wire.failed_with.take()) }
    }

    /// The bytes as text, with `\u{fffd}` for invalid UTF-8.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
