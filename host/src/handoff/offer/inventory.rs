//! The inventory of a handoff, and the messages that offer it.

use crate::{
    handoff::message::{Entry, MOST_DESCRIPTORS, Message, VERSION},
    record::{
        counters::{Counters, Totals},
        generation::Generation,
    },
};
use std::{collections::VecDeque, os::fd::AsFd, sync::Arc};

/// Everything that a predecessor hands over.
pub struct Inventory {
    /// The generation of the predecessor.
    pub generation: Generation,
    /// Each entry with its descriptor.
    pub things: Vec<(Entry, Arc<dyn AsFd + Send + Sync>)>,
    /// The counts of the service, which continue until the successor serves.
    pub counters: &'static Counters,
}

/// One message of the offer.
pub(super) struct Part {
    pub(super) message: Message,
    pub(super) descriptors: Vec<Arc<dyn AsFd + Send + Sync>>,
}

impl Inventory {
    /// The offer, in as many messages as its descriptors need.
    pub(super) fn parts(&self, totals: &Totals) -> VecDeque<Part> {
        let chunks: Vec<_> = self.things.chunks(MOST_DESCRIPTORS).collect();
        let parts = chunks.len();
        let offers = chunks.into_iter().enumerate().map(|(index, chunk)| Part {
            message: Message::Offer {
                version: VERSION,
                release: env!("CARGO_PKG_VERSION").to_owned(),
                generation: self.generation.number(),
                part: index + 1,
                parts,
                entries: chunk.iter().map(|(entry, _)| entry.clone()).collect(),
                counters: if index == 0 { *totals } else { Totals::default() },
                hears_of_reloads: true,
            },
            descriptors: chunk.iter().map(|(_, descriptor)| Arc::clone(descriptor)).collect(),
        });
        offers.collect()
    }
}
