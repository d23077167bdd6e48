//! The generations beside this one: those that drain, and those that gave the service back.

use super::Serving;
use crate::{
    admin::Other,
    handoff::{
        Generation,
        adopt::{self, Predecessor},
        offer::Successor,
        peer::Peer,
    },
};
use futures::future::select_all;
use std::{future::pending, sync::Arc};
use tracing::{debug, info};

impl Serving {
    /// A generation that drains from now on, or did when it was last heard of.
    pub(in crate::lifecycle) fn remember(&mut self, generation: Generation, peer: Arc<Peer>) {
        self.earlier.push((generation, peer));
    }

    /// A successor that serves no more, and finishes what it has accepted.
    pub(in crate::lifecycle) fn release(&mut self, successor: Successor) {
        self.released.push(successor);
    }

    /// Other generations that finish what they have, as an operator is shown them.
    pub(in crate::lifecycle) fn others(&mut self) -> Vec<Other> {
        let predecessor = self.predecessor.as_ref().and_then(Predecessor::peer);
        let left = self.left_to_predecessor;
        let earlier = self.earlier().iter().map(|(generation, peer)| Other {
            generation: Some(*generation),
            connections: left.filter(|_| predecessor.as_ref().is_some_and(|before| before.pid() == peer.pid())),
            peer: Ok(Arc::clone(peer)),
        });
        let mut others: Vec<_> = earlier.collect();
        others.extend(self.released.iter().map(|successor| Other {
            generation: None,
            peer: Err(successor.pid()),
            connections: None,
        }));
        others
    }

    /// Those that drain, as they are named to an operator.
    pub(in crate::lifecycle) fn draining(&mut self) -> Vec<String> {
        let earlier = self.earlier().iter().map(|(generation, peer)| format!("{generation} (pid {})", peer.pid()));
        let mut draining: Vec<_> = earlier.collect();
        draining.extend(
            self.released.iter().map(|successor| format!("one that was rolled back (pid {})", successor.pid())),
        );
        draining
    }

    /// The earlier generations that drain.
    fn earlier(&mut self) -> &[(Generation, Arc<Peer>)] {
        self.earlier.retain(|(_, peer)| !peer.has_ended());
        &self.earlier
    }

    /// Has earlier generations open the log anew, and later ones that were rolled back: no pidfile names them any more.
    pub(in crate::lifecycle) fn reopen_earlier_logs(&mut self) {
        self.earlier().iter().for_each(|(_, peer)| peer.hang_up());
        self.released.iter().for_each(Successor::hang_up);
    }

    pub(super) fn predecessor_said(&mut self, event: adopt::Event) {
        if let Some(predecessor) = &mut self.predecessor {
            let counters = self.connections.counters();
            predecessor.counted().iter().for_each(|more| counters.add(more));
        }
        match event {
            adopt::Event::Draining(connections) => {
                debug!(connections, "the predecessor drains");
                self.left_to_predecessor = Some(connections);
            }
            adopt::Event::Gone => {
                info!("the predecessor has finished");
                self.predecessor = None;
                self.earlier();
            }
            adopt::Event::Silent => self.predecessor = None,
            event => debug!(?event, "the predecessor says what is not due; it is ignored"),
        }
    }
}

/// Waits until one of them has ended, and reaps it.
pub(super) async fn ended(released: &mut Vec<Successor>) {
    if released.is_empty() {
        return pending().await;
    }
    let ends = released.iter_mut().map(|successor| Box::pin(successor.reaped()));
    let ((), first, _) = select_all(ends).await;
    released.swap_remove(first);
}

/// What the predecessor says, while it has something to say.
pub(super) async fn told(predecessor: &mut Option<Predecessor>) -> adopt::Event {
    match predecessor {
        Some(predecessor) => predecessor.event().await,
        None => pending().await,
    }
}
