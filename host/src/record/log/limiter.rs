//! Limits on how often a record is written, for what peers and plugins can cause.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Lets through so many in a burst and so many a second after it, and counts what it does not let through.
#[derive(Debug)]
pub struct Limiter {
    burst: u32,
    every: Duration,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    filled: Instant,
    suppressed: u64,
}

impl Limiter {
    /// `burst` at once, then `rate` a second.
    pub fn new(burst: u32, rate: u32) -> Self {
        Self {
            burst,
            every: Duration::from_secs(1) / rate.max(1),
            bucket: Mutex::new(Bucket { tokens: burst, filled: Instant::now(), suppressed: 0 }),
        }
    }

    /// One in each `period`.
    pub fn one_in(period: Duration) -> Self {
        Self { every: period, ..Self::new(1, 1) }
    }

    /// Whether one more may pass: `Some` with how many did not since the last that did.
    pub fn pass(&self) -> Option<u64> {
        let mut bucket = self.bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let periods = bucket.filled.elapsed().as_nanos() / self.every.as_nanos().max(1);
        if let Ok(periods @ 1..) = u32::try_from(periods.min(u128::from(self.burst))) {
            bucket.tokens = bucket.tokens.saturating_add(periods).min(self.burst);
            bucket.filled = Instant::now();
        }
        if let Some(left) = bucket.tokens.checked_sub(1) {
            bucket.tokens = left;
            Some(std::mem::take(&mut bucket.suppressed))
        } else {
            bucket.suppressed += 1;
            None
        }
    }

    /// How many did not pass and have not been reported.
    pub fn suppressed(&self) -> u64 {
        std::mem::take(&mut self.bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner).suppressed)
    }
}

/// A count as a field of a record: left out where it is 0, since nothing was left out of the log then.
pub fn counted(suppressed: u64) -> Option<u64> {
    Some(suppressed).filter(|suppressed| *suppressed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limiter_counts_what_it_holds_back() {
        let limiter = Limiter::new(2, 1);
        assert_eq!([limiter.pass(), limiter.pass(), limiter.pass(), limiter.pass()], [Some(0), Some(0), None, None]);
        assert_eq!(limiter.suppressed(), 2);
        assert_eq!(limiter.suppressed(), 0);
    }
}
