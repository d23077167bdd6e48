//! The predecessor's side: a successor is started or comes by itself, is offered what there is, and is watched until there is
//! no way back.

mod error;
pub(crate) mod estate;
mod exchange;

pub use error::Error;
pub use estate::Estate;

use self::estate::Part;
use super::{
    channel::{self, Channel, MESSAGE_TIMEOUT, Received},
    door::Visitor,
    draining::Reporter,
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

/// How long a wrapper may take to end when what it wraps has ended.
const WRAPPER: Duration = Duration::from_millis(200);

/// How many versions of a successor are told, of thousands that one message has room for.
const MOST_VERSIONS_TOLD: usize = 8;

/// The process that is to take over, from its start until it does.
pub struct Successor {
    channel: Channel,
    /// Where this process has started it.
    child: Option<start::Successor>,
    /// Known since its `hello`; `None` where it cannot be seen or signalled from here.
    peer: Option<Process>,
    /// Who has said `hello`, as far as that can be seen from here.
    greeter: Option<i32>,
    progress: Progress,
    ready_timeout: Duration,
    /// When the next message is overdue.
    due: Instant,
    /// The pidfile that it will write.
    pidfile: Option<PathBuf>,
    /// Whether it answers at this process's admin endpoint.
    takes_admin: bool,
    reporter: Reporter,
    /// Whether it understands reports within the window.
    hears_of_connections: bool,
}

enum Progress {
    /// What it will be offered is let go of as soon as it is sent: the listeners must not be held open here.
    Starting(Estate),
    Offering {
        parts: VecDeque<Part>,
        offered: Vec<Key>,
    },
    Offered {
        offered: Vec<Key>,
    },
    Committed,
    Serving,
    /// It serves, but says nothing any more.
    Silent,
}

/// What a successor that serves within the window can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was told to stop or restart.
    Leaving(Verb),
    /// It gives the service back, and has counted this by itself.
    Yield(Totals),
    /// It reloads.
    Reloading,
    /// Its reload is over.
    Reloaded {
        /// Whether it took effect.
        done: bool,
    },
    /// It is dead.
    Died,
}

impl Successor {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// Where it cannot be executed, or there are no descriptors left.
    pub fn start(command: &StartCommand, estate: Estate, ready_timeout: Duration) -> Result<Self, Error> {
        let (channel, far) = Channel::pair().map_err(start::Error::System)?;
        let child = start::Successor::start(command, far)?;
        let counters = estate.counters;
        Ok(Self {
            channel,
            child: Some(child),
            peer: None,
            greeter: None,
            progress: Progress::Starting(estate),
            ready_timeout,
            due: Instant::now() + ready_timeout,
            pidfile: None,
            takes_admin: false,
            reporter: Reporter::new(counters, Totals::default()),
            hears_of_connections: false,
        })
    }

    /// One that came by itself.
    ///
    /// # Errors
    ///
    /// Where its `hello` is none that this program can answer.
    pub fn came(visitor: Visitor, estate: Estate) -> Result<Self, Box<(Error, Visitor)>> {
        let Visitor { channel, hello } = visitor;
        let counters = estate.counters;
        let mut successor = Self {
            channel,
            child: None,
            peer: None,
            greeter: None,
            progress: Progress::Starting(estate),
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

    /// Its process id, as far as it is known.
    pub fn pid(&self) -> i32 {
        self.greeter.or(self.child.as_ref().map(start::Successor::pid)).unwrap_or_default()
    }

    /// The pidfile that it will write, where it will write any.
    pub fn pidfile(&self) -> Option<&Path> {
        self.pidfile.as_deref()
    }

    /// Whether it answers at this process's admin endpoint from the moment at which it serves.
    pub fn takes_admin(&self) -> bool {
        self.takes_admin
    }

    /// Whether this process started it.
    pub fn is_child(&self) -> bool {
        self.child.is_some()
    }

    /// Whether its end would be seen, so that it can be watched.
    pub fn can_be_watched(&self) -> bool {
        self.peer.is_some()
    }

    /// Waits until it has prepared everything: the keys of the listeners that it claims. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// Where it fails, ends, or takes too long.
    pub async fn prepared(&mut self) -> Result<Vec<Key>, Error> {
        loop {
            if let Progress::Offering { parts, offered } = &mut self.progress {
                while let Some(part) = parts.front() {
                    let descriptors: Vec<_> = part.descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
                    match self.channel.send(&part.message, &descriptors).await {
                        // What it said before it closed is the answer, and comes next.
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
                    // As many as there are, none twice, none other.
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
    /// Where it is gone.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let (counters, here) = self.reporter.news();
        match self.channel.send(&Message::Commit { counters }, &[]).await {
            Ok(()) => self.reporter.sent(here),
            // What it said before it went is why it went.
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
    /// Where it is certain that it does not, and will not.
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
        // It may have said so just now. After this it cannot any more: its attempt fails, and it ends without accepting.
        self.channel.stop_receiving();
        while let Ok(Some(received)) = self.channel.receive_queued() {
            if received.message == (Message::Serving {}) {
                self.progress = Progress::Serving;
                return Ok(());
            }
        }
        Err(failure)
    }

    /// Waits for what it does within the window. May be dropped and called again.
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
                    "the successor says what is not due; it is ignored"
                ),
                Err(error) => {
                    // Its end, if this is it, shows by itself.
                    debug!(successor = self.pid(), %error, "the successor says no more");
                    self.progress = Progress::Silent;
                }
            }
        }
    }

    /// The same within the window, where it understands that.
    pub fn report_in_window(&mut self) {
        if self.hears_of_connections {
            self.report();
        }
    }

    /// Reports how many connections are open here, and the outcomes of the others. Returns whether nothing is left to report.
    pub fn report(&mut self) -> bool {
        self.reporter.report(&self.channel)
    }

    /// Says something that changes nothing where it does not arrive.
    pub async fn tell(&self, message: Message) {
        if let Err(error) = self.channel.send(&message, &[]).await {
            debug!(successor = self.pid(), sent = message.name(), %error, "a message to the successor was lost");
        }
    }

    /// Ends the handoff: says so where that is still right, gives the successor `grace` to end by itself, then kills it, waits
    /// for its death and reaps it.
    pub async fn discard(self, reason: &str, grace: Duration) -> Option<ExitStatus> {
        if !matches!(self.progress, Progress::Committed | Progress::Serving | Progress::Silent) {
            self.tell(Message::Abort { reason: reason.to_owned() }).await;
        }
        if let Some(peer) = &self.peer {
            drop(time::timeout(grace, peer.ended()).await);
            drop(peer.kill());
            drop(time::timeout(MESSAGE_TIMEOUT, peer.ended()).await);
        }
        // The grace of a peer has passed; a wrapper that waited for it ends next, with a status of its own.
        let grace = if self.peer.is_some() { WRAPPER } else { grace };
        match self.child {
            Some(child) => child.end(grace).await,
            None => None,
        }
    }

    /// Whether it has ended, where that can be seen.
    pub fn has_ended(&self) -> bool {
        self.peer.as_ref().is_some_and(Process::has_ended)
    }

    /// Leaves it to whoever reaps above, who is its parent from here on.
    pub async fn let_go(&mut self) {
        if let Some(child) = &mut self.child {
            child.let_go().await;
        }
    }

    /// Its end of the exchange, its process, and the process by which this one has started it.
    pub(super) fn into_parts(self) -> (Channel, Option<Process>, Option<start::Successor>) {
        (self.channel, self.peer, self.child)
    }

    /// Waits until it has ended, or was let go of. May be dropped and called again; comes true once.
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
