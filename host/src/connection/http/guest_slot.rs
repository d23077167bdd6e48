//! The slots of guests. A connection brings a slot for one guest. Concurrent requests on it take
//! further slots, in the same queue as connections. So there are never more guests than
//! `--max-connections`, and each connection can always have one.

use crate::connection::drain::{Further, Slot};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of one connection's guests.
#[derive(Debug)]
pub(super) struct GuestSlots {
    slot: Arc<Slot>,
    own: Arc<Semaphore>,
}

/// A slot for one guest, for as long as it is held.
#[derive(Debug)]
pub(super) enum GuestSlot {
    /// The connection's own slot, which is free again after the connection is closed and this is
    /// dropped.
    Own(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit, #[expect(dead_code, reason = "held")] Arc<Slot>),
    /// A further slot.
    Further(#[expect(dead_code, reason = "held")] Further),
}

impl GuestSlots {
    pub(super) fn new(slot: &Arc<Slot>) -> Self {
        Self { slot: Arc::clone(slot), own: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for a slot: its own, as soon as that is free, or a further one.
    pub(super) async fn next(&self) -> GuestSlot {
        let own = Arc::clone(&self.own);
        let guest_slot = tokio::select! {
            biased;
            // The semaphore is never closed.
            Ok(permit) = own.acquire_owned() => GuestSlot::Own(permit, Arc::clone(&self.slot)),
            further = self.slot.further() => GuestSlot::Further(further),
        };
        self.slot.counters().asked();
        guest_slot
    }
}
