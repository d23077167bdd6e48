//! The outcomes of connections, restarts and reloads. Each process counts its own and hands them
//! over, so that the totals of a service continue across restarts.
//!
//! Every connection is counted twice: when it is accepted, and when it ends. So `accepted` minus
//! all that have ended is the number of open connections, in each process and over all of them.

use super::{failure::Reason, generation::Generation};
use crate::system::process::Process;
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The counts of this process, and those that other processes of the service have reported to it.
#[derive(Debug, Default)]
pub struct Counters {
    elsewhere: Mutex<Elsewhere>,
    accepted: AtomicU64,
    refused: AtomicU64,
    finished: AtomicU64,
    requests: AtomicU64,
    failed: [AtomicU64; Reason::ALL.len()],
    restarts: AtomicU64,
    restarts_failed: AtomicU64,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
}

/// The reports of other processes of the service: their totals, and the connections of those that
/// drain. Both change together, so that the totals always agree with the connections that are open
/// there.
#[derive(Clone, Debug, Default)]
struct Elsewhere {
    totals: Totals,
    draining: Vec<Draining>,
    /// The number of draining processes ever added.
    known: u64,
}

/// Another process of the service, which finishes the connections that it has accepted.
#[derive(Clone, Debug)]
pub struct Draining {
    id: DrainingId,
    /// Its generation.
    pub generation: Generation,
    /// Whether it returned the service to its predecessor.
    pub rolled_back: bool,
    /// The process, if it is visible; otherwise its process id, or 0.
    pub peer: Result<Arc<Process>, i32>,
    /// Its open connections at its last report; `None` before the first report.
    pub connections: Option<u64>,
}

/// The id of a draining process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainingId(u64);

/// The whole service at one moment.
#[derive(Debug)]
pub struct Service {
    /// The totals of the service.
    pub totals: Totals,
    /// The connections that are open in this process.
    pub open: u64,
    /// The other processes that still have connections.
    pub draining: Vec<Draining>,
}

/// The values of the counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Totals {
    /// Accepted connections.
    pub accepted: u64,
    /// Connections that were closed because the network rules reject their peers.
    pub refused: u64,
    /// Connections that finished without an error.
    pub finished: u64,
    /// HTTP requests for which the host made a guest.
    pub requests: u64,
    /// Connections that failed, by reason.
    pub failed: Failed,
    /// Restarts that have settled.
    pub restarts: u64,
    /// Restarts that were rejected, failed or rolled back.
    pub restarts_failed: u64,
    /// Reloads that took effect.
    pub reloads: u64,
    /// Reloads that failed and changed nothing.
    pub reloads_failed: u64,
}

/// Failed connections by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are the reasons")]
pub struct Failed {
    pub error: u64,
    pub trap: u64,
    pub memory: u64,
    pub cpu_time: u64,
    pub wall_time: u64,
    pub idle: u64,
    pub peer_reset: u64,
    pub client_certificate: u64,
    pub drain: u64,
    pub host: u64,
}

impl Counters {
    /// Counters that live as long as the process, so that connections need no reference count for
    /// them.
    pub fn of_the_process() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Counts an accepted connection.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection whose peer may not connect.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Release);
    }

    /// Counts a connection that ended well.
    pub(crate) fn finished(&self) {
        self.finished.fetch_add(1, Ordering::Release);
    }

    /// Counts an HTTP request for which the host makes a guest.
    pub(crate) fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that failed.
    pub(crate) fn failed(&self, reason: Reason) {
        self.failed[reason as usize].fetch_add(1, Ordering::Release);
    }

    /// Counts a restart that is over. `well`: the successor serves.
    pub(crate) fn restarted(&self, well: bool) {
        if well { &self.restarts } else { &self.restarts_failed }.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a reload that is over. `well`: it took effect.
    pub(crate) fn reloaded(&self, well: bool) {
        if well { &self.reloads } else { &self.reloads_failed }.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the counts of another process.
    pub fn add(&self, more: &Totals) {
        let mut elsewhere = self.elsewhere();
        elsewhere.totals = elsewhere.totals.plus(more);
    }

    /// Adds a draining process. `counted` must not have been added before.
    pub fn drains(
        &self,
        generation: Generation,
        rolled_back: bool,
        peer: Result<Arc<Process>, i32>,
        connections: Option<u64>,
        counted: &Totals,
    ) -> DrainingId {
        let mut elsewhere = self.elsewhere();
        elsewhere.totals = elsewhere.totals.plus(counted);
        elsewhere.known += 1;
        let id = DrainingId(elsewhere.known);
        elsewhere.draining.push(Draining { id, generation, rolled_back, peer, connections });
        id
    }

    /// Records the report of a draining process.
    pub fn reported_by(&self, id: DrainingId, connections: Option<u64>, counted: &Totals) {
        let mut elsewhere = self.elsewhere();
        elsewhere.totals = elsewhere.totals.plus(counted);
        elsewhere.draining.iter_mut().filter(|draining| draining.id == id).for_each(|draining| {
            draining.connections = connections;
        });
    }

    /// Removes a draining process that has ended. Its open connections ended with it, and no report
    /// says how: they count as failed, so that each connection is in one total. Returns their
    /// number.
    pub fn ended(&self, id: DrainingId, connections: Option<u64>, counted: &Totals) -> u64 {
        let lost = connections.unwrap_or_default();
        let failed = Totals { failed: Failed::with(Reason::Host, lost), ..Totals::default() };
        let mut elsewhere = self.elsewhere();
        elsewhere.totals = elsewhere.totals.plus(counted).plus(&failed);
        elsewhere.draining.retain(|draining| draining.id != id);
        lost
    }

    /// The whole service at this moment, as far as this process knows it.
    pub fn service(&self) -> Service {
        let elsewhere = self.elsewhere();
        let here = self.here();
        Service { totals: here.plus(&elsewhere.totals), open: here.open(), draining: elsewhere.draining.clone() }
    }

    /// The totals of the service, as far as this process knows them.
    pub fn totals(&self) -> Totals {
        self.here().plus(&self.reported())
    }

    /// The totals that other processes have reported.
    pub fn reported(&self) -> Totals {
        self.elsewhere().totals
    }

    fn elsewhere(&self) -> MutexGuard<'_, Elsewhere> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The totals of this process alone.
    pub fn here(&self) -> Totals {
        // A connection ends after it was accepted, so `accepted` is read last: a snapshot never has
        // more ends than accepts.
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let mut here = Totals {
            refused: read(&self.refused),
            finished: read(&self.finished),
            requests: read(&self.requests),
            restarts: read(&self.restarts),
            restarts_failed: read(&self.restarts_failed),
            reloads: read(&self.reloads),
            reloads_failed: read(&self.reloads_failed),
            ..Totals::default()
        };
        for reason in Reason::ALL {
            *here.failed.for_reason(reason) = read(&self.failed[reason as usize]);
        }
        here.accepted = read(&self.accepted);
        here
    }
}

impl Totals {
    /// Accepted connections that have not ended.
    pub fn open(&self) -> u64 {
        let failed = Reason::ALL.map(|reason| self.failed.of(reason)).into_iter().fold(0, u64::saturating_add);
        let ended = self.refused.saturating_add(self.finished).saturating_add(failed);
        self.accepted.saturating_sub(ended)
    }

    /// The counts since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.each(earlier, u64::saturating_sub)
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        self.each(more, u64::saturating_add)
    }

    fn each(&self, other: &Self, combine: fn(u64, u64) -> u64) -> Self {
        let mut failed = Failed::default();
        for reason in Reason::ALL {
            *failed.for_reason(reason) = combine(self.failed.of(reason), other.failed.of(reason));
        }
        Self {
            accepted: combine(self.accepted, other.accepted),
            refused: combine(self.refused, other.refused),
            finished: combine(self.finished, other.finished),
            requests: combine(self.requests, other.requests),
            failed,
            restarts: combine(self.restarts, other.restarts),
            restarts_failed: combine(self.restarts_failed, other.restarts_failed),
            reloads: combine(self.reloads, other.reloads),
            reloads_failed: combine(self.reloads_failed, other.reloads_failed),
        }
    }

    /// Whether all counts are 0.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Failed {
    /// Failures for one reason.
    pub(crate) fn with(reason: Reason, count: u64) -> Self {
        let mut failed = Self::default();
        *failed.for_reason(reason) = count;
        failed
    }

    /// The failures for this reason.
    pub fn of(mut self, reason: Reason) -> u64 {
        *self.for_reason(reason)
    }

    fn for_reason(&mut self, reason: Reason) -> &mut u64 {
        match reason {
            Reason::Error => &mut self.error,
            Reason::Trap => &mut self.trap,
            Reason::Memory => &mut self.memory,
            Reason::CpuTime => &mut self.cpu_time,
            Reason::WallTime => &mut self.wall_time,
            Reason::Idle => &mut self.idle,
            Reason::PeerReset => &mut self.peer_reset,
            Reason::ClientCertificate => &mut self.client_certificate,
            Reason::Drain => &mut self.drain,
            Reason::Host => &mut self.host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_several_processes_add_up() {
        let (here, there) = (Counters::default(), Counters::default());
        for reason in Reason::ALL {
            there.accepted();
            there.failed(reason);
        }
        let told = there.totals();
        there.accepted();
        there.finished();
        there.asked();
        there.refused();
        there.restarted(true);
        there.restarted(false);
        there.reloaded(true);
        there.reloaded(false);
        here.add(&told);
        here.add(&there.totals().since(&told));
        assert_eq!(here.totals(), there.totals());
        assert!(there.totals().since(&there.totals()).is_nothing());
        assert_eq!(told.failed.of(Reason::CpuTime), 1);
    }
}
