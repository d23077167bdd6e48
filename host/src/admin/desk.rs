//! The queue between the endpoint and the lifecycle: commands go one way, the status the other.
//! Reading the status does not disturb the lifecycle.

use super::{
    order::Order,
    status::{Snapshot, Status},
};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, watch};

/// Most connections at once. Silent ones are closed for new ones; those that wait for an outcome
/// stay.
pub(super) const MOST_CONNECTIONS: u32 = 32;

/// The endpoint's side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    pub(super) orders: mpsc::Sender<Order>,
    snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) places: Arc<Semaphore>,
}

/// The lifecycle's side.
#[derive(Debug)]
pub struct Inbox {
    orders: mpsc::Receiver<Order>,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    places: Arc<Semaphore>,
}

/// A new queue: both of its sides.
pub fn open() -> (Desk, Inbox) {
    let (sender, orders) = mpsc::channel(1);
    let (publish, snapshot) = watch::channel(None);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    let desk = Desk { orders: sender, snapshot, places: Arc::clone(&places) };
    (desk, Inbox { orders, snapshot: publish, places })
}

impl Desk {
    /// The current status; `None` before the process serves.
    pub(super) fn status(&self) -> Option<Status> {
        let snapshot = self.snapshot.borrow().clone();
        snapshot.map(|snapshot| Status::of(&snapshot))
    }
}

impl Inbox {
    /// The next command. Never ends, and may be dropped and called again.
    pub async fn order(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            None => std::future::pending().await, // Whoever gives orders later has the lifecycle's own desk.
        }
    }

    /// Publishes a new snapshot of the process.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.send_replace(Some(Arc::new(snapshot)));
    }

    /// Waits until every request has its answer.
    pub async fn finished(&mut self) {
        // Dropping the queued commands answers them.
        self.orders.close();
        while self.orders.try_recv().is_ok() {}
        drop(self.places.acquire_many(MOST_CONNECTIONS).await);
    }
}
