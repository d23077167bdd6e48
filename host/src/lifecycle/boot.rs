//! The end of booting: listeners, bound or adopted, and the first accept. The steps before need no
//! listener.

use super::{
    Lifecycle,
    error::Error,
    listeners::{ExistingSockets, Opening, StartKind},
    pidfile::{self, PidFile},
    reopen,
    serving::{Ready, Serving, Shared},
};
use crate::{
    admin::{Address, Endpoint, Phase},
    config::Config,
    connection::{drain::Connections, service::Services},
    handoff::{
        adopt::{Consent, Predecessor},
        draining::DrainingProcess,
        handoff_socket::HandoffSocket,
        message::{Entry, Message},
    },
    net::{Activation, Bound, Claim, FileId, Key, Listener, ListenerAddress},
    record::{counters::Totals, generation::Generation},
    system::privilege::Identity,
    wire::tls::TicketKeys,
};
use std::{
    io::{self, Write},
    mem,
    os::fd::OwnedFd,
    sync::Arc,
    thread,
};
use tracing::{info, warn};

/// The sockets that a process serves with, whether new or from a predecessor.
pub(super) struct Opened {
    opening: Vec<Opening>,
    /// Once they listen.
    listeners: Vec<Ready>,
    claimed_handoff_socket: Option<Claim>,
    handoff_socket: Option<HandoffSocket>,
    claimed_endpoint: Option<Bound>,
    /// Once it listens.
    endpoint: Option<(Listener, Address)>,
    /// Handoff sockets that the predecessor has and this process will not.
    unclaimed_handoff_sockets: Vec<HandoffSocket>,
    draining: Vec<DrainingProcess>,
    pub(super) generation: Generation,
    pub(super) consent: Consent,
}

impl Lifecycle {
    /// Binds everything on a cold start.
    pub(super) fn start_cold(&mut self, services: &Services) -> Result<Serving, Error> {
        let mut existing = ExistingSockets::passed(mem::take(&mut self.activation), StartKind::Cold);
        let config = Arc::clone(&self.config);
        let config = &*config;
        let mut opened = Opened::new(Generation::FIRST, Vec::new());
        let mut open = || {
            existing.open(config, services, &mut opened.opening)?;
            existing.is_taken()?;
            opened.open_handoff_socket(config, None)?;
            opened.open_endpoint(config, None)?;
            let pidfile = config.pidfile.as_deref().map(PidFile::claim).transpose()?;
            opened.give_away(config, pidfile.as_ref())?;
            opened.listen(config)?;
            become_user(config)?;
            Ok::<_, Error>(pidfile)
        };
        let pidfile = open()?;
        let mut serving = self.accept(opened, None, Phase::Serving);
        serving.pidfile = pidfile;
        self.notifier.ready(&match serving.addresses().len() {
            1 => self.status("serves 1 listener"),
            listeners => self.status(&format!("serves {listeners} listeners")),
        });
        Ok(serving)
    }

    /// Starts to accept, and reports that. The counters of the `predecessor` continue here.
    pub(super) fn accept(
        &mut self,
        mut opened: Opened,
        predecessor: Option<&mut Predecessor>,
        phase: Phase,
    ) -> Serving {
        let connections = Connections::new(self.config.max_connections);
        let counters = connections.counters();
        let mut serving = Serving::new(mem::take(&mut opened.listeners), connections);
        serving.watch = self.watch.take();
        for process in mem::take(&mut opened.draining) {
            serving.remember(process, &Totals::default());
        }
        if let Some(predecessor) = predecessor {
            let counted = predecessor.counted();
            // The open connections that no earlier generation has are the predecessor's own.
            let connections = counted.open().saturating_sub(serving.open_elsewhere());
            predecessor.has(connections);
            let peer = predecessor.peer().ok_or(0);
            serving.before = Some(counters.drains(self.before(), false, peer, Some(connections), &counted));
        }
        serving.handoff_socket = opened.handoff_socket.take();
        if let Some((listener, address)) = opened.endpoint.take() {
            info!(%address, "admin endpoint listening");
            serving.endpoint = Some(Endpoint::new(listener, address, self.queue.clone()));
            // Before the first request. A write that fails now is retried later.
            self.show_serving(phase, &serving, None);
            serving.accept().ok();
        }
        serving.unclaimed_handoff_sockets = mem::take(&mut opened.unclaimed_handoff_sockets);
        let addresses = serving.addresses();
        for address in &addresses {
            info!(%address, "listening");
        }
        announce(addresses);
        serving
    }
}

/// The successor's side of the handoff, until it may accept.
pub(super) async fn adopt(
    config: &Config,
    services: &Services,
    activation: Activation,
    ticket_keys: &TicketKeys,
    predecessor: &mut Predecessor,
) -> Result<Opened, Error> {
    let offered = predecessor.hello().await?;
    let mut existing = ExistingSockets::passed(activation, StartKind::Restart);
    let mut handoff_sockets = Vec::new();
    let mut endpoints = Vec::new();
    let mut draining: Vec<DrainingProcess> = Vec::new();
    for (entry, descriptor) in offered.things {
        match entry {
            Entry::Listener { key, file } => existing.offered(key, file, descriptor),
            Entry::HandoffSocket { path, file } => handoff_sockets.push((path, file, descriptor)),
            Entry::Generation { generation, pid, rolled_back } => {
                draining
                    .extend(DrainingProcess::offered(Generation::new(generation), rolled_back, pid, descriptor).ok());
            }
            Entry::Reports { pid, connections } => {
                if let Some(process) = draining.iter_mut().find(|process| process.pid() == pid)
                    && let Err(error) = process.reports_offered(descriptor, connections)
                {
                    warn!(process = pid, %error, "draining reports unavailable");
                }
            }
            Entry::TicketKeys {} => {
                // Without them sessions do not resume, which does not justify failing the restart.
                if let Err(error) = ticket_keys.take_over(descriptor) {
                    warn!(%error, "TLS ticket keys not adopted");
                }
            }
            Entry::Admin { key, file } => endpoints.push((key, file, descriptor)),
            // An entry that a later version added; its descriptor is closed here.
            Entry::Unknown => {}
        }
    }
    let mut opened = Opened::new(offered.generation.next(), draining);
    let claimed = existing.open(config, services, &mut opened.opening)?;
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        handoff_sockets.into_iter().partition(|(path, ..)| config.handoff.socket.as_ref() == Some(path));
    opened.open_handoff_socket(config, wanted.into_iter().next().map(|(_, file, descriptor)| (file, descriptor)))?;
    opened.unclaimed_handoff_sockets = unwanted
        .into_iter()
        .filter_map(|(path, file, descriptor)| HandoffSocket::adopt(descriptor, &path, file).ok())
        .collect();
    // If this process uses another endpoint, it closes its copy here. The predecessor answers there
    // until it lets go.
    let wanted_endpoint = config.admin.as_ref().and_then(Address::key);
    let endpoint = endpoints.into_iter().find(|(key, ..)| Some(key) == wanted_endpoint.as_ref());
    let admin = endpoint.as_ref().map(|(key, ..)| key.clone());
    opened.open_endpoint(config, endpoint)?;
    opened.give_away(config, None)?;
    become_user(config)?;
    if let Some(path) = &config.pidfile {
        pidfile::check(path)?;
    }
    let prepared = Message::Prepared {
        claimed,
        unclaimed: existing.unclaimed(),
        pidfile: config.pidfile.clone(),
        admin,
        hears_of_connections: true,
    };
    opened.consent = predecessor.prepared(prepared).await?;
    opened.listen(config)?;
    if opened.consent == Consent::Commit {
        opened.consent = predecessor.serving().await?;
    }
    Ok(opened)
}

impl Opened {
    /// An empty set for this generation.
    fn new(generation: Generation, draining: Vec<DrainingProcess>) -> Self {
        Self {
            opening: Vec::new(),
            listeners: Vec::new(),
            claimed_handoff_socket: None,
            handoff_socket: None,
            claimed_endpoint: None,
            endpoint: None,
            unclaimed_handoff_sockets: Vec::new(),
            draining,
            generation,
            consent: Consent::Commit,
        }
    }

    /// Adopts the offered handoff socket, or claims its path.
    fn open_handoff_socket(
        &mut self,
        config: &Config,
        offered: Option<(Option<FileId>, OwnedFd)>,
    ) -> Result<(), Error> {
        let Some(path) = &config.handoff.socket else { return Ok(()) };
        let refused = |obstacle| Error::HandoffSocket { path: path.clone(), obstacle };
        match offered {
            Some((file, descriptor)) => {
                self.handoff_socket = Some(HandoffSocket::adopt(descriptor, path, file).map_err(refused)?)
            }
            None => self.claimed_handoff_socket = Some(HandoffSocket::claim(path).map_err(refused)?),
        }
        Ok(())
    }

    /// Adopts the offered admin endpoint, or binds it.
    fn open_endpoint(&mut self, config: &Config, offered: Option<(Key, Option<FileId>, OwnedFd)>) -> Result<(), Error> {
        let Some(address) = &config.admin else { return Ok(()) };
        match (offered, address.key()) {
            (Some((key, file, descriptor)), _) => {
                self.endpoint = Some((Listener::adopt(descriptor, key, file)?, address.clone()));
            }
            (None, Some(key)) => {
                let refused = |error| Error::Endpoint { address: address.clone(), error };
                self.claimed_endpoint = Some(Bound::new(address.bind(), key).map_err(refused)?);
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Listens on the bound sockets. From here on connections queue for this process.
    fn listen(&mut self, config: &Config) -> Result<(), Error> {
        for opening in mem::take(&mut self.opening) {
            self.listeners.push(opening.listen(config.backlog)?);
        }
        if let (Some(claim), Some(path)) = (self.claimed_handoff_socket.take(), &config.handoff.socket) {
            let opened = HandoffSocket::open(claim, path);
            self.handoff_socket =
                Some(opened.map_err(|obstacle| Error::HandoffSocket { path: path.clone(), obstacle })?);
        }
        if let (Some(bound), Some(address)) = (self.claimed_endpoint.take(), &config.admin) {
            let listener = bound.listen(Endpoint::BACKLOG);
            let listener = listener.map_err(|error| Error::Endpoint { address: address.clone(), error })?;
            self.endpoint = Some((listener, address.clone()));
        }
        Ok(())
    }

    /// Gives the created files to the user that this process becomes, once everything is bound, so
    /// that it and later generations can replace and remove them.
    fn give_away(&self, config: &Config, pidfile: Option<&PidFile>) -> Result<(), Error> {
        let Some(owner) = config.identity.as_ref().and_then(Identity::owner) else { return Ok(()) };
        let bound = self.opening.iter().filter_map(|opening| match opening {
            Opening::Bound(bound, _) => Some((bound.address().to_string(), bound.give_to(owner))),
            Opening::Ready(_) => None,
        });
        let handoff_socket =
            self.claimed_handoff_socket.iter().map(|claim| ("the handoff socket".to_owned(), claim.give_to(owner)));
        let endpoint = self.claimed_endpoint.iter().map(|bound| (bound.address().to_string(), bound.give_to(owner)));
        for (what, existing) in bound.chain(handoff_socket).chain(endpoint) {
            existing.map_err(|source| Error::Ownership { what, source })?;
        }
        Ok(pidfile.map_or(Ok(()), |pidfile| pidfile.give_to(owner))?)
    }
}

/// Drops privileges before the first accept.
fn become_user(config: &Config) -> Result<(), Error> {
    if let Some(identity) = &config.identity
        && identity.assume()?
    {
        info!(%identity, "privileges dropped");
        reopen::problems(config).iter().for_each(|problem| warn!(detail = %problem, "next generation may fail"));
    } else if let Some(problem) = reopen::program(config) {
        warn!(detail = %problem, "next generation may fail");
    }
    Ok(())
}

impl Drop for Opened {
    /// Removes sockets that were bound but not served. Served ones have been taken out by then.
    fn drop(&mut self) {
        for Ready { listener, shared, .. } in &self.listeners {
            if *shared == Shared::No {
                listener.unlink().ok();
            }
        }
        self.handoff_socket.iter().for_each(HandoffSocket::remove);
        // If the socket is the predecessor's, so is its path.
        self.endpoint.iter().for_each(|(listener, _)| drop(listener.unlink()));
    }
}

/// Prints the ready lines, the only output on standard output. A separate thread writes them, since
/// a full pipe without a reader would block forever.
fn announce(addresses: Vec<ListenerAddress>) {
    let write = move || {
        let mut out = io::stdout().lock();
        for address in addresses {
            if let Err(error) = writeln!(out, "listening {address}").and_then(|()| out.flush()) {
                warn!(%error, "ready line not written");
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("ready-line".into()).spawn(write) {
        warn!(%error, "ready line not written");
    }
}
