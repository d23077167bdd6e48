//! The other generations of the service that still drain, and their reports.

use super::Serving;
use crate::{
    handoff::draining::{DrainingProcess, Event},
    record::counters::Totals,
};
use futures::future::select_all;
use std::{future::pending, sync::Arc};
use tracing::{info, warn};

impl Serving {
    /// Adds a draining process; `counted` was not added before.
    pub(in crate::lifecycle) fn remember(&mut self, mut process: DrainingProcess, counted: &Totals) {
        let peer = process.peer().map(Arc::clone).ok_or(process.pid());
        let DrainingProcess { generation, rolled_back, .. } = process;
        let counters = self.connections.counters();
        let connections = process.connections();
        process.id.get_or_insert_with(|| counters.drains(generation, rolled_back, peer, connections, counted));
        self.draining.push(process);
    }

    /// The draining processes, as the log and status name them.
    pub(in crate::lifecycle) fn draining(&self) -> Vec<String> {
        let named = self.alive().map(|process| match process.rolled_back {
            true => format!("one that was rolled back (pid {})", process.pid()),
            false => format!("{} (pid {})", process.generation, process.pid()),
        });
        named.collect()
    }

    fn alive(&self) -> impl Iterator<Item = &DrainingProcess> {
        self.draining.iter().filter(|process| process.peer().is_none_or(|peer| !peer.has_ended()))
    }

    /// Connections that are open in other processes, by their last reports.
    pub(in crate::lifecycle) fn open_elsewhere(&self) -> u64 {
        self.draining.iter().filter_map(DrainingProcess::connections).fold(0, u64::saturating_add)
    }

    /// Makes other generations reopen the log: the pidfile no longer names them.
    pub(in crate::lifecycle) fn reopen_earlier_logs(&self) {
        self.draining.iter().filter_map(DrainingProcess::peer).for_each(|peer| peer.hang_up());
    }

    pub(super) fn reported(&mut self, (index, event): (usize, Event)) {
        let counters = self.connections.counters();
        // Each has an id since it was added.
        let Some(id) = self.draining[index].id else { return };
        let connections = self.draining[index].connections();
        let last = match event {
            Event::Reported(counted) => return counters.reported_by(id, connections, &counted),
            Event::Ended(last) => last,
        };
        let lost = counters.ended(id, connections, &last);
        let process = self.draining.swap_remove(index);
        let (generation, pid) = (process.generation, process.pid());
        if lost > 0 {
            warn!(
                draining = %generation, process = pid, lost,
                "draining generation died");
        } else {
            info!(draining = %generation, process = pid, "draining generation finished");
        }
    }
}

/// Waits for the next event of any of them.
pub(super) async fn next_event(draining: &mut [DrainingProcess]) -> (usize, Event) {
    if draining.is_empty() {
        return pending().await;
    }
    let events = draining.iter_mut().map(|process| Box::pin(process.event()));
    let (event, index, _) = select_all(events).await;
    (index, event)
}
