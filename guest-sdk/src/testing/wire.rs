//! The state between a peer and a handler in a test: events to come, delivered bytes, and facts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// One event of a connection.
#[derive(Debug)]
pub(super) enum Event {
    Arrival(Vec<u8>),
    Drain,
    Failure(String),
    /// Nothing for one poll. Has no effect on a blocking reader.
    Pause,
    Silence,
}

#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(super) script: VecDeque<Event>,
    pub(super) delivered: Vec<u8>,
    pub(super) leaves_after: Option<usize>,
    pub(super) draining: bool,
    pub(super) failed_with: Option<String>,
    /// How the input ended, for a later `input-end` of the 0.3 contract.
    pub(super) end: Option<Result<(), String>>,
    /// The servers that can be reached, by address.
    pub(super) servers: Vec<(String, Rc<RefCell<Wire>>)>,
    /// For a server: whether the guest has closed its sending side.
    pub(super) got_end: bool,
}

/// The result of a read.
pub(super) enum Received {
    Bytes(Vec<u8>),
    /// Reported once. After it, there is only the end.
    Failure(String),
    End,
    Nothing,
}

impl Wire {
    pub(super) fn receive(&mut self, most: usize) -> Received {
        loop {
            match self.script.pop_front() {
                Some(Event::Arrival(mut bytes)) => {
                    if bytes.len() > most {
                        let rest = bytes.split_off(most);
                        self.script.push_front(Event::Arrival(rest));
                    }
                    self.drain_if_due();
                    if !bytes.is_empty() {
                        return Received::Bytes(bytes);
                    }
                }
                Some(Event::Drain) => self.draining = true,
                Some(Event::Failure(message)) => {
                    self.end.get_or_insert(Err(message.clone()));
                    return Received::Failure(message);
                }
                Some(Event::Pause) => {
                    self.drain_if_due();
                    return Received::Nothing;
                }
                Some(Event::Silence) => {
                    self.script.push_front(Event::Silence);
                    return Received::Nothing;
                }
                None => {
                    self.end.get_or_insert(Ok(()));
                    return Received::End;
                }
            }
        }
    }

    /// The peer has received everything before this point, so a drain that follows happens now.
    pub(super) fn drain_if_due(&mut self) {
        while let Some(Event::Drain) = self.script.front() {
            self.script.pop_front();
            self.draining = true;
        }
    }

    pub(super) fn skip_pauses(&mut self) {
        while let Some(Event::Pause) = self.script.front() {
            self.script.pop_front();
            self.drain_if_due();
        }
    }

    /// Whether a read would find anything.
    pub(super) fn readable(&self) -> bool {
        !matches!(self.script.front(), Some(Event::Silence))
    }

    /// Passes bytes to the peer; false if it has gone.
    pub(super) fn deliver(&mut self, bytes: &[u8]) -> bool {
        let room = self.leaves_after.map_or(bytes.len(), |most| most - self.delivered.len()).min(bytes.len());
        self.delivered.extend_from_slice(&bytes[..room]);
        room == bytes.len()
    }
}

thread_local! {
    /// The interface `drain` belongs to an instance and not to a connection, so it has to find the
    /// connection itself.
    static CURRENT: RefCell<Rc<RefCell<Wire>>> = RefCell::default();
}

pub(super) fn make_current(wire: &Rc<RefCell<Wire>>) {
    wire.borrow_mut().drain_if_due();
    CURRENT.set(Rc::clone(wire));
}

pub(super) fn current() -> Rc<RefCell<Wire>> {
    CURRENT.with_borrow(Rc::clone)
}

/// The facts about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the methods of Connection, of the same names, document them")]
pub struct Facts {
    pub id: String,
    pub peer_address: String,
    pub local_address: String,
    pub listener: String,
    pub tls_version: Option<String>,
    pub tls_server_name: Option<String>,
    pub tls_alpn: Option<Vec<u8>>,
    pub tls_peer_certificates: Vec<Vec<u8>>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            id: "test".to_owned(),
            peer_address: "tcp://127.0.0.1:40312".to_owned(),
            local_address: "tcp://127.0.0.1:7000".to_owned(),
            listener: "tcp://127.0.0.1:7000".to_owned(),
            tls_version: None,
            tls_server_name: None,
            tls_alpn: None,
            tls_peer_certificates: Vec::new(),
        }
    }
}

/// The type `types.connection` of the bindings, in both generations.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(super) facts: Facts,
    pub(super) wire: Rc<RefCell<Wire>>,
}

impl Resource {
    pub(crate) fn id(&self) -> String {
        self.facts.id.clone()
    }

    pub(crate) fn peer_address(&self) -> String {
        self.facts.peer_address.clone()
    }

    pub(crate) fn local_address(&self) -> String {
        self.facts.local_address.clone()
    }

    pub(crate) fn listener(&self) -> String {
        self.facts.listener.clone()
    }

    pub(crate) fn tls_version(&self) -> Option<String> {
        self.facts.tls_version.clone()
    }

    pub(crate) fn tls_server_name(&self) -> Option<String> {
        self.facts.tls_server_name.clone()
    }

    pub(crate) fn tls_alpn(&self) -> Option<Vec<u8>> {
        self.facts.tls_alpn.clone()
    }

    pub(crate) fn tls_peer_certificates(&self) -> Vec<Vec<u8>> {
        self.facts.tls_peer_certificates.clone()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.wire.borrow().draining
    }

    pub(crate) fn fail(&self, message: &str) {
        self.wire.borrow_mut().failed_with.get_or_insert_with(|| message.to_owned());
    }

    pub(crate) fn input_end(&self) -> std::future::Ready<Result<(), String>> {
        std::future::ready(self.wire.borrow().end.clone().unwrap_or(Ok(())))
    }
}
