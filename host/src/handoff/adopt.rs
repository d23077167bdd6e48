//! The successor's side: the offer that it gets, what it adopts, and what happens when its
//! predecessor goes away.

mod error;

pub use error::Error;

use super::{
    channel::{self, Channel, MESSAGE_TIMEOUT, Received, Side, in_time},
    draining::{DrainingProcess, Reporter},
    message::{Entry, Message, Stage, VERSION, Verb},
};
use crate::{
    net::SocketPath,
    record::{counters::Totals, generation::Generation, log},
    system::{kernel, process::Process},
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, send, setsockopt, socket, sockopt,
    },
};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::FileTypeExt,
    },
    sync::Arc,
};
use tokio::time;
use tracing::debug;

/// How this process found its predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The predecessor started it.
    Child,
    /// Another process started it, and it connected to the handoff socket.
    Stranger,
}

/// The process that serves until this one does.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    /// Known since its first message; `None` if it cannot be seen from here.
    peer: Option<Arc<Process>>,
    /// It was dead, and its process id free again, when its first message was read.
    dead: bool,
    origin: Origin,
    /// Its counts that were not taken yet.
    counted: Totals,
    hears_of_reloads: bool,
    /// Its open connections, as far as is known.
    connections: Option<u64>,
}

/// The offer of a predecessor.
#[derive(Debug)]
pub struct Offered {
    /// The predecessor's generation.
    pub generation: Generation,
    /// Each entry with its descriptor.
    pub things: Vec<(Entry, OwnedFd)>,
}

/// Why this process may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// The predecessor told it to.
    Commit,
    /// The predecessor died, which leaves this process as the only one.
    Inherited,
}

/// An event of the predecessor once this process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The window is over.
    Settled,
    /// It serves again, as this process asked.
    Resumed,
    /// It got a signal that is meant for this process.
    Forward(Verb),
    /// It has reported: see [`Predecessor::counted`] and [`Predecessor::connections`].
    Reported,
    /// It lives, but has stopped sending messages that can be understood.
    Silent,
    /// It died.
    Gone,
}

/// The channel that a predecessor left to this process, before its first use.
#[derive(Debug)]
pub struct Inheritance(OwnedFd);

impl Inheritance {
    /// Takes the descriptor with this number.
    ///
    /// # Errors
    ///
    /// If it is not such a channel.
    pub fn take(descriptor: RawFd) -> Result<Self, Error> {
        let is_channel = |socket: BorrowedFd<'_>| {
            let set_apart = getsockopt(&socket, sockopt::SockType) == Ok(SockType::SeqPacket);
            set_apart && rustix::io::ioctl_fionbio(socket, true).is_ok()
        };
        kernel::inherited(descriptor, is_channel).map(Self).ok_or(Error::NotInherited { descriptor })
    }

    /// Reports that this process cannot even start.
    pub fn fail(&self, reason: &str) {
        let failed = Message::Failed { stage: Stage::Configuration, reason: log::escaped(reason) };
        // The first message always has room. If no process reads it, the loss does not matter.
        send(self.0.as_raw_fd(), &failed.encode(), MsgFlags::MSG_NOSIGNAL).ok();
    }

    /// The predecessor at the other end. Call this within a runtime.
    ///
    /// # Errors
    ///
    /// If the reactor cannot watch the channel.
    pub fn predecessor(self) -> Result<Predecessor, Error> {
        Predecessor::on(self.0, Origin::Child).map_err(Error::System)
    }
}

impl Predecessor {
    /// Connects to the predecessor at `path`. `None` if no process listens there.
    ///
    /// # Errors
    ///
    /// Any error except one that shows that no process listens there.
    pub fn at(path: &SocketPath) -> Result<Option<Self>, Error> {
        let reach = || {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            setsockopt(&socket, sockopt::PassCred, &true)?;
            // connect(2) blocks while the listen queue is full.
            set_socket_timeout(&socket, Timeout::Send, Some(MESSAGE_TIMEOUT))?;
            connect(socket.as_raw_fd(), &UnixAddr::new(path.as_ref())?)?;
            rustix::io::ioctl_fionbio(&socket, true)?;
            Ok::<_, io::Error>(socket)
        };
        match reach() {
            Ok(socket) => Self::on(socket, Origin::Stranger).map(Some).map_err(Error::System),
            Err(error) if is_not_listening(&error, path) => Ok(None),
            Err(source) => Err(Error::Unreachable { path: path.clone(), source }),
        }
    }

    fn on(socket: OwnedFd, origin: Origin) -> io::Result<Self> {
        Ok(Self {
            channel: Channel::new(socket, Side::Successor)?,
            peer: None,
            dead: false,
            origin,
            counted: Totals::default(),
            hears_of_reloads: false,
            connections: None,
        })
    }

    /// Sets its open connections at the moment at which this process starts to serve.
    pub fn has(&mut self, connections: u64) {
        self.connections = Some(connections);
    }

    /// Its open connections, as far as is known.
    pub fn connections(&self) -> Option<u64> {
        self.connections
    }

    /// Treats it as a draining process from now on.
    pub fn draining(self, generation: Generation) -> DrainingProcess {
        DrainingProcess::predecessor(generation, self.peer, self.channel, self.connections)
    }

    /// Whether it understands messages about reloads.
    pub fn hears_of_reloads(&self) -> bool {
        self.hears_of_reloads
    }

    /// Reports to it, after a rollback. Returns whether nothing is left to report.
    pub fn report(&self, reporter: &mut Reporter) -> bool {
        reporter.report(&self.channel)
    }

    /// Its counts since the last call.
    pub fn counted(&mut self) -> Totals {
        std::mem::take(&mut self.counted)
    }

    /// How this process found it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Its process, if it can be seen.
    pub fn peer(&self) -> Option<Arc<Process>> {
        self.peer.clone()
    }

    /// Waits, while this process prepares, until the predecessor aborts the handoff or is gone. May
    /// be dropped and called again.
    pub async fn called_off(&mut self) -> Error {
        match self.receive().await {
            Err(Error::Channel(channel::Error::Closed)) => Error::Orphaned,
            Ok(message) => channel::Error::Unexpected { came: message.name(), awaited: "nothing" }.into(),
            Err(error) => error,
        }
    }

    /// Says that everything that needs no listener is ready, and receives the offer.
    ///
    /// # Errors
    ///
    /// If no offer arrives that this program understands.
    pub async fn hello(&mut self) -> Result<Offered, Error> {
        self.say(&Message::Hello { versions: vec![VERSION], release: env!("CARGO_PKG_VERSION").to_owned() }).await?;
        let mut offered = Offered { generation: Generation::FIRST, things: Vec::new() };
        let mut expected = 1;
        loop {
            let (message, descriptors) = self.receive_with_descriptors("offer").await?;
            let Message::Offer { version, release, generation, part, parts, entries, counters, hears_of_reloads } =
                message
            else {
                return Err(channel::Error::Unexpected { came: message.name(), awaited: "offer" }.into());
            };
            if version != VERSION {
                return Err(Error::Version(version));
            }
            if part != expected || part > parts {
                return Err(Error::Parts { part, parts, expected });
            }
            if part == 1 {
                debug!(predecessor = generation, release = log::escaped(&release), parts, "handoff offer received");
            }
            offered.generation = Generation::new(generation);
            self.counted = self.counted.plus(&counters);
            self.hears_of_reloads |= hears_of_reloads;
            offered.things.extend(entries.into_iter().zip(descriptors));
            if part == parts {
                return Ok(offered);
            }
            expected += 1;
        }
    }

    /// Says that nothing can fail any more, and waits for `commit`.
    ///
    /// # Errors
    ///
    /// If the predecessor lives and does not commit.
    pub async fn prepared(&mut self, prepared: Message) -> Result<Consent, Error> {
        let committed = async {
            self.say(&prepared).await?;
            match in_time("commit", MESSAGE_TIMEOUT, self.channel.receive()).await?.message {
                Message::Commit { counters } => {
                    self.counted = self.counted.plus(&counters);
                    Ok(Consent::Commit)
                }
                message => Err(refusal(message, "commit")),
            }
        };
        match committed.await {
            Err(Error::Channel(channel::Error::Closed)) => self.inherit().await,
            answer => answer,
        }
    }

    /// Says that the next step of this process is to accept.
    ///
    /// # Errors
    ///
    /// If the predecessor lives and has aborted.
    pub async fn serving(&mut self) -> Result<Consent, Error> {
        match self.channel.send(&Message::Serving {}, &[]).await {
            Ok(()) => Ok(Consent::Commit),
            Err(channel::Error::Closed) => self.inherit().await,
            Err(error) => Err(error.into()),
        }
    }

    /// Reports that this process cannot take over.
    pub async fn fail(&self, stage: Stage, reason: &str) {
        self.tell(Message::Failed { stage, reason: log::escaped(reason) }).await;
    }

    /// Sends a message that changes nothing if it is lost.
    pub async fn tell(&self, message: Message) {
        if let Err(error) = self.channel.send(&message, &[]).await {
            debug!(sent = message.name(), %error, "message to predecessor failed");
        }
    }

    /// Its next event. May be dropped and called again, until it is gone.
    pub async fn event(&mut self) -> Event {
        loop {
            match self.channel.receive().await {
                Ok(Received { message, .. }) => match message {
                    Message::Settled {} => return Event::Settled,
                    Message::Resumed {} => return Event::Resumed,
                    Message::Forward { verb } => return Event::Forward(verb),
                    Message::Draining { connections, counters } => {
                        self.counted = self.counted.plus(&counters);
                        self.connections = Some(connections);
                        return Event::Reported;
                    }
                    message => debug!(received = message.name(), "unexpected message from predecessor ignored"),
                },
                Err(error) => {
                    debug!(%error, "predecessor channel closed");
                    return match self.inherit().await {
                        Ok(_) => Event::Gone,
                        Err(_) => Event::Silent,
                    };
                }
            }
        }
    }

    /// Sends a message that expects an answer. If the channel is closed, the last queued message is
    /// the answer.
    async fn say(&self, message: &Message) -> Result<(), Error> {
        match self.channel.send(message, &[]).await {
            Ok(()) | Err(channel::Error::Closed) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn receive(&mut self) -> Result<Message, Error> {
        let Received { message, sender, .. } = self.channel.receive().await?;
        self.identify(sender.pid);
        match message {
            Message::Refused { .. } | Message::Abort { .. } => Err(refusal(message, "nothing")),
            message => Ok(message),
        }
    }

    async fn receive_with_descriptors(&mut self, awaited: &'static str) -> Result<(Message, Vec<OwnedFd>), Error> {
        match in_time(awaited, MESSAGE_TIMEOUT, self.channel.receive()).await {
            Ok(Received { message, descriptors, sender }) => {
                self.identify(sender.pid);
                match message {
                    Message::Refused { .. } | Message::Abort { .. } => Err(refusal(message, awaited)),
                    message => Ok((message, descriptors)),
                }
            }
            Err(channel::Error::Closed) => Err(Error::Orphaned),
            Err(error) => Err(error.into()),
        }
    }

    fn identify(&mut self, pid: Option<i32>) {
        let Some(pid) = pid.filter(|_| self.peer.is_none()) else { return };
        match Process::hold(pid) {
            Ok(peer) => self.peer = Some(Arc::new(peer)),
            Err(error) => self.dead = error.raw_os_error() == Some(Errno::ESRCH as i32),
        }
    }

    /// The channel is closed: checks whether the predecessor died.
    async fn inherit(&self) -> Result<Consent, Error> {
        if self.dead {
            return Ok(Consent::Inherited);
        }
        // A process closes its descriptors a moment before it is dead.
        match &self.peer {
            Some(peer) if time::timeout(MESSAGE_TIMEOUT, peer.ended()).await.is_ok() => Ok(Consent::Inherited),
            _ => Err(Error::Abandoned),
        }
    }
}

/// Whether an error of connect means that no socket exists or no process listens on it.
fn is_not_listening(error: &io::Error, path: &SocketPath) -> bool {
    match error.kind() {
        io::ErrorKind::NotFound => true,
        // A file that is not a socket refuses connections as well.
        io::ErrorKind::ConnectionRefused => fs::metadata(path).is_ok_and(|found| found.file_type().is_socket()),
        _ => false,
    }
}

fn refusal(message: Message, awaited: &'static str) -> Error {
    match message {
        Message::Refused { reason } => Error::Refused(log::escaped(&reason)),
        Message::Abort { reason } => Error::Aborted(log::escaped(&reason)),
        message => channel::Error::Unexpected { came: message.name(), awaited }.into(),
    }
}
