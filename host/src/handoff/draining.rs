//! Another process of the service that finishes its open connections, and reports to the process
//! that serves.
//!
//! The reports arrive on the channel of the restart in which that process handed over or was rolled
//! back. When the serving process hands over in turn, it offers the channel as well. So the reports
//! always reach the process that serves, however many generations later. Only one process reads
//! them: the predecessor stops at its offer, the successor starts when the restart has settled.
//! Reports sent in between wait in the channel.

use super::{
    channel::{Channel, Error, Side},
    message::{Entry, Message},
    offer::Successor,
    start,
};
use crate::{
    record::{
        counters::{Counters, DrainingId, Totals},
        generation::Generation,
    },
    system::process::Process,
};
use std::{
    future::pending,
    io, mem,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};
use tracing::debug;

/// A process that drains.
#[derive(Debug)]
pub struct DrainingProcess {
    /// The id under which it is counted, once it is.
    pub id: Option<DrainingId>,
    /// Its generation.
    pub generation: Generation,
    /// Whether it gave the service back to its predecessor.
    pub rolled_back: bool,
    pid: i32,
    /// `None` where it cannot be seen from here.
    peer: Option<Arc<Process>>,
    /// Where its reports arrive; `None` once they have ended.
    reports: Option<Arc<Channel>>,
    /// The handle of the process, if this process started it.
    child: Option<start::Successor>,
    /// The connections that it had at its last report.
    connections: Option<u64>,
    /// The counts that no event has returned yet.
    counted: Totals,
}

/// An event of a process that drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has counted this since its last report.
    Reported(Totals),
    /// It has ended, and has counted this since its last report.
    Ended(Totals),
}

impl DrainingProcess {
    /// The process that has handed over to this one.
    pub fn predecessor(
        generation: Generation,
        peer: Option<Arc<Process>>,
        reports: Channel,
        connections: Option<u64>,
    ) -> Self {
        let pid = peer.as_ref().map_or(0, |peer| peer.pid());
        let reports = Some(Arc::new(reports));
        let counted = Totals::default();
        Self { id: None, generation, rolled_back: false, pid, peer, reports, child: None, connections, counted }
    }

    /// A successor that has given the service back.
    pub fn rolled_back(generation: Generation, successor: Successor, connections: u64) -> Self {
        let pid = successor.pid();
        let (channel, peer, child) = successor.into_parts();
        let (peer, reports) = (peer.map(Arc::new), Some(Arc::new(channel)));
        let (connections, counted) = (Some(connections), Totals::default());
        Self { id: None, generation, rolled_back: true, pid, peer, reports, child, connections, counted }
    }

    /// A process from an offer: its entry with its descriptor.
    ///
    /// # Errors
    ///
    /// If the descriptor does not belong to that process, or the reactor cannot watch it.
    pub fn offered(generation: Generation, rolled_back: bool, pid: i32, pidfd: OwnedFd) -> io::Result<Self> {
        let peer = Some(Arc::new(Process::held(pid, pidfd)?));
        let counted = Totals::default();
        Ok(Self {
            id: None,
            generation,
            rolled_back,
            pid,
            peer,
            reports: None,
            child: None,
            connections: None,
            counted,
        })
    }

    /// Sets the channel of its reports, from an offer.
    ///
    /// # Errors
    ///
    /// If the descriptor is not a channel.
    pub fn reports_offered(&mut self, channel: OwnedFd, connections: u64) -> io::Result<()> {
        // As on a predecessor's side, it may not send descriptors.
        self.reports = Some(Arc::new(Channel::new(channel, Side::Predecessor)?));
        self.connections = Some(connections);
        Ok(())
    }

    /// The entries of an offer for it, with their descriptors.
    pub fn entries(&self) -> Vec<(Entry, Arc<dyn AsFd + Send + Sync>)> {
        let Self { generation, rolled_back, pid, .. } = *self;
        let mut entries: Vec<(Entry, Arc<dyn AsFd + Send + Sync>)> = Vec::new();
        if let Some(peer) = &self.peer {
            let entry = Entry::Generation { generation: generation.number(), pid, rolled_back };
            entries.push((entry, Arc::clone(peer) as _));
            if let (Some(reports), Some(connections)) = (&self.reports, self.connections) {
                entries.push((Entry::Reports { pid, connections }, Arc::clone(reports) as _));
            }
        }
        entries
    }

    /// Its process id; 0 where it cannot be seen from here.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The connections that it had at its last report, where it has made any.
    pub fn connections(&self) -> Option<u64> {
        self.connections
    }

    /// The process, where it can be seen.
    pub fn peer(&self) -> Option<&Arc<Process>> {
        self.peer.as_ref()
    }

    /// Waits for its next report, or its end. May be dropped and called again, until it has ended.
    pub async fn event(&mut self) -> Event {
        loop {
            tokio::select! {
                biased;
                received = received(self.reports.as_deref()) => match received {
                    Ok(message) => if self.has_reported(message) {
                        return Event::Reported(mem::take(&mut self.counted));
                    },
                    Err(error) => {
                        debug!(process = self.pid, %error, "draining reports ended");
                        self.reports = None;
                        if self.peer.is_none() {
                            return self.ended().await;
                        }
                    }
                },
                () = ended(self.peer.as_deref()) => {
                    // The unread reports from before its end.
                    while let Some(Ok(Some(received))) = self.reports.as_ref().map(|reports| reports.receive_queued()) {
                        self.has_reported(received.message);
                    }
                    return self.ended().await;
                }
            }
        }
    }

    fn has_reported(&mut self, message: Message) -> bool {
        match message {
            Message::Draining { connections, counters } => {
                self.connections = Some(connections);
                self.counted = self.counted.plus(&counters);
                true
            }
            message => {
                debug!(process = self.pid, received = message.name(), "unexpected message from draining generation");
                false
            }
        }
    }

    async fn ended(&mut self) -> Event {
        if let Some(child) = &mut self.child {
            // Its parent, the starter, is let go next, and reaps it only once it has seen the end
            // itself.
            child.ended().await;
            child.let_go().await;
        }
        Event::Ended(mem::take(&mut self.counted))
    }
}

async fn received(reports: Option<&Channel>) -> Result<Message, Error> {
    match reports {
        Some(channel) => channel.receive().await.map(|received| received.message),
        None => pending().await,
    }
}

async fn ended(peer: Option<&Process>) {
    match peer {
        Some(peer) => peer.ended().await,
        None => pending().await,
    }
}

/// Reports the number of open connections here, and the outcomes of the others, to the process that
/// serves.
///
/// It reports the counts of this process alone. Other processes report to the serving process
/// directly.
#[derive(Debug)]
pub struct Reporter {
    counters: &'static Counters,
    /// The totals that the serving process knows.
    known: Totals,
    /// The number of open connections in the last report.
    open: Option<u64>,
}

impl Reporter {
    /// A reporter for a process that knows everything up to `known`.
    pub fn new(counters: &'static Counters, known: Totals) -> Self {
        Self { counters, known, open: None }
    }

    /// The counts since the offer or the last report, and the snapshot to mark as known once they
    /// are sent.
    pub fn news(&self) -> (Totals, Totals) {
        let here = self.counters.here();
        (here.since(&self.known), here)
    }

    /// Marks a snapshot as known.
    pub fn sent(&mut self, here: Totals) {
        self.known = here;
    }

    /// Reports the changes. Returns `false` if the channel has no room, since no process reads it
    /// during a restart. The next report then includes them.
    pub fn report(&mut self, channel: &Channel) -> bool {
        let (counters, here) = self.news();
        let connections = here.open();
        if self.open == Some(connections) && counters.is_nothing() {
            return true;
        }
        let is_sent = channel.send_now(&Message::Draining { connections, counters });
        if is_sent {
            self.sent(here);
            self.open = Some(connections);
        }
        is_sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reports that have arrived on a channel.
    fn arrived(channel: &Channel) -> (Totals, Option<u64>) {
        let (mut totals, mut open) = (Totals::default(), None);
        while let Some(received) = channel.receive_queued().unwrap() {
            let Message::Draining { connections, counters } = received.message else { panic!("not a report") };
            (totals, open) = (totals.plus(&counters), Some(connections));
        }
        (totals, open)
    }

    #[tokio::test]
    async fn a_report_without_room_is_sent_later_without_loss() {
        let (near, far) = Channel::pair().unwrap();
        let far = Channel::new(far, Side::Successor).unwrap();
        let counters = Counters::of_the_process();
        let mut reporter = Reporter::new(counters, Totals::default());
        counters.accepted();
        while reporter.report(&near) {
            counters.accepted();
        }
        for _ in 0..counters.here().open() {
            counters.finished();
        }
        assert!(!reporter.report(&near), "there is room again, though nothing was read");
        let (before, _) = arrived(&far);
        while !reporter.report(&near) {
            tokio::task::yield_now().await;
        }
        let (after, open) = arrived(&far);
        assert_eq!((before.plus(&after), open), (counters.here(), Some(0)));
        drop(far);
        counters.accepted();
        assert!(reporter.report(&near), "nobody is left to report to");
    }
}
