//! The messages from a successor, and why one does not arrive.

use super::{Error, MOST_VERSIONS_TOLD, Progress, Successor};
use crate::{
    handoff::{
        channel::{self, MESSAGE_TIMEOUT, Received},
        message::{Entry, Message, VERSION},
    },
    record::log,
    system::process::Process,
};
use tokio::time;
use tracing::debug;

impl Successor {
    /// Answers its `hello` with the offer.
    pub(super) fn greeted(&mut self, hello: &Received) -> Result<(), Error> {
        let Message::Hello { versions, release } = &hello.message else { return Err(self.unexpected(&hello.message)) };
        if !versions.contains(&VERSION) {
            return Err(Error::Version { theirs: versions.iter().copied().take(MOST_VERSIONS_TOLD).collect() });
        }
        debug!(?hello.sender, release = log::escaped(release), "successor ready for the offer");
        self.greeter = hello.sender.pid;
        self.peer = hello.sender.pid.and_then(|pid| Process::hold(pid).ok()).filter(Process::can_be_signalled);
        if let Progress::Starting(inventory) = &self.progress {
            let offered = inventory.things.iter().filter_map(|(entry, _)| match entry {
                Entry::Listener { key, .. } => Some(key.clone()),
                _ => None,
            });
            // Both of the same moment: later counts come with `commit`, and with reports after it.
            let here = inventory.counters.here();
            let totals = here.plus(&inventory.counters.reported());
            self.reporter.sent(here);
            self.progress = Progress::Offering { offered: offered.collect(), parts: inventory.parts(&totals) };
        }
        Ok(())
    }

    /// The next message, or why it does not arrive.
    pub(super) async fn next(&self) -> Result<Received, Error> {
        tokio::select! {
            biased;
            received = self.channel.receive() => match received {
                Err(channel::Error::Closed) => Err(self.gone()),
                received => Ok(received?),
            },
            () = self.ended() => match self.channel.receive_queued() {
                // Queued messages come first.
                Ok(Some(received)) => Ok(received),
                _ => Err(self.gone()),
            },
            () = time::sleep_until(self.due) => Err(match self.progress {
                Progress::Starting(_) => Error::Unready(self.ready_timeout),
                _ => channel::Error::Late { awaited: self.awaited(), within: MESSAGE_TIMEOUT }.into(),
            }),
        }
    }

    /// Waits until no process is left that could answer.
    pub(super) async fn ended(&self) {
        match (&self.progress, &self.child) {
            (Progress::Starting(_), Some(child)) => {
                child.ended().await;
                // A wrapper may exit early with success while the process that it started gets
                // ready.
                if !child.has_failed() {
                    std::future::pending::<()>().await;
                }
            }
            _ => self.peer_ended().await,
        }
    }

    pub(super) async fn peer_ended(&self) {
        match &self.peer {
            Some(peer) => peer.ended().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn gone(&self) -> Error {
        match self.progress {
            Progress::Starting(_) => Error::EndedUnheard,
            _ => Error::Ended { awaited: self.awaited() },
        }
    }

    pub(super) fn awaited(&self) -> &'static str {
        match self.progress {
            Progress::Starting(_) => "hello",
            Progress::Offering { .. } | Progress::Offered { .. } => "prepared",
            Progress::Committed => "serving",
            Progress::Serving | Progress::Silent => "nothing",
        }
    }

    pub(super) fn unexpected(&self, message: &Message) -> Error {
        channel::Error::Unexpected { came: message.name(), awaited: self.awaited() }.into()
    }
}
