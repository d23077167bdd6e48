//! The queue between the endpoint and the lifecycle: commands go one way, the status the other.
//! Reading the status does not disturb the lifecycle.

use super::{
    command::Command,
    status::{Snapshot, Status},
};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, watch};

/// Most connections at once. Silent ones are closed for new ones; those that wait for an outcome
/// stay.
pub(super) const MOST_CONNECTIONS: u32 = 32;

/// The endpoint's side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(super) commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) places: Arc<Semaphore>,
}

/// The lifecycle's side.
#[derive(Debug)]
pub struct Inbox {
    commands: mpsc::Receiver<Command>,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    places: Arc<Semaphore>,
}

/// A new queue: both of its sides.
pub fn open() -> (Queue, Inbox) {
    let (sender, commands) = mpsc::channel(1);
    let (publish, snapshot) = watch::channel(None);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    let queue = Queue { commands: sender, snapshot, places: Arc::clone(&places) };
    (queue, Inbox { commands, snapshot: publish, places })
}

impl Queue {
    /// The current status; `None` before the process serves.
    pub(super) fn status(&self) -> Option<Status> {
        let snapshot = self.snapshot.borrow().clone();
        snapshot.map(|snapshot| Status::of(&snapshot))
    }
}

impl Inbox {
    /// The next command. Never ends, and may be dropped and called again.
    pub async fn command(&mut self) -> Command {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await, // The lifecycle holds a sender itself.
        }
    }

    /// Publishes a new snapshot of the process.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.send_replace(Some(Arc::new(snapshot)));
    }

    /// Waits until every request has its answer.
    pub async fn finished(&mut self) {
        // Dropping the queued commands answers them.
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        drop(self.places.acquire_many(MOST_CONNECTIONS).await);
    }
}
