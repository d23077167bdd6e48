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

/// The open connections, up to the cap.
#[derive(Clone, Debug)]
pub struct Connections {
    slots: Arc<Semaphore>,
    emptiness: Arc<Emptiness>,
    cap: u32,
    quotas: Quotas,
    draining: Draining,
    counters: &'static Counters,
}

/// One connection's slot in the count. It is held from accept to close; dropping it gives the slot
/// back in every case.
#[derive(Debug)]
pub struct Slot {
    place: Place,
    quotas: Quotas,
    share: Option<Share>,
    draining: Draining,
    counters: &'static Counters,
}

/// A slot for a further guest of a connection, beside its first request. Dropping it gives the slot
/// back.
#[derive(Debug)]
pub struct Further {
    _place: Place,
    _share: Option<Share>,
}

/// A permit of the count: for a connection, or for a further guest of one.
#[derive(Debug)]
struct Place {
    // Fields drop in this order: the permit is free before a waiting task looks for it.
    permit: OwnedSemaphorePermit,
    emptiness: Noticed,
}

/// Wakes the task that waits until every permit is free. That task holds no permit itself, so
/// others can be taken meanwhile: an open connection still gets one for each of its requests.
#[derive(Debug, Default)]
struct Emptiness {
    awaited: AtomicBool,
    freed: Notify,
}

#[derive(Debug)]
struct Noticed(Arc<Emptiness>);

impl Drop for Noticed {
    fn drop(&mut self) {
        // Sequentially consistent with the wait below: either the wait sees the free permit, or
        // this sees the waiting task.
        if self.0.awaited.load(Ordering::SeqCst) {
            self.0.freed.notify_waiters();
        }
    }
}

impl Connections {
    /// No connection open, at most `cap`.
    pub fn new(cap: NonZeroU32) -> Self {
        // tokio's semaphore holds at least half a billion permits on every supported platform.
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

    /// Waits for a free slot and takes it.
    pub async fn slot(&self) -> Slot {
        let place = Place::free(&self.slots, &self.emptiness).await;
        let (quotas, draining) = (self.quotas.clone(), self.draining.clone());
        Slot { place, quotas, share: None, draining, counters: self.counters }
    }

    /// Whether no slot is free.
    pub fn full(&self) -> bool {
        self.slots.available_permits() == 0
    }

    /// The cap.
    pub fn cap(&self) -> u32 {
        self.cap
    }

    /// The outcomes of all connections.
    pub fn counters(&self) -> &'static Counters {
        self.counters
    }

    /// Connections that are open in this process.
    pub fn open(&self) -> u64 {
        self.counters.here().open()
    }

    /// Signals every guest that asks that the process drains.
    pub fn begin_draining(&self) {
        self.draining.begin();
    }

    /// Waits until no connection is open.
    pub async fn finished(&self) {
        self.emptiness.awaited.store(true, Ordering::SeqCst);
        loop {
            let mut freed = pin!(self.emptiness.freed.notified());
            // Set before the check, so that a permit which is freed after it wakes this task.
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
    /// Counts this connection for `address` too, as long as the slot is held. Returns `false` if
    /// the address has `most` already.
    pub fn count_for(&mut self, address: IpAddr, most: NonZeroU32) -> bool {
        self.share = self.quotas.take(address, most);
        self.share.is_some()
    }

    /// The counters for the outcome of this connection.
    pub fn counters(&self) -> &'static Counters {
        self.counters
    }

    /// Waits for a further slot: first within the limit of its address, then among the waiting
    /// connections. In this order no address has more waiters there than its limit.
    pub async fn further(&self) -> Further {
        let share = match &self.share {
            Some(share) => Some(share.another().await),
            None => None,
        };
        Further { _place: Place::free(self.place.permit.semaphore(), &self.place.emptiness.0).await, _share: share }
    }

    /// The drain notice that this connection's guest can ask for.
    pub fn notice(&self) -> Draining {
        self.draining.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_waits_for_every_slot_without_taking_one() {
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
    async fn further_slots_count_for_the_address() {
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
    async fn guests_see_the_drain_notice_before_and_after_it_begins() {
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
