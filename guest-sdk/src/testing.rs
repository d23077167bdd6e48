//! Unit tests of a handler, natively and in memory: write down what the peer does, and look at what it got.
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
//! It is the handler's own code that runs, on the SDK's own streams; what stands below them keeps the contract as strictly
//! as the host does. What a test cannot see here is the wire: packets, time and the host's limits.
//!
//! Nobody waits in a conversation that is known beforehand. A handler that waits for what the peer never does makes the
//! test panic instead of hang. The module does not exist in WebAssembly.

pub(crate) mod asynchronous;
pub(crate) mod sync;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;

pub use wire::Facts;
use wire::{Event, Wire};

use crate::export::Outcome;

/// What a peer does on a connection: it sends, in the pieces that it is told, and then ends its side.
#[derive(Debug, Default)]
#[must_use = "a peer does nothing until it meets a handler"]
pub struct Peer {
    facts: Facts,
    wire: Wire,
}

/// Another server, to which the handler connects by [`Outgoing`](crate::Outgoing): what it sends, and after the test, what it got.
#[derive(Debug)]
#[must_use = "a server does nothing until a peer reaches it"]
pub struct Server(Rc<RefCell<Wire>>);

impl Server {
    /// A server that says nothing and ends its side at once.
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

    /// Resets the connection after what it sends. The message is the host's.
    pub fn resets(self, message: &str) -> Self {
        self.and(Event::Failure(message.to_owned()))
    }

    /// Neither ends its side nor sends any more.
    pub fn stays_silent(self) -> Self {
        self.and(Event::Silence)
    }

    /// Goes away after it has got so many bytes: writing fails from then on.
    pub fn leaves_after(self, bytes: usize) -> Self {
        self.0.borrow_mut().leaves_after = Some(bytes);
        self
    }

    /// What it has got.
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

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the peer got.
    pub bytes: Vec<u8>,
    /// The message that the handler's error, or its failure by [`fail`](crate::asynchronous::Connection::fail), puts in the
    /// host's log.
    pub error: Option<String>,
}

impl Peer {
    /// A peer that says nothing and ends its side at once.
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

    /// Resets the connection after what it sends, instead of ending its side. The message is the host's.
    pub fn resets(mut self, message: &str) -> Self {
        self.wire.script.push_back(Event::Failure(message.to_owned()));
        self
    }

    /// Lets an async handler wait once before what follows. A handler that blocks does not notice.
    pub fn pauses(mut self) -> Self {
        self.wire.script.push_back(Event::Pause);
        self
    }

    /// Neither ends its side nor sends any more.
    pub fn stays_silent(mut self) -> Self {
        self.wire.script.push_back(Event::Silence);
        self
    }

    /// Goes away after it has got so many bytes: writing fails from then on.
    pub fn leaves_after(mut self, bytes: usize) -> Self {
        self.wire.leaves_after = Some(bytes);
        self
    }

    /// Lets the handler connect to a server, once: see [`Server`]. All other addresses refuse.
    pub fn reaches(mut self, address: &str, server: &Server) -> Self {
        self.wire.servers.push((address.to_owned(), Rc::clone(&server.0)));
        self
    }

    /// What the handler can learn about this peer. Without it there is a plain TCP connection over loopback.
    pub fn known_by(mut self, facts: Facts) -> Self {
        self.facts = facts;
        self
    }

    /// Has this peer served by a handler of the 0.2 contract.
    ///
    /// # Panics
    ///
    /// Where the handler waits for something that the peer never does.
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

    /// Has this peer served by a handler of the 0.3 contract.
    ///
    /// # Panics
    ///
    /// Where the handler waits for something that the peer never does.
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

    /// The bytes as text, with `\u{fffd}` in place of what is none.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
