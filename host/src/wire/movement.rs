//! The time of the last movement: of a connection's bytes, or of one request on it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The time of the last movement, from which idle time is measured.
#[derive(Debug)]
pub struct Movement {
    begun: Instant,
    /// Microseconds since `begun`.
    last: AtomicU64,
}

impl Default for Movement {
    fn default() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Movement {
    /// The last movement; before the first, the beginning.
    pub fn last(&self) -> Instant {
        self.begun + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }

    /// Records a movement now.
    pub fn note(&self) {
        // A u64 of microseconds lasts for half a million years.
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
}
