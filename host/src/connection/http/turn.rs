//! Who may have a guest. A connection brings a place for one guest, its own; what else is being answered on it at the same time
//! takes a place as further connections do, so that there are never more guests than `--max-connections`, and each connection
//! can have one whatever the others do.

use crate::connection::drain::{Further, Slot};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one connection's guests.
#[derive(Debug)]
pub(super) struct Turns {
    slot: Arc<Slot>,
    own: Arc<Semaphore>,
}

/// A place for one guest, for as long as it is held.
#[derive(Debug)]
pub(super) enum Turn {
    /// The connection's own, which is not free again before the connection is closed and this is dropped.
    Own(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit, #[expect(dead_code, reason = "held")] Arc<Slot>),
    /// Another one.
    Further(#[expect(dead_code, reason = "held")] Further),
}

impl Turns {
    pub(super) fn new(slot: &Arc<Slot>) -> Self {
        Self { slot: Arc::clone(slot), own: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for a place: its own, as soon as that is free, or another one.
    pub(super) async fn next(&self) -> Turn {
        let own = Arc::clone(&self.own);
        let turn = tokio::select! {
            biased;
            // It is never closed.
            Ok(permit) = own.acquire_owned() => Turn::Own(permit, Arc::clone(&self.slot)),
            further = self.slot.further() => Turn::Further(further),
        };
        self.slot.counters().asked();
        turn
    }
}
