//! The stand-in for the host's 0.2 interfaces. It is as strict about their rules as the host: a
//! trap becomes a panic, and a failure is reported once.
#![expect(clippy::panic, reason = "a trap ends a guest, and a panic is what ends a test")]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use super::wire::Resource as Connection;
use super::wire::{self, Received, Wire};

/// The room for writes before the writer has to wait: small enough that a test's large write takes
/// the same path as in production.
const ROOM: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) enum StreamError {
    LastOperationFailed(Error),
    Closed,
}

#[derive(Debug)]
pub(crate) struct Error(String);

impl Error {
    pub(crate) fn to_debug_string(&self) -> String {
        self.0.clone()
    }
}

#[derive(Debug)]
pub(crate) struct InputStream(pub(super) Rc<RefCell<Wire>>);

impl InputStream {
    pub(crate) fn blocking_read(&self, length: u64) -> Result<Vec<u8>, StreamError> {
        let most = usize::try_from(length).unwrap_or(usize::MAX);
        let mut wire = self.0.borrow_mut();
        wire.skip_pauses();
        match wire.receive(most) {
            Received::Bytes(bytes) => Ok(bytes),
            Received::Failure(message) => Err(StreamError::LastOperationFailed(Error(message))),
            Received::End => Err(StreamError::Closed),
            Received::Nothing => panic!("the handler waits for input, but the peer stays silent"),
        }
    }

    pub(crate) fn read(&self, length: u64) -> Result<Vec<u8>, StreamError> {
        let most = usize::try_from(length).unwrap_or(usize::MAX);
        match self.0.borrow_mut().receive(most) {
            Received::Bytes(bytes) => Ok(bytes),
            Received::Failure(message) => Err(StreamError::LastOperationFailed(Error(message))),
            Received::End => Err(StreamError::Closed),
            Received::Nothing => Ok(Vec::new()),
        }
    }

    pub(crate) fn subscribe(&self) -> Pollable<'_> {
        Pollable::Input(&self.0)
    }
}

/// The socket of a guest's outgoing streams.
#[derive(Debug)]
pub(crate) struct OutgoingSocket(Rc<RefCell<Wire>>);

impl OutgoingSocket {
    pub(crate) fn shut_down(&self) {
        self.0.borrow_mut().got_end = true;
    }
}

/// Connects to the servers of the test, to each once, and to no others.
pub(crate) fn connect(target: &str, _: Duration) -> io::Result<(InputStream, OutputStream, OutgoingSocket)> {
    let current = wire::current();
    let mut current = current.borrow_mut();
    let Some(position) = current.servers.iter().position(|(address, _)| address == target) else {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
    };
    let (_, server) = current.servers.remove(position);
    Ok((InputStream(Rc::clone(&server)), OutputStream::new(Rc::clone(&server)), OutgoingSocket(server)))
}

#[derive(Debug)]
pub(crate) struct OutputStream {
    wire: Rc<RefCell<Wire>>,
    room: RefCell<Room>,
}

/// The room for writes before the writer must wait. It starts at 0, so that a writer that does not
/// ask fails at once.
#[derive(Debug, Default)]
pub(crate) struct Room {
    left: usize,
    permitted: usize,
}

impl OutputStream {
    pub(super) fn new(wire: Rc<RefCell<Wire>>) -> Self {
        Self { wire, room: RefCell::default() }
    }

    pub(crate) fn check_write(&self) -> Result<u64, StreamError> {
        self.deliver(&[])?;
        let mut room = self.room.borrow_mut();
        room.permitted = room.left;
        Ok(room.permitted as u64)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), StreamError> {
        let mut room = self.room.borrow_mut();
        let (length, permitted) = (bytes.len(), room.permitted);
        assert!(
            length <= permitted,
            "a write of {length} bytes where check-write permitted {permitted}: the host traps"
        );
        room.permitted = 0;
        room.left -= length;
        self.deliver(bytes)
    }

    pub(crate) fn blocking_write_and_flush(&self, bytes: &[u8]) -> Result<(), StreamError> {
        let length = bytes.len();
        assert!(length <= 4096, "blocking-write-and-flush of {length} bytes: the host traps beyond 4096");
        self.deliver(bytes)
    }

    pub(crate) fn blocking_flush(&self) -> Result<(), StreamError> {
        self.room.borrow_mut().left = ROOM;
        self.deliver(&[])
    }

    pub(crate) fn subscribe(&self) -> Pollable<'_> {
        Pollable::Output(&self.room)
    }

    pub(crate) fn blocking_splice(&self, from: &InputStream, most: u64) -> Result<u64, StreamError> {
        self.deliver(&[])?;
        let bytes = from.blocking_read(most)?;
        self.deliver(&bytes)?;
        Ok(bytes.len() as u64)
    }

    fn deliver(&self, bytes: &[u8]) -> Result<(), StreamError> {
        if self.wire.borrow_mut().deliver(bytes) {
            Ok(())
        } else {
            Err(StreamError::LastOperationFailed(Error("the peer has gone".to_owned())))
        }
    }
}

#[derive(Debug)]
pub(crate) enum Pollable<'a> {
    Input(&'a RefCell<Wire>),
    Output(&'a RefCell<Room>),
    Drain(Rc<RefCell<Wire>>),
}

impl Pollable<'_> {
    pub(crate) fn ready(&self) -> bool {
        match self {
            Self::Input(wire) => wire.borrow().readable(),
            Self::Output(room) => room.borrow().left > 0,
            Self::Drain(wire) => wire.borrow().draining,
        }
    }

    /// Gives room to a writer that waits for it.
    fn make_room(&self) {
        if let Self::Output(room) = self {
            room.borrow_mut().left = ROOM;
        }
    }
}

pub(crate) fn poll(pollables: &[&Pollable<'_>]) -> Vec<u32> {
    pollables.iter().for_each(|pollable| pollable.make_room());
    let ready: Vec<u32> =
        (0..).zip(pollables).filter(|(_, pollable)| pollable.ready()).map(|(index, _)| index).collect();
    assert!(!ready.is_empty(), "the handler waits for input or a drain, but the peer stays silent and nothing drains");
    ready
}

pub(crate) mod drain {
    use super::Pollable;
    use crate::testing::wire;

    pub(crate) fn subscribe() -> Pollable<'static> {
        Pollable::Drain(wire::current())
    }
}
