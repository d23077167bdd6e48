//! Rate limits for records that peers and plugins can cause.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Lets a burst pass, then a number of events a second, and counts those that it holds back.
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
    /// Lets `burst` events pass at once, then `rate` a second.
    pub fn new(burst: u32, rate: u32) -> Self {
        Self {
            burst,
            every: Duration::from_secs(1) / rate.max(1),
            bucket: Mutex::new(Bucket { tokens: burst, filled: Instant::now(), suppressed: 0 }),
        }
    }

    /// Lets one event pass in each `period`.
    pub fn one_in(period: Duration) -> Self {
        Self { every: period, ..Self::new(1, 1) }
    }

    /// Whether one more event may pass: `Some` with the number held back since the last one that
    /// passed.
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

    /// The number of events held back and not yet reported.
    pub fn suppressed(&self) -> u64 {
        std::mem::take(&mut self.bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner).suppressed)
    }
}

/// A count as a field of a record; `None` for 0, so that the record has the field only if something
/// was left out.
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
