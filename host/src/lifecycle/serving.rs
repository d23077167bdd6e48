//! The parts of a serving process, and the events that it handles in every state.

mod event;
mod generations;
mod reload;

pub(super) use event::{Busy, Event};

use self::{generations::next_event, reload::Reload};
use super::{pidfile::PidFile, watch::Watch};
use crate::{
    admin::{Endpoint, Listening},
    connection::{accept, drain::Connections, service::Service},
    guest::About,
    handoff::{draining::DrainingProcess, handoff_socket::HandoffSocket, message::Entry, offer::inventory::Inventory},
    net::{Bind, Incoming, Key, Listener, ListenerAddress},
    record::{counters::DrainingId, exit::Exit, generation::Generation},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Weak},
};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

/// Everything that a serving process has.
pub(super) struct Serving {
    open: Vec<Open>,
    acceptors: JoinSet<()>,
    /// Retired listeners that are being emptied.
    retiring: JoinSet<()>,
    /// Retired listeners, to count the connections that they leave.
    retired: Vec<Weak<Listener>>,
    pub(super) connections: Connections,
    reload: Option<Reload>,
    /// The watcher of plugin files, with `--watch`.
    pub(super) watch: Option<Watch>,
    pub(super) handoff_socket: Option<HandoffSocket>,
    pub(super) endpoint: Option<Endpoint>,
    /// Handoff sockets of the predecessor that this process does not serve, until the predecessor
    /// lets go.
    pub(super) unclaimed_handoff_sockets: Vec<HandoffSocket>,
    pub(super) pidfile: Option<PidFile>,
    /// A pidfile that could not be written yet.
    pub(super) unwritten: Option<PathBuf>,
    /// Other processes of the service that drain.
    draining: Vec<DrainingProcess>,
    /// Within the window: the id under which the predecessor's connections are counted.
    pub(super) before: Option<DrainingId>,
    /// Whether some listeners do not accept because descriptors ran out.
    incomplete: bool,
    /// A reload that its successor was told to do. This process does it as well if it serves again.
    pub(super) reload_with_successor: bool,
}

/// A listener that can accept at once.
pub(super) struct Ready {
    pub(super) listener: Listener,
    pub(super) incoming: Incoming,
    pub(super) wanted: Wanted,
    pub(super) shared: Shared,
}

/// A listener of the configuration, or all passed sockets of one name.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) bind: Bind,
    pub(super) key: Key,
    /// The service of its connections.
    pub(super) service: Arc<Service>,
}

/// A listener, and the task that accepts on it, if any.
struct Open {
    listener: Arc<Listener>,
    wanted: Wanted,
    shared: Shared,
    acceptor: Option<AbortHandle>,
}

/// Whether a listener also belongs to a predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    /// It does, and the predecessor decides about its options and path.
    WithPredecessor,
    /// Only this process owns it.
    No,
}

/// What happens to earlier generations that still drain when this process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// They go on until their connections have finished.
    GoOn,
    /// They are killed. Either this is the service manager's main process, or it is the first
    /// process of its pid namespace, and the kernel kills the rest.
    EndWithThis,
}

impl Serving {
    /// Starts to accept. Nothing here can fail: a predecessor relies on it.
    pub(super) fn new(listeners: Vec<Ready>, connections: Connections) -> Self {
        let mut serving = Self {
            open: Vec::new(),
            acceptors: JoinSet::new(),
            retiring: JoinSet::new(),
            retired: Vec::new(),
            connections,
            reload: None,
            watch: None,
            handoff_socket: None,
            endpoint: None,
            unclaimed_handoff_sockets: Vec::new(),
            pidfile: None,
            unwritten: None,
            draining: Vec::new(),
            before: None,
            incomplete: false,
            reload_with_successor: false,
        };
        for Ready { listener, incoming, wanted, shared } in listeners {
            let accepting = accept::serve(incoming, serving.connections.clone(), Arc::clone(&wanted.service));
            let acceptor = Some(serving.acceptors.spawn(accepting));
            serving.open.push(Open { listener: Arc::new(listener), wanted, shared, acceptor });
        }
        serving
    }

    /// Accepts on every listener without an accept loop. A listener for which that fails is retried
    /// later.
    ///
    /// # Errors
    ///
    /// The first failure, if descriptors have run out.
    pub(super) fn accept(&mut self) -> std::io::Result<()> {
        let mut outcome = Ok(());
        for Open { listener, acceptor, wanted, .. } in self.open.iter_mut().filter(|open| open.acceptor.is_none()) {
            match listener.incoming() {
                Ok(incoming) => {
                    let accepting = accept::serve(incoming, self.connections.clone(), Arc::clone(&wanted.service));
                    *acceptor = Some(self.acceptors.spawn(accepting));
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if let Some(endpoint) = &mut self.endpoint {
            outcome = outcome.and(endpoint.open());
        }
        self.incomplete = outcome.is_err();
        outcome
    }

    /// Stops accepting on these listeners, which stay open and leave the reactor.
    pub(super) fn pause(&mut self, keys: &[Key]) {
        for Open { listener, acceptor, .. } in &mut self.open {
            if keys.contains(listener.key())
                && let Some(acceptor) = acceptor.take()
            {
                acceptor.abort();
            }
        }
    }

    /// Lets go of the listeners that a successor serves, and retires the others.
    pub(super) async fn hand_over(&mut self, claimed: &[Key]) {
        self.pause(claimed);
        self.watch = None;
        self.open.retain(|open| !claimed.contains(open.listener.key()));
        // A new request for the service must not wait for a process that no longer serves.
        self.handoff_socket = None;
        self.retire().await;
    }

    /// Retires every listener: serves its queued connections and closes it.
    async fn retire(&mut self) {
        self.connections.begin_draining();
        // Each accept loop has a copy of the socket. The listener closes only after the copy.
        self.acceptors.shutdown().await;
        for Open { listener, wanted, .. } in self.open.drain(..) {
            if listener.key().is_passed() {
                info!(address = %listener.address(), "passed listener closed");
                continue;
            }
            self.retired.push(Arc::downgrade(&listener));
            self.retiring.spawn(accept::retire(listener, self.connections.clone(), wanted.service));
        }
    }

    /// Waits until every retired listener is closed and every connection has finished. May be
    /// dropped and called again.
    pub(super) async fn finished(&mut self) {
        while self.retiring.join_next().await.is_some() {}
        self.connections.finished().await;
    }

    /// The same, and adds the reports of other generations meanwhile. It also waits for these
    /// `others` if they end with this process.
    pub(super) async fn all_finished(&mut self, others: Others) {
        loop {
            let Self { retiring, connections, draining, .. } = self;
            let waits_for_others = others == Others::EndWithThis && !draining.is_empty();
            let own = async {
                while retiring.join_next().await.is_some() {}
                connections.finished().await;
            };
            tokio::select! {
                reported = next_event(draining) => self.reported(reported),
                () = own, if !waits_for_others => return,
            }
        }
    }

    /// How many connections wait at retired listeners, as far as the system tells.
    pub(super) fn queued(&self) -> u32 {
        self.retired.iter().filter_map(|listener| Some(listener.upgrade()?.queue()?.waiting)).sum()
    }

    /// The exit code after the drain timeout, which would have been `well`. A listener that only
    /// waits for late arrivals leaves no connection behind.
    pub(super) fn out_of_time(&self, well: Exit, others: Others) -> Exit {
        let elsewhere = match others {
            Others::EndWithThis => self.open_elsewhere(),
            Others::GoOn => 0,
        };
        match (self.connections.open(), self.queued(), elsewhere) {
            (0, 0, 0) => {
                info!("all connections finished");
                well
            }
            (open, queued, 0) => {
                warn!(open, queued, "drain timed out, closing connections");
                Exit::CutShort
            }
            (open, queued, elsewhere) => {
                let generations = self.draining().join(", ");
                warn!(open, queued, elsewhere, generations, "drain timed out, closing connections");
                Exit::CutShort
            }
        }
    }

    /// The addresses of its listeners.
    pub(super) fn addresses(&self) -> Vec<ListenerAddress> {
        self.open.iter().map(|open| open.listener.address().clone()).collect()
    }

    /// Whether any connection is encrypted.
    pub(super) fn speaks_tls(&self) -> bool {
        self.open.iter().any(|open| open.wanted.service.tls.is_some())
    }

    /// Everything that a successor is offered.
    pub(super) fn inventory(&self, generation: Generation, ticket_keys: Option<Arc<OwnedFd>>) -> Inventory {
        let mut inventory = Inventory { generation, things: Vec::new(), counters: self.connections.counters() };
        for Open { listener, .. } in &self.open {
            let entry = Entry::Listener { key: listener.key().clone(), file: listener.file() };
            inventory.things.push((entry, Arc::clone(listener) as Arc<dyn AsFd + Send + Sync>));
        }
        if let Some(handoff_socket) = &self.handoff_socket {
            let entry = Entry::HandoffSocket { path: handoff_socket.path().to_owned(), file: handoff_socket.file() };
            inventory.things.push((entry, handoff_socket.socket()));
        }
        if let Some(endpoint) = &self.endpoint {
            let entry = Entry::Admin { key: endpoint.key().clone(), file: endpoint.file() };
            inventory.things.push((entry, endpoint.socket()));
        }
        inventory.things.extend(ticket_keys.map(|file| (Entry::TicketKeys {}, file as _)));
        inventory.things.extend(self.draining.iter().flat_map(DrainingProcess::entries));
        inventory
    }

    /// Makes the listeners that were shared with a predecessor this process's own.
    pub(super) fn own(&mut self, backlog: u32) {
        for Open { listener, wanted, shared, .. } in &mut self.open {
            if *shared == Shared::WithPredecessor
                && let Err(error) = listener.settled(&wanted.bind, backlog)
            {
                warn!(address = %listener.address(), %error, "listener options not applied");
            }
            *shared = Shared::No;
        }
        if let Some(handoff_socket) = &mut self.handoff_socket {
            handoff_socket.settled();
        }
        if let Some(Err(error)) = self.endpoint.as_ref().map(Endpoint::settled) {
            warn!(%error, "admin socket mode not applied");
        }
        for mut handoff_socket in self.unclaimed_handoff_sockets.drain(..) {
            handoff_socket.settled();
            handoff_socket.remove();
        }
    }

    /// Stops serving in favour of the predecessor. Shared listeners go back to it; this process
    /// retires the others.
    pub(super) async fn hand_back(&mut self) {
        let shared: Vec<_> = self
            .open
            .iter()
            .filter(|open| open.shared == Shared::WithPredecessor)
            .map(|open| open.listener.key().clone())
            .collect();
        self.handoff_socket.iter().for_each(HandoffSocket::remove);
        self.endpoint = None;
        self.unclaimed_handoff_sockets.clear();
        self.hand_over(&shared).await;
    }

    /// Stops serving for good, without a successor.
    pub(super) async fn stop(&mut self) {
        self.watch = None;
        self.retire().await;
        if let Some(handoff_socket) = self.handoff_socket.take() {
            handoff_socket.remove();
        }
    }

    /// Its listeners, for the status.
    pub(super) fn listening(&self) -> Vec<Listening> {
        let shown = self.open.iter().map(|Open { listener, wanted, acceptor, .. }| Listening {
            address: listener.address().to_string(),
            accepting: acceptor.is_some(),
            tls: wanted.service.tls.is_some(),
            plugins: wanted.service.plugins().map(|plugin| plugin.name().to_string()).collect(),
        });
        shown.collect()
    }

    /// The plugins that it serves, each once.
    pub(super) fn plugins(&self) -> Vec<Arc<About>> {
        let mut plugins: Vec<Arc<About>> = Vec::new();
        for about in self.open.iter().flat_map(|open| open.wanted.service.plugins()).map(|plugin| plugin.about()) {
            if !plugins.iter().any(|known| Arc::ptr_eq(known, about)) {
                plugins.push(Arc::clone(about));
            }
        }
        plugins
    }
}
