//! The activity of a connection that carries requests: how many are open, since when none is, and
//! since when a head is awaited. From this follows when it has been idle for too long.

use crate::{
    record::failure::Reason,
    wire::{Movement, Wire},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time};

/// How long a client may take to send the head of a request, from its first byte on.
/// `--idle-timeout` applies if it is shorter.
const LONGEST_HEAD: Duration = Duration::from_secs(30);

/// One connection's requests.
#[derive(Debug)]
pub(super) struct Traffic {
    wire: Arc<Wire>,
    idle_timeout: Option<Duration>,
    /// Requests that are being answered.
    open: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// When a request last began or ended.
    change: Movement,
    /// Whether the first bytes of a head have arrived, and when.
    in_head: AtomicBool,
    head: Movement,
    /// Whether several requests share the connection, so that moving bytes cannot be attributed to
    /// one.
    multiplexed: AtomicBool,
    /// Notified when a request has been answered.
    ended: Notify,
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub(super) struct Underway(Arc<Traffic>);

impl Traffic {
    pub(super) fn new(wire: &Arc<Wire>, idle_timeout: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            wire: Arc::clone(wire),
            idle_timeout,
            open: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            change: Movement::default(),
            in_head: AtomicBool::new(true),
            head: Movement::default(),
            multiplexed: AtomicBool::new(false),
            ended: Notify::new(),
        })
    }

    /// Counts a new request. Returns its number on the connection, from 1, and its guard.
    pub(super) fn begin(self: &Arc<Self>) -> (u64, Underway) {
        self.in_head.store(false, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        self.change.note();
        (self.requests.fetch_add(1, Ordering::Relaxed) + 1, Underway(Arc::clone(self)))
    }

    /// Bytes have arrived: those of a body, or the first of the next head.
    pub(super) fn received(&self) {
        if self.is_quiet() && !self.in_head.swap(true, Ordering::Relaxed) {
            self.head.note();
        }
    }

    /// The connection is HTTP/2 from here on.
    pub(super) fn is_multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    /// Restarts the idle time.
    pub(super) fn note_change(&self) {
        self.change.note();
    }

    /// Waits until no request is being answered.
    pub(super) async fn quiet(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_quiet() {
                return;
            }
            ended.await;
        }
    }

    /// Whether no request is being answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Waits until no request has been answered and none has arrived for this long.
    pub(super) async fn quiet_for(&self, span: Duration) {
        loop {
            let since = if self.is_quiet() { self.change.last() } else { Instant::now() };
            let due = since + span;
            if due <= Instant::now() {
                return;
            }
            time::sleep_until(due.into()).await;
        }
    }

    /// Waits until a client without a request has been silent or has taken too long to send one, or
    /// until it does not read the responses of finished requests. A request that is being answered
    /// has its own deadlines.
    pub(super) async fn expired(&self) -> Reason {
        let longest_head = self.idle_timeout.map_or(LONGEST_HEAD, |idle| idle.min(LONGEST_HEAD));
        loop {
            // No deadline that begins meanwhile is due earlier.
            let mut due = Instant::now() + longest_head;
            if self.is_quiet() {
                let multiplexed = self.multiplexed.load(Ordering::Relaxed);
                if self.in_head.load(Ordering::Relaxed) && !multiplexed {
                    due = due.min(self.head.last() + longest_head);
                }
                if let Some(timeout) = self.idle_timeout {
                    let change = self.change.last();
                    let last = if multiplexed { change } else { change.max(self.wire.last_byte()) };
                    due = due.min(last + timeout);
                }
            } else if let Some(timeout) = self.idle_timeout {
                // Requests have ended by then and their responses would move bytes, so the client
                // does not read.
                due = due.min(self.change.last().max(self.wire.last_byte()) + 2 * timeout);
            }
            if due <= Instant::now() {
                return Reason::Idle;
            }
            time::sleep_until(due.into()).await;
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let Self(traffic) = self;
        traffic.change.note();
        traffic.open.fetch_sub(1, Ordering::Relaxed);
        traffic.ended.notify_one();
    }
}
