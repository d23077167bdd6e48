//! The count of connections and guests: its cap, its guard, and the wait until none is left.

use super::quota::{Quotas, Share};
use crate::{record::counters::Counters, wire::draining::Draining};
use std::{
    net::IpAddr,
    num::NonZeroU32,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The connections that are open, of those that may be.
#[derive(Clone, Debug)]
pub struct Connections {
    slots: Arc<Semaphore>,
    emptiness: Arc<Emptiness>,
    cap: u32,
    quotas: Quotas,
    draining: Draining,
    counters: &'static Counters,
}

/// One connection's place in the count. Held from the moment it is accepted until it is closed; dropping it gives the
/// place back, whatever has happened.
#[derive(Debug)]
pub struct Slot {
    place: Place,
    quotas: Quotas,
    share: Option<Share>,
    draining: Draining,
    counters: &'static Counters,
}

/// A place in the count for what a connection has going on beside its first request. Dropping it gives the place back.
#[derive(Debug)]
pub struct Further {
    _place: Place,
    _share: Option<Share>,
}

/// A place in the count: of a connection, or of a further guest of one.
#[derive(Debug)]
struct Place {
    // Fields are dropped in this order: the place is free before anybody looks for it.
    permit: OwnedSemaphorePermit,
    emptiness: Noticed,
}

/// Wakes the task that waits until every place is free. That task holds no place itself, so that further ones can be taken
/// in the meantime: an open connection still gets a place for each of its requests.
#[derive(Debug, Default)]
struct Emptiness {
    awaited: AtomicBool,
    freed: Notify,
}

#[derive(Debug)]
struct Noticed(Arc<Emptiness>);

impl Drop for Noticed {
    fn drop(&mut self) {
        // Sequentially consistent with the wait below: either it sees the free place, or this sees that it is awaited.
        if self.0.awaited.load(Ordering::SeqCst) {
            self.0.freed.notify_waiters();
        }
    }
}

impl Connections {
    /// None open, at most `cap`.
    pub fn new(cap: NonZeroU32) -> Self {
        // tokio's semaphore holds at least half a billion permits on every platform that we build for.
        let slots = Arc::new(Semaphore::new(cap.get() as usize));
        Self {
            slots,
            emptiness: Arc::default(),
            cap: cap.get(),
            quotas: Quotas::default(),
            draining: Draining::default(),
            counters: Counters::of_the_process(),
        }
    }

    /// Waits for a free place and takes it.
    pub async fn slot(&self) -> Slot {
        let place = Place::free(&self.slots, &self.emptiness).await;
        let (quotas, draining) = (self.quotas.clone(), self.draining.clone());
        Slot { place, quotas, share: None, draining, counters: self.counters }
    }

    /// Whether no place is free.
    pub fn full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// How many may be open.
    pub fn cap(&self) -> u32 {
        self.cap
    }

    /// The outcomes of all that were.
    pub fn counters(&self) -> &'static Counters {
        self.counters
    }

    /// How many are open in this process.
    pub fn open(&self) -> u64 {
        self.counters.here().open()
    }

    /// Tells every guest that asks that the end is near.
    pub fn begin_draining(&self) {
        self.draining.begin();
    }

    /// Waits until none is open.
    pub async fn finished(&self) {
        self.emptiness.awaited.store(true, Ordering::SeqCst);
        loop {
            let mut freed = pin!(self.emptiness.freed.notified());
            // Before the look, so that a place which is freed after it is noticed.
            freed.as_mut().enable();
            if self.slots.available_permits() == self.cap as usize {
                return;
            }
            freed.await;
        }
    }
}

impl Place {
    async fn free(slots: &Arc<Semaphore>, emptiness: &Arc<Emptiness>) -> Self {
        match Arc::clone(slots).acquire_owned().await {
            Ok(permit) => Self { permit, emptiness: Noticed(Arc::clone(emptiness)) },
            Err(_closed) => std::future::pending().await, // It is never closed.
        }
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

    /// Waits for another free place and takes it: first for one of those that its address may have, then beside those who wait for
    /// one for a connection. In this order, so that no address has more waiting there than it may have.
    pub async fn further(&self) -> Further {
        let share = match &self.share {
            Some(share) => Some(share.another().await),
            None => None,
        };
        Further { _place: Place::free(self.place.permit.semaphore(), &self.place.emptiness.0).await, _share: share }
    }

    /// The notice that this connection's guest can ask for.
    pub fn notice(&self) -> Draining {
        self.draining.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_waits_for_every_place_and_takes_none() {
        let connections = Connections::new(NonZeroU32::new(3).unwrap());
        let slot = connections.slot().await;
        let finished = tokio::spawn({
            let connections = connections.clone();
            async move { connections.finished().await }
        });
        tokio::task::yield_now().await;
        // An open connection still gets places for further requests.
        let further = slot.further().await;
        assert!(!connections.full());
        drop(slot);
        tokio::task::yield_now().await;
        assert!(!finished.is_finished());
        drop(further);
        finished.await.unwrap();
    }

    #[tokio::test]
    async fn further_places_count_for_the_address() {
        let connections = Connections::new(NonZeroU32::new(10).unwrap());
        let (address, two) = ("192.0.2.1".parse().unwrap(), NonZeroU32::new(2).unwrap());
        let (mut slot, mut other) = (connections.slot().await, connections.slot().await);
        assert!(slot.count_for(address, two));
        let further = slot.further().await;
        assert!(!other.count_for(address, two), "a connection and a guest are two");
        let mut waiting = pin!(slot.further());
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(further);
        drop(waiting.await);
        assert!(other.count_for(address, two));
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
