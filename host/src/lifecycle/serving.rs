//! What a process that serves consists of, and what goes on in it whatever its state.

use crate::{
    accept,
    admin::{Endpoint, Listening, Other},
    bind::{Bind, Incoming, Key, Listener, ListenerAddress},
    config::Config,
    counters::Totals,
    drain::Connections,
    exit::Exit,
    guest::About,
    handoff::{
        Generation,
        adopt::{self, Predecessor},
        door::{Door, Visitor},
        message::Entry,
        offer::{Estate, Successor},
        peer::Peer,
    },
    pidfile::PidFile,
    service::{Service, Services},
    tls::TicketKeys,
    watch::{Saved, Watch},
};
use futures::future::select_all;
use std::{
    collections::HashMap,
    future::pending,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    task::{AbortHandle, JoinHandle, JoinSet},
    time,
};
use tracing::{debug, error, field, info, warn};

/// How often it is tried to accept where descriptors had run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How often it is tried to write a pidfile that could not be written.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Everything that a process has once it serves.
pub(super) struct Serving {
    open: Vec<Open>,
    acceptors: JoinSet<()>,
    /// Listeners that take no more arrivals and are emptied.
    retiring: JoinSet<()>,
    /// Of those, for the count of what they leave behind.
    retired: Vec<Weak<Listener>>,
    pub(super) connections: Connections,
    reload: Option<Reload>,
    /// Who says when the files of plugins have changed, where that is wanted.
    pub(super) watch: Option<Watch>,
    pub(super) door: Option<Door>,
    pub(super) endpoint: Option<Endpoint>,
    /// Handoff sockets of the predecessor that nobody will have when it has let go.
    pub(super) unclaimed_doors: Vec<Door>,
    pub(super) pidfile: Option<PidFile>,
    /// A pidfile that could not be written yet.
    pub(super) unwritten: Option<PathBuf>,
    /// Earlier generations that drained when they were last heard of.
    earlier: Vec<(Generation, Arc<Peer>)>,
    /// The one before this, as long as it has something to say.
    pub(super) predecessor: Option<Predecessor>,
    /// How many connections that had when it was last heard of.
    left_to_predecessor: Option<u64>,
    /// What others had counted when this process began.
    pub(super) inherited: Totals,
    /// Successors that gave the service back, until they have ended.
    released: Vec<Successor>,
    /// Whether there are listeners on which nobody accepts for want of a descriptor.
    incomplete: bool,
    /// A reload that its successor was told to do, and that is this process's should it serve again.
    pub(super) reload_with_successor: bool,
}

/// A listener on which it can be accepted at once.
pub(super) struct Ready {
    pub(super) listener: Listener,
    pub(super) incoming: Incoming,
    pub(super) wanted: Wanted,
    pub(super) shared: Shared,
}

/// What a configuration asks for: a listener, or all that are passed under a name.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) bind: Bind,
    pub(super) key: Key,
    /// What connections get there.
    pub(super) service: Arc<Service>,
}

/// A listener, and who accepts on it, where anybody does.
struct Open {
    listener: Arc<Listener>,
    wanted: Wanted,
    shared: Shared,
    acceptor: Option<AbortHandle>,
}

/// Whether a listener is a predecessor's as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    /// It is, and its options and its path are for that to decide.
    WithPredecessor,
    /// It is this process's own.
    No,
}

/// What is being read to replace what is served.
struct Reload {
    loading: JoinHandle<Result<Fresh, String>>,
    config: Arc<Config>,
    ticket_keys: Arc<TicketKeys>,
    /// The change of a plugin because of which it is done, where nobody has asked.
    saved: Option<Saved>,
    /// It was asked for once more meanwhile: what is being read may be out of date.
    again: bool,
}

/// What a reload has read.
struct Fresh {
    services: Services,
    watch: Option<Watch>,
    binds: HashMap<Key, Bind>,
    /// The options that stay as they are until the next restart.
    differing: Vec<String>,
}

/// What else a process is at, which keeps it from other things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// Nothing.
    Not,
    /// It has taken over, and its predecessor could still serve again.
    TakingOver,
    /// It hands over, or has. What is asked of the service meanwhile is put off, or done by the successor.
    HandingOver(&'static str),
}

impl Busy {
    /// Why visitors are refused.
    fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Not => None,
            Self::TakingOver => Some("this process has just taken over; try again when its predecessor has let go"),
            Self::HandingOver(reason) => Some(reason),
        }
    }
}

/// What goes on besides signals and handoffs.
pub(super) enum Event {
    /// A successor that nobody here started asks for the service.
    Visitor(Box<Visitor>),
    /// The file of a plugin has changed.
    Saved(Saved),
    /// A reload is over: it took effect, or why it did not.
    Reloaded(Result<(), String>),
    /// Something that an operator is shown has changed.
    Changed,
    /// Something that cannot happen: a listener is no longer served.
    Bug(String),
}

impl Serving {
    /// Begins to accept. Nothing here can fail: a predecessor relies on it.
    pub(super) fn new(listeners: Vec<Ready>, connections: Connections) -> Self {
        let mut serving = Self {
            open: Vec::new(),
            acceptors: JoinSet::new(),
            retiring: JoinSet::new(),
            retired: Vec::new(),
            connections,
            reload: None,
            watch: None,
            door: None,
            endpoint: None,
            unclaimed_doors: Vec::new(),
            pidfile: None,
            unwritten: None,
            earlier: Vec::new(),
            predecessor: None,
            left_to_predecessor: None,
            inherited: Totals::default(),
            released: Vec::new(),
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

    /// Accepts on every listener on which nobody does. Where that fails for one, it is tried again by and by.
    ///
    /// # Errors
    ///
    /// The first, where descriptors have run out.
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

    /// Stops accepting on these listeners, which stay open, and out of the reactor's sight.
    pub(super) fn pause(&mut self, keys: &[Key]) {
        for Open { listener, acceptor, .. } in &mut self.open {
            if keys.contains(listener.key())
                && let Some(acceptor) = acceptor.take()
            {
                acceptor.abort();
            }
        }
    }

    /// Lets go of the listeners that a successor serves, and retires those that nobody will serve.
    pub(super) async fn hand_over(&mut self, claimed: &[Key]) {
        self.pause(claimed);
        self.watch = None;
        self.open.retain(|open| !claimed.contains(open.listener.key()));
        // Whoever asks for the service from here on must not wait for a process that no longer has it.
        self.door = None;
        self.retire().await;
    }

    /// Retires every listener: serves what is queued there, and closes it.
    async fn retire(&mut self) {
        self.connections.begin_draining();
        // Each has a copy of its socket: only when that is closed can the listener be.
        self.acceptors.shutdown().await;
        for Open { listener, wanted, .. } in self.open.drain(..) {
            if listener.key().is_passed() {
                info!(address = %listener.address(), "listener closed here; what is queued there waits for whoever serves it next");
                continue;
            }
            self.retired.push(Arc::downgrade(&listener));
            self.retiring.spawn(accept::retire(listener, self.connections.clone(), wanted.service));
        }
    }

    /// Waits until every retired listener is closed and every connection has finished. May be dropped and called again.
    pub(super) async fn finished(&mut self) {
        while self.retiring.join_next().await.is_some() {}
        self.connections.finished().await;
    }

    /// How many connections wait at retired listeners, as far as the system tells.
    pub(super) fn queued(&self) -> u32 {
        self.retired.iter().filter_map(|listener| Some(listener.upgrade()?.queue()?.waiting)).sum()
    }

    /// The drain timeout has passed: how this process ends, which would have ended `well`. A listener that is only being listened to
    /// for the last time leaves nobody behind.
    pub(super) fn out_of_time(&self, well: Exit) -> Exit {
        match (self.connections.open(), self.queued()) {
            (0, 0) => {
                info!("every connection has finished");
                well
            }
            (open, queued) => {
                warn!(open, queued, "the drain timeout has passed; what is left is cut");
                Exit::CutShort
            }
        }
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> Vec<ListenerAddress> {
        self.open.iter().map(|open| open.listener.address().clone()).collect()
    }

    /// What was counted by this process alone.
    pub(super) fn counted_here(&self) -> Totals {
        self.connections.counters().totals().since(&self.inherited)
    }

    /// Whether any connection is encrypted.
    pub(super) fn speaks_tls(&self) -> bool {
        self.open.iter().any(|open| open.wanted.service.tls.is_some())
    }

    /// What a successor is offered.
    pub(super) fn estate(&self, generation: Generation, ticket_keys: Option<Arc<OwnedFd>>) -> Estate {
        let mut estate = Estate { generation, things: Vec::new(), counters: self.connections.counters() };
        for Open { listener, .. } in &self.open {
            let entry = Entry::Listener { key: listener.key().clone(), file: listener.file() };
            estate.things.push((entry, Arc::clone(listener) as Arc<dyn AsFd + Send + Sync>));
        }
        if let Some(door) = &self.door {
            let entry = Entry::HandoffSocket { path: door.path().to_owned(), file: door.file() };
            estate.things.push((entry, door.socket()));
        }
        if let Some(endpoint) = &self.endpoint {
            let entry = Entry::Admin { key: endpoint.key().clone(), file: endpoint.file() };
            estate.things.push((entry, endpoint.socket()));
        }
        estate.things.extend(ticket_keys.map(|file| (Entry::TicketKeys {}, file as _)));
        for (generation, peer) in &self.earlier {
            let entry = Entry::Generation { generation: generation.number(), pid: peer.pid() };
            estate.things.push((entry, Arc::clone(peer) as _));
        }
        estate
    }

    /// What was shared with a predecessor is this process's own from now on.
    pub(super) fn own(&mut self, backlog: u32) {
        for Open { listener, wanted, shared, .. } in &mut self.open {
            if *shared == Shared::WithPredecessor
                && let Err(error) = listener.settled(&wanted.bind, backlog)
            {
                warn!(address = %listener.address(), %error, "the backlog or the mode of a listener stays as the predecessor had it");
            }
            *shared = Shared::No;
        }
        if let Some(door) = &mut self.door {
            door.settled();
        }
        if let Some(Err(error)) = self.endpoint.as_ref().map(Endpoint::settled) {
            warn!(%error, "the mode of the admin endpoint stays as the predecessor had it");
        }
        for mut door in self.unclaimed_doors.drain(..) {
            door.settled();
            door.remove();
        }
    }

    /// A successor that serves no more, and finishes what it has accepted.
    pub(super) fn release(&mut self, successor: Successor) {
        self.released.push(successor);
    }

    /// Stops serving in favour of the predecessor: what is shared with it is its own again, and what is not is retired.
    pub(super) async fn hand_back(&mut self) {
        let shared: Vec<_> = self
            .open
            .iter()
            .filter(|open| open.shared == Shared::WithPredecessor)
            .map(|open| open.listener.key().clone())
            .collect();
        self.door.iter().for_each(Door::remove);
        self.endpoint = None;
        self.unclaimed_doors.clear();
        self.hand_over(&shared).await;
    }

    /// Ends serving for good: nobody takes over.
    pub(super) async fn stop(&mut self) {
        self.watch = None;
        self.retire().await;
        if let Some(door) = self.door.take() {
            door.remove();
        }
    }

    /// A generation that drains from now on, or did when it was last heard of.
    pub(super) fn remember(&mut self, generation: Generation, peer: Arc<Peer>) {
        self.earlier.push((generation, peer));
    }

    /// Its listeners, as an operator is shown them.
    pub(super) fn listening(&self) -> Vec<Listening> {
        let shown = self.open.iter().map(|Open { listener, wanted, acceptor, .. }| Listening {
            address: listener.address().to_string(),
            accepting: acceptor.is_some(),
            tls: wanted.service.tls.is_some(),
            plugins: wanted.service.plugins().map(|plugin| plugin.name().to_string()).collect(),
        });
        shown.collect()
    }

    /// What serves connections there, each plugin once.
    pub(super) fn plugins(&self) -> Vec<Arc<About>> {
        let mut plugins: Vec<Arc<About>> = Vec::new();
        for about in self.open.iter().flat_map(|open| open.wanted.service.plugins()).map(|plugin| plugin.about()) {
            if !plugins.iter().any(|known| Arc::ptr_eq(known, about)) {
                plugins.push(Arc::clone(about));
            }
        }
        plugins
    }

    /// Other generations that finish what they have, as an operator is shown them.
    pub(super) fn others(&mut self) -> Vec<Other> {
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
    pub(super) fn draining(&mut self) -> Vec<String> {
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
    pub(super) fn reopen_earlier_logs(&mut self) {
        self.earlier().iter().for_each(|(_, peer)| peer.hang_up());
        self.released.iter().for_each(Successor::hang_up);
    }

    /// Reads anew what the listeners of `config` get, since a plugin was `saved` or somebody has asked. Nothing changes before it is
    /// certain that all of it can be served.
    pub(super) fn reload(&mut self, config: &Arc<Config>, ticket_keys: &Arc<TicketKeys>, saved: Option<Saved>) {
        match &mut self.reload {
            Some(reload) => {
                reload.again = true;
                // Whoever has asked is told at once what came of it.
                reload.saved = reload.saved.take().and(saved);
            }
            None => {
                let changed = saved.as_ref().map(|saved| field::display(saved.path.display()));
                info!(changed, "reloading what the listeners get");
                let (config, ticket_keys) = (Arc::clone(config), Arc::clone(ticket_keys));
                let (served, keys) = (Arc::clone(&config), Arc::clone(&ticket_keys));
                let loading = tokio::task::spawn_blocking(move || Fresh::read(&served, &keys));
                self.reload = Some(Reload { loading, config, ticket_keys, saved, again: false });
            }
        }
    }

    /// Waits for what goes on besides orders and handoffs, and does what needs no decision. While it is busy, visitors are
    /// refused. May be dropped and called again.
    pub(super) async fn event(&mut self, busy: Busy) -> Event {
        loop {
            tokio::select! {
                Some(ended) = self.acceptors.join_next() => match ended {
                    Err(ended) if ended.is_cancelled() => {}
                    // An accept loop ends only when it is told to.
                    ended => return Event::Bug(format!("a listener is no longer served ({ended:?})")),
                },
                () = time::sleep(ACCEPT_AGAIN), if self.incomplete => {
                    if self.accept().is_ok() {
                        info!("accepting on every listener again");
                    }
                }
                () = time::sleep(WRITE_AGAIN), if self.unwritten.is_some() => self.write_pidfile(),
                loaded = loaded(&mut self.reload) => if let Some(outcome) = self.reloaded(loaded) {
                    return Event::Reloaded(outcome);
                },
                () = ended(&mut self.released) => {}
                event = told(&mut self.predecessor) => {
                    self.predecessor_said(event);
                    return Event::Changed;
                }
                // A process that hands over leaves it to its successor, which watches too, and catches up should it serve again.
                saved = saved(&mut self.watch), if !matches!(busy, Busy::HandingOver(_)) => return Event::Saved(saved),
                visitor = visitor(&mut self.door) => match busy.refusal() {
                    None => return Event::Visitor(Box::new(visitor)),
                    Some(reason) => visitor.refuse(reason).await,
                },
            }
        }
    }

    fn write_pidfile(&mut self) {
        if let Some(Ok(pidfile)) = self.unwritten.as_deref().map(PidFile::take_over) {
            info!("the pidfile names this process now");
            self.pidfile = Some(pidfile);
            self.unwritten = None;
        }
    }

    /// What came of it, where that is certain.
    fn reloaded(&mut self, loaded: Result<Fresh, String>) -> Option<Result<(), String>> {
        let Reload { config, ticket_keys, saved, again, .. } = self.reload.take()?;
        if again {
            self.reload(&config, &ticket_keys, saved);
            return None;
        }
        match loaded {
            Ok(mut fresh) => {
                self.replace(&fresh);
                self.watch = fresh.watch.take();
                let ms_since_saved =
                    saved.map(|saved| u64::try_from(saved.at.elapsed().as_millis()).unwrap_or(u64::MAX));
                info!(ms_since_saved, "reloaded: new connections get what was read");
                Some(Ok(()))
            }
            Err(reason) => {
                match saved {
                    Some(saved) => saved.failed(reason.clone()),
                    None => error!("the reload failed, everything stays as it was: {reason}"),
                }
                Some(Err(reason))
            }
        }
    }

    /// From here on, connections get what was read.
    fn replace(&mut self, Fresh { services, binds, differing, .. }: &Fresh) {
        let mut incomplete = Vec::new();
        for Open { listener, wanted, acceptor, .. } in &mut self.open {
            let address = listener.address();
            if let Some(bind) = binds.get(&wanted.key).filter(|bind| **bind != wanted.bind) {
                warn!(%address, %bind, "this listener's mode is another one by now; it is in force from the next restart (USR1) on");
            }
            let Some(fresh) = services.of(&wanted.key) else {
                warn!(%address, "this listener is configured no more; it goes on as it was until the next restart (USR1)");
                continue;
            };
            wanted.service = Arc::clone(fresh);
            // Those on which nobody accepts now are served by somebody else.
            if let Some(acceptor) = acceptor {
                match listener.incoming() {
                    Ok(incoming) => {
                        let accepting = accept::serve(incoming, self.connections.clone(), Arc::clone(&wanted.service));
                        std::mem::replace(acceptor, self.acceptors.spawn(accepting)).abort();
                    }
                    // Nobody is let in by what no longer holds: whoever comes waits in the kernel's queue.
                    Err(error) => {
                        error!(%address, %error, "cannot accept on this listener yet; trying again");
                        acceptor.abort();
                        incomplete.push(listener.key().clone());
                    }
                }
            }
        }
        self.incomplete |= !incomplete.is_empty();
        for open in self.open.iter_mut().filter(|open| incomplete.contains(open.listener.key())) {
            open.acceptor = None;
        }
        for key in services.listeners().filter(|key| self.open.iter().all(|open| open.wanted.key != **key)) {
            warn!(address = %key, "this listener is new in the configuration; it is opened at the next restart (USR1)");
        }
        if !differing.is_empty() {
            warn!("changed, and in force from the next restart (USR1) on: {}", differing.join(", "));
        }
    }

    fn predecessor_said(&mut self, event: adopt::Event) {
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

impl Fresh {
    fn read(served: &Config, ticket_keys: &Arc<TicketKeys>) -> Result<Self, String> {
        let (config, differing) = served.again().map_err(|error| error.to_string())?;
        let watch = Watch::over(&config).map_err(|error| format!("--watch: {error}"))?;
        let services = Services::load(&config, ticket_keys).map_err(|error| error.to_string())?;
        let binds = config.listeners.into_iter().map(|listener| (listener.key, listener.bind)).collect();
        Ok(Self { services, watch, binds, differing })
    }
}

async fn loaded(reload: &mut Option<Reload>) -> Result<Fresh, String> {
    match reload {
        Some(Reload { loading, .. }) => match loading.await {
            Ok(loaded) => loaded,
            Err(panic) => Err(panic.to_string()),
        },
        None => pending().await,
    }
}

/// Waits until one of them has ended, and reaps it.
async fn ended(released: &mut Vec<Successor>) {
    if released.is_empty() {
        return pending().await;
    }
    let ends = released.iter_mut().map(|successor| Box::pin(successor.reaped()));
    let ((), first, _) = select_all(ends).await;
    released.swap_remove(first);
}

async fn told(predecessor: &mut Option<Predecessor>) -> adopt::Event {
    match predecessor {
        Some(predecessor) => predecessor.event().await,
        None => pending().await,
    }
}

async fn saved(watch: &mut Option<Watch>) -> Saved {
    match watch {
        Some(watch) => watch.saved().await,
        None => pending().await,
    }
}

async fn visitor(door: &mut Option<Door>) -> Visitor {
    match door {
        Some(door) => door.visitor().await,
        None => pending().await,
    }
}
