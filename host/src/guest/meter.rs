//! CPU time: how long a guest holds a worker, its bound, and fairness among guests that compute for long.
//!
//! The engine's epoch advances once a [`TICK`]. A guest that is still running then is interrupted for a look at the clock. After
//! a [`SLICE`] it yields its worker at each tick, and goes on only with one of the permits for heavy guests, of which there is one fewer
//! than workers: guests that only compute slow each other down, and leave a worker to all others.

use crate::wire::Movement;
use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
};
use wasmtime::UpdateDeadline;

use super::{
    engine::{Clock, TICK},
    late_start::Learner,
};

/// What a guest may use while its connection moves no byte without being counted as heavy. Waits in between do not help it.
const SLICE: Duration = TICK.saturating_mul(2);

/// The permits of guests that compute for long.
#[derive(Clone, Debug)]
pub(super) struct Heavy(Arc<Semaphore>);

impl Heavy {
    pub(super) fn new(workers: NonZeroU32) -> Self {
        Self(Arc::new(Semaphore::new((workers.get() as usize - 1).max(1))))
    }
}

/// The CPU time of one guest.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Duration,
    movement: Arc<Movement>,
    heavy: Heavy,
    clock: Arc<Clock>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    origin: Instant,
    /// In nanoseconds after `origin`.
    counted_until: AtomicU64,
    /// In nanoseconds: what was used since a byte moved, which was at `spent_since`.
    spent: AtomicU64,
    spent_since: AtomicU64,
    yielding: AtomicBool,
    exhausted: AtomicBool,
}

impl Meter {
    pub(super) fn new(budget: Duration, movement: &Arc<Movement>, heavy: &Heavy, clock: &Arc<Clock>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            movement: Arc::clone(movement),
            heavy: heavy.clone(),
            clock: Arc::clone(clock),
            permit: Mutex::new(None),
            origin: Instant::now(),
            counted_until: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            spent_since: AtomicU64::new(0),
            yielding: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
        })
    }

    /// Whether the guest was stopped because it had used its budget.
    pub(super) fn exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Called by the engine when the epoch has advanced under a running guest.
    pub(super) fn tick(self: &Arc<Self>) -> wasmtime::Result<UpdateDeadline> {
        self.clock.guest_runs();
        self.account();
        let used = self.spent();
        if used > self.budget {
            self.exhausted.store(true, Ordering::Relaxed);
            return Ok(UpdateDeadline::Interrupt);
        }
        if used < SLICE {
            return Ok(UpdateDeadline::Continue(1));
        }
        self.yielding.store(true, Ordering::Relaxed);
        let meter = Arc::clone(self);
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                // Gives back the permit of the last slice, so that whoever waits for it goes first.
                yield_now().await;
                meter.release();
                // The semaphore is never closed.
                let permit = Arc::clone(&meter.heavy.0).acquire_owned().await.ok();
                *meter.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
                meter.yielding.store(false, Ordering::Relaxed);
            }),
        ))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
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
        self.counted_until.store(self.now(), Ordering::Relaxed);
    }

    fn slice_ends(&self) {
        self.account();
        self.release();
    }

    /// Counts what was used since it was last counted. A running guest is interrupted at every tick: where a tick seems to
    /// have lasted much longer, not the guest ran but the process was stopped, or the machine did something else.
    fn account(&self) {
        const LONGEST_TICK: u64 = 4 * TICK.as_nanos() as u64;
        let now = self.now();
        let used = now.saturating_sub(self.counted_until.swap(now, Ordering::Relaxed));
        self.spent.fetch_add(used.min(LONGEST_TICK), Ordering::Relaxed);
    }

    fn release(&self) {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
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
        if polled.is_pending() && !self.meter.yielding.load(Ordering::Relaxed) {
            self.learner.wants_input();
        }
        polled
    }
}
