//! The count of connections and guests: its cap, its guard, and the wait until none is left.

use crate::{
    counters::Counters,
    quota::{Quotas, Share},
};
use std::{
    net::IpAddr,
    num::NonZeroU32,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// The connections that are open, of those that may be.
#[derive(Clone, Debug)]
pub struct Connections {
    slots: Arc<Semaphore>,
    taken: Arc<Taken>,
    cap: u32,
    quotas: Quotas,
    draining: Draining,
    counters: &'static Counters,
}

/// The places that are taken. The semaphore cannot tell: one who waited for all of its places would keep further ones from those who
/// come later, and would hold places that are free.
#[derive(Debug, Default)]
struct Taken {
    connections: AtomicUsize,
    /// Places of guests beside the connection's own.
    further: AtomicUsize,
    /// Told when the last one is given back.
    none: Notify,
}

impl Taken {
    fn is_none(&self) -> bool {
        self.connections.load(Ordering::SeqCst) == 0 && self.further.load(Ordering::SeqCst) == 0
    }

    fn give_back(&self, count: &AtomicUsize) {
        count.fetch_sub(1, Ordering::SeqCst);
        if self.is_none() {
            self.none.notify_waiters();
        }
    }
}

/// One connection's place in the count. Held from the moment it is accepted until it is closed; dropping it gives the
/// place back, whatever has happened.
#[derive(Debug)]
pub struct Slot {
    permit: OwnedSemaphorePermit,
    taken: Arc<Taken>,
    quotas: Quotas,
    share: Option<Share>,
    draining: Draining,
    counters: &'static Counters,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.give_back(&self.taken.connections);
    }
}

/// A place in the count for what a connection has going on beside its first request. Dropping it gives the place back.
#[derive(Debug)]
pub struct Further {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
    taken: Arc<Taken>,
}

impl Drop for Further {
    fn drop(&mut self) {
        self.taken.give_back(&self.taken.further);
    }
}

impl Connections {
    /// None open, at most `cap`.
    pub fn new(cap: NonZeroU32) -> Self {
        // tokio's semaphore holds at least half a billion permits on every platform that we build for.
        let slots = Arc::new(Semaphore::new(cap.get() as usize));
        Self {
            slots,
            taken: Arc::default(),
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
                let taken = Arc::clone(&self.taken);
                taken.connections.fetch_add(1, Ordering::SeqCst);
                Slot { permit, taken, quotas, share: None, draining, counters: self.counters }
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
        self.taken.connections.load(Ordering::SeqCst)
    }

    /// Tells every guest that asks that the end is near.
    pub fn begin_draining(&self) {
        self.draining.0.send_replace(true);
    }

    /// Waits until none is open, and no guest is left.
    pub async fn finished(&self) {
        loop {
            let mut none = pin!(self.taken.none.notified());
            // From here on no notice is missed.
            none.as_mut().enable();
            if self.taken.is_none() {
                return;
            }
            none.await;
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
        match Arc::clone(self.permit.semaphore()).acquire_owned().await {
            Ok(permit) => {
                self.taken.further.fetch_add(1, Ordering::SeqCst);
                Further { _permit: permit, _share: share, taken: Arc::clone(&self.taken) }
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
    async fn waiting_for_the_end_takes_no_places() {
        let connections = Connections::new(NonZeroU32::new(3).unwrap());
        let slot = connections.slot().await;
        let mut finished = pin!(connections.finished());
        assert!(futures::poll!(&mut finished).is_pending());
        assert_eq!(connections.open(), 1);
        let further = slot.further().await;
        assert_eq!(connections.open(), 1, "a guest is no connection");
        drop(slot);
        assert!(futures::poll!(&mut finished).is_pending(), "a guest is left");
        drop(further);
        finished.await;
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
