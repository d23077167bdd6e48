//! The end of booting: listeners, bound or adopted, and the first accept. What comes before needs none of them.

use super::{
    Failure, Lifecycle,
    listeners::{Given, Heir},
    reopen,
    serving::{Ready, Serving, Shared},
};
use crate::{
    bind::{Activation, ListenerAddress},
    config::{Config, Supervisor},
    drain::Connections,
    handoff::{
        Generation,
        adopt::{Consent, Predecessor},
        door::Door,
        message::{Entry, Message},
        peer::Peer,
    },
    pidfile::{self, PidFile},
    service::Services,
    tls::TicketKeys,
};
use std::{
    io::{self, Write},
    mem,
    os::fd::OwnedFd,
    sync::Arc,
    thread,
};
use tracing::{info, warn};

/// What a process serves with, from nowhere or from a predecessor.
pub(super) struct Opened {
    listeners: Vec<Ready>,
    door: Option<Door>,
    /// Handoff sockets that the predecessor has and this process will not.
    unclaimed_doors: Vec<Door>,
    earlier: Vec<(Generation, Peer)>,
    pub(super) generation: Generation,
    pub(super) consent: Consent,
}

impl Lifecycle {
    /// Opens everything anew.
    pub(super) fn start_cold(&mut self, services: &Services) -> Result<Serving, Failure> {
        let mut given = Given::passed(mem::take(&mut self.activation), Heir::OfNobody);
        let config = &self.config;
        let mut opened = Opened {
            listeners: Vec::new(),
            door: None,
            unclaimed_doors: Vec::new(),
            earlier: Vec::new(),
            generation: Generation::FIRST,
            consent: Consent::Inherited,
        };
        let mut open = || {
            given.open(config, services, &mut opened.listeners)?;
            given.is_taken()?;
            opened.door = open_door(config, None)?;
            let pidfile = config.pidfile.as_deref().map(PidFile::claim).transpose()?;
            opened.become_user(config, pidfile.as_ref())?;
            Ok::<_, Failure>(pidfile)
        };
        let pidfile = open()?;
        let mut serving = self.accept(opened);
        serving.pidfile = pidfile;
        self.notifier.ready(&match serving.addresses().len() {
            1 => self.status("serves 1 listener"),
            listeners => self.status(&format!("serves {listeners} listeners")),
        });
        if config.supervisor == Supervisor::Systemd && config.notify_socket.is_some() && !config.anchored {
            warn!(
                "systemd gives time to finish to its own children alone: give --anchor, or stopping the service after a hot restart cuts its \
                 connections"
            );
        }
        Ok(serving)
    }

    /// Begins to accept, and says so.
    pub(super) fn accept(&self, mut opened: Opened) -> Serving {
        let connections = Connections::new(self.config.limits.max_connections);
        let mut serving = Serving::new(mem::take(&mut opened.listeners), connections);
        serving.door = opened.door.take();
        serving.unclaimed_doors = mem::take(&mut opened.unclaimed_doors);
        for (generation, peer) in mem::take(&mut opened.earlier) {
            serving.remember(generation, Arc::new(peer));
        }
        let addresses = serving.addresses();
        for address in &addresses {
            info!(%address, "listening");
        }
        announce(addresses);
        serving
    }
}

/// The successor's part of the exchange, until it may accept.
pub(super) async fn adopt(
    config: &Config,
    services: &Services,
    activation: Activation,
    ticket_keys: &TicketKeys,
    predecessor: &mut Predecessor,
) -> Result<Opened, Failure> {
    let offered = predecessor.hello().await?;
    let mut given = Given::passed(activation, Heir::OfPredecessor);
    let mut doors = Vec::new();
    let mut earlier = Vec::new();
    for (entry, descriptor) in offered.things {
        match entry {
            Entry::Listener { key } => given.offered(key, descriptor),
            Entry::HandoffSocket { path } => doors.push((path, descriptor)),
            Entry::Generation { generation, pid } => {
                earlier.extend(Peer::held(pid, descriptor).ok().map(|peer| (Generation::new(generation), peer)));
            }
            Entry::TicketKeys {} => {
                // Without them sessions begin anew, which is no reason not to serve.
                if let Err(error) = ticket_keys.take_over(descriptor) {
                    warn!("sessions of the predecessor will not be resumed: {error}");
                }
            }
            // Of a later version; closed here.
            Entry::Unknown => {}
        }
    }
    let mut opened = Opened {
        listeners: Vec::new(),
        door: None,
        unclaimed_doors: Vec::new(),
        earlier,
        generation: offered.generation.next(),
        consent: Consent::Commit,
    };
    let claimed = given.open(config, services, &mut opened.listeners)?;
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        doors.into_iter().partition(|(path, _)| config.handoff.socket.as_ref() == Some(path));
    opened.door = open_door(config, wanted.into_iter().next().map(|(_, descriptor)| descriptor))?;
    opened.unclaimed_doors =
        unwanted.into_iter().filter_map(|(path, descriptor)| Door::adopt(descriptor, &path).ok()).collect();
    opened.become_user(config, None)?;
    if let Some(path) = &config.pidfile {
        pidfile::check(path)?;
    }
    let prepared = Message::Prepared { claimed, unclaimed: given.unclaimed(), pidfile: config.pidfile.clone() };
    opened.consent = predecessor.prepared(prepared).await?;
    if opened.consent == Consent::Commit {
        opened.consent = predecessor.serving().await?;
    }
    Ok(opened)
}

impl Opened {
    /// Once all is bound, and before anything is accepted: what this process has made is given to whom it becomes, so that it and
    /// all that come after it can replace and remove it.
    fn become_user(&self, config: &Config, pidfile: Option<&PidFile>) -> Result<(), Failure> {
        let Some(identity) = &config.identity else { return Ok(()) };
        if let Some(owner) = identity.owner() {
            let bound = self.listeners.iter().filter(|ready| ready.shared == Shared::No).map(|ready| &ready.listener);
            let listeners = bound.map(|listener| (listener.address().to_string(), listener.give_to(owner)));
            let doors = self.door.iter().map(|door| (format!("--handoff-socket {}", door.path()), door.give_to(owner)));
            for (what, given) in listeners.chain(doors) {
                given.map_err(|source| Failure::Ownership { what, source })?;
            }
            pidfile.map_or(Ok(()), |pidfile| pidfile.give_to(owner))?;
        }
        if identity.assume()? {
            info!("this process is {identity} from here on");
            reopen::troubles(config).iter().for_each(|trouble| warn!("{trouble}"));
        }
        Ok(())
    }
}

impl Drop for Opened {
    /// What was bound in vain leaves no trace. Whatever is served has been taken out by then.
    fn drop(&mut self) {
        for Ready { listener, shared, .. } in &self.listeners {
            if *shared == Shared::No {
                listener.unlink().ok();
            }
        }
        self.door.iter().for_each(Door::remove);
    }
}

fn open_door(config: &Config, offered: Option<OwnedFd>) -> Result<Option<Door>, Failure> {
    let Some(wanted) = &config.handoff.socket else { return Ok(None) };
    let opened = match offered {
        Some(descriptor) => Door::adopt(descriptor, wanted),
        None => Door::open(wanted),
    };
    opened.map(Some).map_err(|obstacle| Failure::Door { path: wanted.clone(), obstacle })
}

/// The ready lines, for whoever started the process: the only thing on standard output, ever. Written by a thread of their own,
/// since a pipe that is full and that nobody reads would keep whoever writes to it for ever.
fn announce(addresses: Vec<ListenerAddress>) {
    let write = move || {
        let mut out = io::stdout().lock();
        for address in addresses {
            if let Err(error) = writeln!(out, "listening {address}").and_then(|()| out.flush()) {
                warn!(%error, "the ready line could not be written to standard output");
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("ready-line".into()).spawn(write) {
        warn!(%error, "the ready line could not be written to standard output");
    }
}
