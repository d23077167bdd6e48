//! When something last moved: the bytes of a connection, or those of one request on it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The moment of the last movement. What is idle, and since when, is told by it.
#[derive(Debug)]
pub struct Movement {
    begun: Instant,
    /// In microseconds after `begun`.
    last: AtomicU64,
}

impl Default for Movement {
    fn default() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Movement {
    /// When there was any; the beginning, where there was none.
    pub fn last(&self) -> Instant {
        self.begun + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }

    /// There is some now.
    pub fn note(&self) {
        // A u64 of microseconds lasts for half a million years.
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
}
