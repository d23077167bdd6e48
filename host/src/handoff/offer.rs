//! The predecessor's side: it starts a successor or accepts one at the handoff socket, makes its
//! offer, and watches the successor until no rollback is possible.

mod error;
mod exchange;
pub(crate) mod inventory;

pub use error::Error;
pub use inventory::Inventory;

use self::inventory::Part;
use super::{
    channel::{self, Channel, MESSAGE_TIMEOUT, Received},
    draining::Reporter,
    handoff_socket::Visitor,
    message::{Message, Verb},
    start::{self, StartCommand},
};
use crate::{
    net::Key,
    record::{counters::Totals, log},
    system::process::Process,
};
use std::{
    collections::{HashSet, VecDeque},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};
use tokio::time::{self, Instant};
use tracing::{debug, warn};

/// How long a wrapper may take to end after the process that it wraps.
const WRAPPER: Duration = Duration::from_millis(200);

/// Most protocol versions of a successor that an error names. One message has room for thousands.
const MOST_VERSIONS_TOLD: usize = 8;

/// The process that takes over, from its start until then.
pub struct Successor {
    channel: Channel,
    /// The handle of the process, if this process started it.
    child: Option<start::Successor>,
    /// Known since its `hello`; `None` if it cannot be seen or signalled from here.
    peer: Option<Process>,
    /// The sender of its `hello`, as far as it can be seen from here.
    greeter: Option<i32>,
    progress: Progress,
    ready_timeout: Duration,
    /// The deadline of the next message.
    due: Instant,
    /// The pidfile that it will write.
    pidfile: Option<PathBuf>,
    /// Whether it takes over this process's admin endpoint.
    takes_admin: bool,
    reporter: Reporter,
    /// Whether it understands reports within the window.
    hears_of_connections: bool,
}

enum Progress {
    /// The offered descriptors are closed as soon as they are sent: this process must not hold the
    /// listeners open here.
    Starting(Inventory),
    Offering {
        parts: VecDeque<Part>,
        offered: Vec<Key>,
    },
    Offered {
        offered: Vec<Key>,
    },
    Committed,
    Serving,
    /// It serves, but has stopped responding.
    Silent,
}

/// An event of a successor that serves within the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was told to stop or restart.
    Leaving(Verb),
    /// It gives the service back, with its own counts.
    Yield(Totals),
    /// It reloads.
    Reloading,
    /// Its reload has ended.
    Reloaded {
        /// Whether it took effect.
        done: bool,
    },
    /// It died.
    Died,
}

impl Successor {
    /// Starts a successor.
    ///
    /// # Errors
    ///
    /// If it cannot be executed, or no descriptors are left.
    pub fn start(command: &StartCommand, inventory: Inventory, ready_timeout: Duration) -> Result<Self, Error> {
        let (channel, far) = Channel::pair().map_err(start::Error::System)?;
        let child = start::Successor::start(command, far)?;
        let counters = inventory.counters;
        Ok(Self {
            channel,
            child: Some(child),
            peer: None,
            greeter: None,
            progress: Progress::Starting(inventory),
            ready_timeout,
            due: Instant::now() + ready_timeout,
            pidfile: None,
            takes_admin: false,
            reporter: Reporter::new(counters, Totals::default()),
            hears_of_connections: false,
        })
    }

    /// Accepts a successor that connected to the handoff socket.
    ///
    /// # Errors
    ///
    /// If this program cannot answer its `hello`.
    pub fn came(visitor: Visitor, inventory: Inventory) -> Result<Self, Box<(Error, Visitor)>> {
        let Visitor { channel, hello } = visitor;
        let counters = inventory.counters;
        let mut successor = Self {
            channel,
            child: None,
            peer: None,
            greeter: None,
            progress: Progress::Starting(inventory),
            ready_timeout: MESSAGE_TIMEOUT,
            due: Instant::now() + MESSAGE_TIMEOUT,
            pidfile: None,
            takes_admin: false,
            reporter: Reporter::new(counters, Totals::default()),
            hears_of_connections: false,
        };
        match successor.greeted(&hello) {
            Ok(()) => Ok(successor),
            Err(failure) => Err(Box::new((failure, Visitor { channel: successor.channel, hello }))),
        }
    }

    /// Its process id, or 0 if it is unknown.
    pub fn pid(&self) -> i32 {
        self.greeter.or(self.child.as_ref().map(start::Successor::pid)).unwrap_or_default()
    }

    /// The pidfile that it will write, if any.
    pub fn pidfile(&self) -> Option<&Path> {
        self.pidfile.as_deref()
    }

    /// Whether it answers at this process's admin endpoint as soon as it serves.
    pub fn takes_admin(&self) -> bool {
        self.takes_admin
    }

    /// Whether this process started it.
    pub fn is_child(&self) -> bool {
        self.child.is_some()
    }

    /// Whether this process would see it end, so that it can be watched.
    pub fn can_be_watched(&self) -> bool {
        self.peer.is_some()
    }

    /// Waits until it has prepared everything. Returns the keys of the listeners that it claims.
    /// May be dropped and called again.
    ///
    /// # Errors
    ///
    /// If it fails, ends, or takes too long.
    pub async fn prepared(&mut self) -> Result<Vec<Key>, Error> {
        loop {
            if let Progress::Offering { parts, offered } = &mut self.progress {
                while let Some(part) = parts.front() {
                    let descriptors: Vec<_> = part.descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
                    match self.channel.send(&part.message, &descriptors).await {
                        // Its last message before it closed the channel is the answer, and comes
                        // next.
                        Ok(()) | Err(channel::Error::Closed) => drop(parts.pop_front()),
                        Err(error) => return Err(error.into()),
                    }
                }
                self.progress = Progress::Offered { offered: std::mem::take(offered) };
                self.due = Instant::now() + MESSAGE_TIMEOUT;
            }
            let received = self.next().await?;
            match (&self.progress, &received.message) {
                (_, Message::Failed { stage, reason }) => {
                    return Err(Error::Failed { stage: *stage, reason: log::escaped(reason) });
                }
                (Progress::Starting(_), Message::Hello { .. }) => self.greeted(&received)?,
                (
                    Progress::Offered { offered },
                    Message::Prepared { claimed, unclaimed, pidfile, admin, hears_of_connections },
                ) => {
                    let answered: HashSet<_> = claimed.iter().chain(unclaimed).collect();
                    // Every offered key, exactly once, and no other.
                    let complete = answered.len() == claimed.len() + unclaimed.len();
                    if !complete || answered != offered.iter().collect() {
                        return Err(Error::Claims);
                    }
                    self.pidfile = pidfile.clone();
                    self.takes_admin = admin.is_some();
                    self.hears_of_connections = *hears_of_connections;
                    return Ok(claimed.clone());
                }
                (_, message) => return Err(self.unexpected(message)),
            }
        }
    }

    /// Tells it to serve. From here on it must not be aborted.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let (counters, here) = self.reporter.news();
        match self.channel.send(&Message::Commit { counters }, &[]).await {
            Ok(()) => self.reporter.sent(here),
            // Its last message before it ended gives the reason.
            Err(channel::Error::Closed) => {
                return Err(match self.channel.receive_queued() {
                    Ok(Some(Received { message: Message::Failed { stage, reason }, .. })) => {
                        Error::Failed { stage, reason: log::escaped(&reason) }
                    }
                    _ => Error::Ended { awaited: self.awaited() },
                });
            }
            Err(error) => return Err(error.into()),
        }
        self.progress = Progress::Committed;
        self.due = Instant::now() + MESSAGE_TIMEOUT;
        Ok(())
    }

    /// Waits until it serves. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// If it certainly does not serve and will not.
    pub async fn serving(&mut self) -> Result<(), Error> {
        let failure = match self.next().await {
            Ok(Received { message: Message::Serving {}, .. }) => {
                self.progress = Progress::Serving;
                return Ok(());
            }
            Ok(Received { message: Message::Failed { stage, reason }, .. }) => {
                Error::Failed { stage, reason: log::escaped(&reason) }
            }
            Ok(Received { message, .. }) => self.unexpected(&message),
            Err(failure) => failure,
        };
        // It may have said so just now. After this it cannot any more: its attempt fails, and it
        // ends without accepting.
        self.channel.stop_receiving();
        while let Ok(Some(received)) = self.channel.receive_queued() {
            if received.message == (Message::Serving {}) {
                self.progress = Progress::Serving;
                return Ok(());
            }
        }
        Err(failure)
    }

    /// Waits for its next event within the window. May be dropped and called again.
    pub async fn event(&mut self) -> Event {
        loop {
            let said = tokio::select! {
                biased;
                said = self.channel.receive(), if !matches!(self.progress, Progress::Silent) => said,
                () = self.peer_ended() => match self.channel.receive_queued() {
                    Ok(Some(received)) => Ok(received),
                    _ => return Event::Died,
                },
            };
            match said.map(|received| received.message) {
                Ok(Message::Leaving { to }) => return Event::Leaving(to),
                Ok(Message::Yield { counters }) => return Event::Yield(counters),
                Ok(Message::Reloading {}) => return Event::Reloading,
                Ok(Message::Reloaded { done }) => return Event::Reloaded { done },
                Ok(message) => warn!(
                    successor = self.pid(),
                    received = message.name(),
                    "unexpected message from successor ignored"
                ),
                Err(error) => {
                    // Its end shows separately.
                    debug!(successor = self.pid(), %error, "successor channel closed");
                    self.progress = Progress::Silent;
                }
            }
        }
    }

    /// Reports within the window from now on, if it understands that.
    pub fn report_in_window(&mut self) {
        if self.hears_of_connections {
            self.report();
        }
    }

    /// Reports the number of open connections and the outcomes of the others. Returns whether
    /// nothing is left to report.
    pub fn report(&mut self) -> bool {
        self.reporter.report(&self.channel)
    }

    /// Sends a message that changes nothing if it is lost.
    pub async fn tell(&self, message: Message) {
        if let Err(error) = self.channel.send(&message, &[]).await {
            debug!(successor = self.pid(), sent = message.name(), %error, "message to successor failed");
        }
    }

    /// Aborts the handoff. Sends `abort` if that is still allowed, gives the successor `grace` to
    /// exit, then kills it, waits for its death and reaps it.
    pub async fn discard(self, reason: &str, grace: Duration) -> Option<ExitStatus> {
        if !matches!(self.progress, Progress::Committed | Progress::Serving | Progress::Silent) {
            self.tell(Message::Abort { reason: reason.to_owned() }).await;
        }
        if let Some(peer) = &self.peer {
            drop(time::timeout(grace, peer.ended()).await);
            drop(peer.kill());
            drop(time::timeout(MESSAGE_TIMEOUT, peer.ended()).await);
        }
        // The grace period of the peer is over; a wrapper that waited for it ends next, with its
        // own status.
        let grace = if self.peer.is_some() { WRAPPER } else { grace };
        match self.child {
            Some(child) => child.end(grace).await,
            None => None,
        }
    }

    /// Whether it has ended, if that can be seen.
    pub fn has_ended(&self) -> bool {
        self.peer.as_ref().is_some_and(Process::has_ended)
    }

    /// Lets its starter exit, so that the service manager or anchor becomes its parent.
    pub async fn let_go(&mut self) {
        if let Some(child) = &mut self.child {
            child.let_go().await;
        }
    }

    /// Its channel, its process, and the handle by which this process started it.
    pub(super) fn into_parts(self) -> (Channel, Option<Process>, Option<start::Successor>) {
        (self.channel, self.peer, self.child)
    }

    /// Waits until it has ended or was let go. May be dropped and called again; resolves once.
    pub async fn reaped(&mut self) {
        match (&mut self.child, &self.peer) {
            (Some(child), _) => {
                child.ended().await;
                child.let_go().await;
                self.child = None;
                self.peer = None;
            }
            (None, Some(peer)) => {
                peer.ended().await;
                self.peer = None;
            }
            (None, None) => std::future::pending().await,
        }
    }
}
