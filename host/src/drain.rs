//! The count of connections: its cap, its guard, and the wait until none is left.

use crate::{
    counters::Counters,
    quota::{Quotas, Share},
};
use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The connections that are open, of those that may be.
#[derive(Clone, Debug)]
pub struct Connections {
    slots: Arc<Semaphore>,
    /// Places that are no connections.
    further: Arc<AtomicUsize>,
    cap: u32,
    quotas: Quotas,
    draining: Draining,
    counters: &'static Counters,
}

/// One connection's place in the count. Held from the moment it is accepted until it is closed; dropping it gives the
/// place back, whatever has happened.
#[derive(Debug)]
pub struct Slot {
    permit: OwnedSemaphorePermit,
    further: Arc<AtomicUsize>,
    quotas: Quotas,
    share: Option<Share>,
    draining: Draining,
    counters: &'static Counters,
}

/// A place in the count for what a connection has going on beside its first request. Dropping it gives the place back.
#[derive(Debug)]
pub struct Further {
    _permit: OwnedSemaphorePermit,
    count: Arc<AtomicUsize>,
}

impl Drop for Further {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    /// None open, at most `cap`.
    pub fn new(cap: NonZeroU32) -> Self {
        // tokio's semaphore holds at least half a billion permits on every platform that we build for.
        let slots = Arc::new(Semaphore::new(cap.get() as usize));
        Self {
            slots,
            further: Arc::default(),
            cap: cap.get(),
            quotas: Quotas::default(),
            draining: Draining::default(),
            counters: Counters::of_the_process(),
        }
    }

    /// Waits for a free place and takes it.
    pub async fn slot(&self) -> Slot {
        match Arc::clone(&self.slots).acquire_owned().await {
            Ok(permit) => {
                let (quotas, draining) = (self.quotas.clone(), self.draining.clone());
                let further = Arc::clone(&self.further);
                Slot { permit, further, quotas, share: None, draining, counters: self.counters }
            }
            Err(_closed) => std::future::pending().await, // It is never closed.
        }
    }

    /// Whether no place is free.
    pub fn full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// How many may be open.
    pub fn cap(&self) -> u32 {
        self.cap
    }

    /// What has become of all that were.
    pub fn counters(&self) -> &'static Counters {
        self.counters
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        let taken = (self.cap as usize).saturating_sub(self.slots.available_permits());
        taken.saturating_sub(self.further.load(Ordering::Relaxed))
    }

    /// Tells every guest that asks that the end is near.
    pub fn begin_draining(&self) {
        self.draining.0.send_replace(true);
    }

    /// Waits until none is open.
    pub async fn finished(&self) {
        // Whoever holds all places has the guarantee that nobody else holds one.
        drop(self.slots.acquire_many(self.cap).await);
    }
}

impl Slot {
    /// Counts this connection for `address` too, as long as the slot is held; `false` where that has `most` already.
    pub fn count_for(&mut self, address: IpAddr, most: NonZeroU32) -> bool {
        self.share = self.quotas.take(address, most);
        self.share.is_some()
    }

    /// Where it is counted what becomes of this connection.
    pub fn counters(&self) -> &'static Counters {
        self.counters
    }

    /// Waits for another free place, beside those who wait for one for a connection, and takes it.
    pub async fn further(&self) -> Further {
        match Arc::clone(self.permit.semaphore()).acquire_owned().await {
            Ok(permit) => {
                self.further.fetch_add(1, Ordering::Relaxed);
                Further { _permit: permit, count: Arc::clone(&self.further) }
            }
            Err(_closed) => std::future::pending().await, // It is never closed.
        }
    }

    /// The notice that this connection's guest can ask for.
    pub fn notice(&self) -> Draining {
        self.draining.clone()
    }
}

/// The notice that the process waits for its connections to finish.
#[derive(Clone, Debug, Default)]
pub struct Draining(watch::Sender<bool>);

impl Draining {
    /// Whether it does.
    pub fn begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it does.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let mut draining = self.0.subscribe();
        // The sender is here as long as anyone waits, but even if it were not, there would be nothing to wait for.
        async move { drop(draining.wait_for(|draining| *draining).await) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_means_that_every_slot_is_back() {
        let connections = Connections::new(NonZeroU32::new(2).unwrap());
        let slot = connections.slot().await;
        assert_eq!(connections.open(), 1);
        let finished = tokio::spawn({
            let connections = connections.clone();
            async move { connections.finished().await }
        });
        tokio::task::yield_now().await;
        assert!(!finished.is_finished());
        drop(slot);
        finished.await.unwrap();
        assert_eq!(connections.open(), 0);
    }

    #[tokio::test]
    async fn draining_is_seen_by_those_that_ask_before_and_after() {
        let connections = Connections::new(NonZeroU32::MIN);
        let slot = connections.slot().await;
        let notice = slot.notice();
        assert!(!notice.begun());
        let before = notice.wait();
        connections.begin_draining();
        before.await;
        notice.wait().await;
        assert!(notice.begun());
    }
}
