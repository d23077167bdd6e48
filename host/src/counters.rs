//! What has become of connections, restarts and reloads: counted by each process, and passed on to the next, so that the totals of
//! a service go on through its restarts.

use crate::guest::Reason;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a process. Each is added to by itself: their sum is exact when nothing is under way.
#[derive(Debug, Default)]
pub struct Counters {
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

/// What counters have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Totals {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were closed because their peers may not connect.
    pub refused: u64,
    /// Connections that ended well.
    pub finished: u64,
    /// Requests of HTTP that guests were made for.
    pub requests: u64,
    /// Connections that ended otherwise.
    pub failed: Failed,
    /// Restarts that have settled.
    pub restarts: u64,
    /// Restarts that were refused, failed or rolled back.
    pub restarts_failed: u64,
    /// Reloads that took effect.
    pub reloads: u64,
    /// Reloads that changed nothing, since something was wrong.
    pub reloads_failed: u64,
}

/// Connections by the reason for which they failed.
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
    /// Counters that are there for as long as the process: connections pay for no reference of their own.
    pub fn of_the_process() -> &'static Self {
        Box::leak(Box::default())
    }

    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Its peer may not connect.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// It ended well.
    pub(crate) fn finished(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// A guest is made for a request of it.
    pub(crate) fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// It ended otherwise.
    pub(crate) fn failed(&self, reason: Reason) {
        self.failed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A restart is over: whether the successor is the service.
    pub(crate) fn restarted(&self, well: bool) {
        if well { &self.restarts } else { &self.restarts_failed }.fetch_add(1, Ordering::Relaxed);
    }

    /// A reload is over: whether it took effect.
    pub(crate) fn reloaded(&self, well: bool) {
        if well { &self.reloads } else { &self.reloads_failed }.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what another process has counted.
    pub fn add(&self, more: &Totals) {
        let pairs = [
            (&self.accepted, more.accepted),
            (&self.refused, more.refused),
            (&self.finished, more.finished),
            (&self.requests, more.requests),
            (&self.restarts, more.restarts),
            (&self.restarts_failed, more.restarts_failed),
            (&self.reloads, more.reloads),
            (&self.reloads_failed, more.reloads_failed),
        ];
        let failed = Reason::ALL.map(|reason| more.failed.of(reason));
        for (counter, more) in pairs.into_iter().chain(self.failed.iter().zip(failed)) {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// What they have come to.
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut totals = Totals {
            accepted: read(&self.accepted),
            refused: read(&self.refused),
            finished: read(&self.finished),
            requests: read(&self.requests),
            failed: Failed::default(),
            restarts: read(&self.restarts),
            restarts_failed: read(&self.restarts_failed),
            reloads: read(&self.reloads),
            reloads_failed: read(&self.reloads_failed),
        };
        for reason in Reason::ALL {
            *totals.failed.for_reason(reason) = read(&self.failed[reason as usize]);
        }
        totals
    }
}

impl Totals {
    /// What was counted since they were `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut failed = Failed::default();
        for reason in Reason::ALL {
            *failed.for_reason(reason) = self.failed.of(reason).saturating_sub(earlier.failed.of(reason));
        }
        Self {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            refused: self.refused.saturating_sub(earlier.refused),
            finished: self.finished.saturating_sub(earlier.finished),
            requests: self.requests.saturating_sub(earlier.requests),
            failed,
            restarts: self.restarts.saturating_sub(earlier.restarts),
            restarts_failed: self.restarts_failed.saturating_sub(earlier.restarts_failed),
            reloads: self.reloads.saturating_sub(earlier.reloads),
            reloads_failed: self.reloads_failed.saturating_sub(earlier.reloads_failed),
        }
    }

    /// Whether there is anything to tell: nothing is said of nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Failed {
    /// How many for this reason.
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
    fn what_is_counted_here_and_there_adds_up() {
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
