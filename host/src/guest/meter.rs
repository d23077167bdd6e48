//! CPU time: how long a guest runs, its limit, and when it counts as heavy.
//!
//! The engine's epoch advances once a [`TICK`]. A guest that is running then is interrupted to
//! check the clock. After a [`SLICE`] in which its connection has moved no byte it yields at each
//! tick, and after [`HEAVY`] it continues in the `background`.

use super::late_start::Learner;
use crate::{
    component::engine::{Clock, TICK},
    wire::Movement,
};
use nix::time::{ClockId, clock_gettime};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use wasmtime::UpdateDeadline;

/// CPU time without a byte on its connection after which a guest yields to others. Waiting does not
/// reset it.
const SLICE: Duration = TICK.saturating_mul(2);

/// CPU time without a byte after which a guest is heavy: several times the start of an interpreter,
/// so that starting guests do not queue behind each other.
const HEAVY: Duration = TICK.saturating_mul(10);

/// The CPU time of one guest.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Duration,
    movement: Arc<Movement>,
    clock: Arc<Clock>,
    origin: Instant,
    /// The start of the slice, in nanoseconds after `origin`.
    slice_began: AtomicU64,
    /// The thread's CPU time in nanoseconds at the last look in this slice; 0 before the first
    /// look.
    counted_until: AtomicU64,
    /// CPU time in nanoseconds since a byte moved, at `spent_since`.
    spent: AtomicU64,
    spent_since: AtomicU64,
    yielding: AtomicBool,
    in_background: AtomicBool,
    exhausted: AtomicBool,
}

impl Meter {
    pub(super) fn new(budget: Duration, movement: &Arc<Movement>, clock: &Arc<Clock>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            movement: Arc::clone(movement),
            clock: Arc::clone(clock),
            origin: Instant::now(),
            slice_began: AtomicU64::new(0),
            counted_until: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            spent_since: AtomicU64::new(0),
            yielding: AtomicBool::new(false),
            in_background: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
        })
    }

    /// The CPU time that the guest may use while its connection moves no byte.
    pub(super) fn budget(&self) -> Duration {
        self.budget
    }

    /// Whether the guest was stopped because it had used its budget.
    pub(super) fn exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Whether the guest was interrupted in a long computation, and is not waiting.
    pub(super) fn yielding(&self) -> bool {
        self.yielding.load(Ordering::Relaxed)
    }

    /// Whether the guest is heavy since its connection last moved a byte.
    pub(super) fn heavy(&self) -> bool {
        self.spent() >= HEAVY
    }

    /// Sets where the guest runs from now on. Background threads may pause in the middle of a
    /// slice, so the wall clock does not measure one there.
    pub(super) fn in_background(&self, whether: bool) {
        self.in_background.store(whether, Ordering::Relaxed);
    }

    /// Called by the engine when the epoch has advanced under a running guest.
    pub(super) fn tick(&self) -> UpdateDeadline {
        self.clock.guest_runs();
        let now = thread_time();
        self.count(now, self.counted_until.swap(now, Ordering::Relaxed));
        if self.spent() > self.budget {
            self.exhausted.store(true, Ordering::Relaxed);
            return UpdateDeadline::Interrupt;
        }
        if self.spent() < SLICE {
            return UpdateDeadline::Continue(1);
        }
        self.yielding.store(true, Ordering::Relaxed);
        UpdateDeadline::Yield(1)
    }

    /// The CPU time since a byte last moved.
    fn spent(&self) -> Duration {
        let moved =
            u64::try_from(self.movement.last().saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX);
        if self.spent_since.swap(moved, Ordering::Relaxed) != moved {
            self.spent.store(0, Ordering::Relaxed);
        }
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    fn slice_begins(&self) {
        self.clock.guest_runs();
        self.yielding.store(false, Ordering::Relaxed);
        self.slice_began.store(self.elapsed(), Ordering::Relaxed);
        let counted_until = if self.in_background.load(Ordering::Relaxed) { thread_time() } else { 0 };
        self.counted_until.store(counted_until, Ordering::Relaxed);
    }

    fn slice_ends(&self) {
        let counted_until = self.counted_until.load(Ordering::Relaxed);
        self.count(if counted_until == 0 { 0 } else { thread_time() }, counted_until);
    }

    /// Counts the CPU time of the thread. Asking the kernel costs more than most slices last, so
    /// the wall clock times a slice until its first tick: it cannot have lasted longer, whatever
    /// the machine or a SIGSTOP did meanwhile.
    fn count(&self, now: u64, counted_until: u64) {
        let used = if counted_until == 0 {
            self.elapsed().saturating_sub(self.slice_began.load(Ordering::Relaxed)).min(TICK.as_nanos() as u64)
        } else {
            now.saturating_sub(counted_until)
        };
        self.spent.fetch_add(used, Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The CPU time of this thread in nanoseconds; never 0.
fn thread_time() -> u64 {
    // It fails only for clocks that do not exist.
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or_default().max(1)
}

/// A guest's call, with its meter running while it runs.
pub(super) struct Metered<'a, F> {
    call: Pin<&'a mut F>,
    meter: &'a Meter,
    learner: Learner,
}

impl<'a, F: Future> Metered<'a, F> {
    pub(super) fn new(call: Pin<&'a mut F>, meter: &'a Meter, learner: Learner) -> Self {
        Self { call, meter, learner }
    }
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.meter.slice_begins();
        let polled = self.call.as_mut().poll(context);
        self.meter.slice_ends();
        if polled.is_pending() && !self.meter.yielding() {
            self.learner.wants_input();
        }
        polled
    }
}
