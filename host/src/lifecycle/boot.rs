//! The end of booting: listeners, bound or adopted, and the first accept. What comes before needs none of them.

use super::{
    Failure, Lifecycle,
    serving::{Ready, Serving, Shared},
};
use crate::{
    bind::{Key, Listener, ListenerAddress},
    config::Config,
    connection::Service,
    drain::Connections,
    guest::Plugin,
    handoff::{
        Generation,
        adopt::{Consent, Predecessor},
        door::Door,
        message::{Entry, Message},
        peer::Peer,
    },
    pidfile::{self, PidFile},
};
use std::{
    collections::HashMap,
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
    pub(super) fn start_cold(&self, plugin: Plugin) -> Result<Serving, Failure> {
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
            open_listeners(config, &mut HashMap::new(), &mut opened.listeners)?;
            opened.door = open_door(config, None)?;
            Ok::<_, Failure>(config.pidfile.as_deref().map(PidFile::claim).transpose()?)
        };
        let pidfile = open()?;
        let mut serving = self.accept(plugin, opened);
        serving.pidfile = pidfile;
        self.notifier.ready(&match serving.addresses().len() {
            1 => self.status("serves 1 listener"),
            listeners => self.status(&format!("serves {listeners} listeners")),
        });
        Ok(serving)
    }

    /// Begins to accept, and says so.
    pub(super) fn accept(&self, plugin: Plugin, mut opened: Opened) -> Serving {
        let connections = Connections::new(self.config.limits.max_connections);
        let service = Service::new(plugin, self.config.limits, Arc::clone(&self.config.admission));
        let mut serving = Serving::new(mem::take(&mut opened.listeners), service, connections);
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
pub(super) async fn adopt(config: &Config, predecessor: &mut Predecessor) -> Result<Opened, Failure> {
    let offered = predecessor.hello().await?;
    let mut listeners = HashMap::new();
    let mut doors = Vec::new();
    let mut earlier = Vec::new();
    for (entry, descriptor) in offered.things {
        match entry {
            Entry::Listener { key } => drop(listeners.insert(key, descriptor)),
            Entry::HandoffSocket { path } => doors.push((path, descriptor)),
            Entry::Generation { generation, pid } => {
                earlier.extend(Peer::held(pid, descriptor).ok().map(|peer| (Generation::new(generation), peer)));
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
    let claimed = open_listeners(config, &mut listeners, &mut opened.listeners)?;
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        doors.into_iter().partition(|(path, _)| config.handoff.socket.as_ref() == Some(path));
    opened.door = open_door(config, wanted.into_iter().next().map(|(_, descriptor)| descriptor))?;
    opened.unclaimed_doors =
        unwanted.into_iter().filter_map(|(path, descriptor)| Door::adopt(descriptor, &path).ok()).collect();
    if let Some(path) = &config.pidfile {
        pidfile::check(path)?;
    }
    let unclaimed = listeners.drain().map(|(key, _closed)| key).collect();
    let prepared = Message::Prepared { claimed, unclaimed, pidfile: config.pidfile.clone() };
    opened.consent = predecessor.prepared(prepared).await?;
    if opened.consent == Consent::Commit {
        opened.consent = predecessor.serving().await?;
    }
    Ok(opened)
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

/// Takes the listeners that are offered, and binds the others: those that were taken.
fn open_listeners(
    config: &Config,
    offered: &mut HashMap<Key, OwnedFd>,
    listeners: &mut Vec<Ready>,
) -> Result<Vec<Key>, Failure> {
    let mut claimed = Vec::new();
    for (bind, key) in config.binds.iter().zip(Key::of(&config.binds)) {
        let (listener, shared) = if let Some(descriptor) = offered.remove(&key) {
            claimed.push(key.clone());
            (Listener::adopt(descriptor, key)?, Shared::WithPredecessor)
        } else if let Some(served) = offered.keys().find(|offered| key.contradicts(offered)) {
            return Err(Failure::Contradiction { wanted: key, served: served.clone() });
        } else {
            (Listener::bind(bind, key, config.backlog)?, Shared::No)
        };
        // All that can fail is done here, and nobody accepts yet.
        match listener.incoming() {
            Ok(incoming) => listeners.push(Ready { listener, incoming, bind: bind.clone(), shared }),
            Err(error) => {
                if shared == Shared::No {
                    listener.unlink().ok();
                }
                return Err(Failure::Runtime(error));
            }
        }
    }
    Ok(claimed)
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
