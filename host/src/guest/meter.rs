//! CPU time: how long a guest runs, its bound, and when it counts as one that computes for long.
//!
//! The engine's epoch advances once a [`TICK`]. A guest that is still running then is interrupted for a look at the clock. After
//! a [`SLICE`] in which its connection has moved no byte it yields at each tick, and after [`HEAVY`] it goes on in the `background`.

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

/// What a guest may use while its connection moves no byte before it lets others run in between. Waits do not help it.
const SLICE: Duration = TICK.saturating_mul(2);

/// The same before it counts as heavy: several times what an interpreter takes to start, whose guests would else wait for each other.
const HEAVY: Duration = TICK.saturating_mul(10);

/// The CPU time of one guest.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Duration,
    movement: Arc<Movement>,
    clock: Arc<Clock>,
    origin: Instant,
    /// When the slice began, in nanoseconds after `origin`.
    slice_began: AtomicU64,
    /// What the thread had used when it was last looked at in this slice, in nanoseconds; 0 where it was not.
    counted_until: AtomicU64,
    /// In nanoseconds: what was used since a byte moved, which was at `spent_since`.
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

    /// Whether the guest was interrupted in the middle of a long computation, rather than that it waits.
    pub(super) fn yielding(&self) -> bool {
        self.yielding.load(Ordering::Relaxed)
    }

    /// Whether the guest has computed for long since its connection last moved a byte.
    pub(super) fn heavy(&self) -> bool {
        self.spent() >= HEAVY
    }

    /// Where the guest runs from now on. Threads of the background may rest in the middle of a slice, so that the clock on the wall
    /// tells nothing there.
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

    /// What was used since a byte last moved.
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

    /// Counts what the thread has used. Asking the kernel for that costs more than most slices last, so a slice is timed by the clock on
    /// the wall until its first tick: it has lasted no longer than that, whatever else the machine or a SIGSTOP did meanwhile.
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

/// What this thread has used of a processor, in nanoseconds; never 0.
fn thread_time() -> u64 {
    // It fails for clocks that do not exist, and this one does.
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or_default().max(1)
}

/// A guest's call with its meter running while it runs.
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
