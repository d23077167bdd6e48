//! The listeners of a process that is about to serve: taken from whoever has them already, a predecessor or the service manager,
//! or else bound. Nothing is accepted here.

use super::{
    error::Error,
    serving::{Ready, Shared, Wanted},
};
use crate::{
    config::{self, Config},
    connection::service::Services,
    net::{Activation, Bind, Bound, FileId, Key, Listener},
};
use rustix::fs::fstat;
use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd, RawFd},
    process,
    sync::Arc,
};
use tracing::warn;

/// Sockets that are there already, by the names under which a configuration asks for them.
pub(super) struct Given {
    sockets: HashMap<Key, (OwnedFd, Giver)>,
    /// All that the service manager has passed, for an error that tells.
    passed: Vec<String>,
    /// The process for which the service manager's are, where it is not this one.
    meant_for: Option<u32>,
    heir: Heir,
}

/// A listener on its way to be served.
pub(super) enum Opening {
    /// It was there already, and can be accepted on at once.
    Ready(Ready),
    /// It is bound: nobody can connect before it is certain that this process will serve.
    Bound(Bound, Wanted),
}

/// Who has them.
enum Giver {
    /// And the file that it has bound.
    Predecessor(Option<FileId>),
    /// And the number under which it has passed it.
    ServiceManager(RawFd),
}

/// Whether there is a predecessor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heir {
    OfPredecessor,
    OfNobody,
}

impl Given {
    /// What the service manager has passed.
    pub(super) fn passed(activation: Activation, heir: Heir) -> Self {
        let Activation { sockets, meant_for } = activation;
        let passed = sockets.iter().map(|passed| passed.key.to_string()).collect();
        let sockets =
            sockets.into_iter().map(|passed| (passed.key, (passed.descriptor, Giver::ServiceManager(passed.number))));
        Self { sockets: sockets.collect(), passed, meant_for, heir }
    }

    /// Adds what a predecessor offers. That comes before what was passed under the same name, since connections are queued there.
    pub(super) fn offered(&mut self, key: Key, file: Option<FileId>, socket: OwnedFd) {
        if let Some((passed, _)) = self.sockets.get(&key)
            && !is_same(passed, &socket)
        {
            warn!(listener = %key, detail = "the predecessor's listener is served instead; stop and start the host to change it", "passed socket ignored");
        }
        self.sockets.insert(key, (socket, Giver::Predecessor(file)));
    }

    /// Takes what is there, and binds the rest. Returns what was taken from the predecessor.
    pub(super) fn open(
        &mut self,
        config: &Config,
        services: &Services,
        listeners: &mut Vec<Opening>,
    ) -> Result<Vec<Key>, Error> {
        let mut claimed = Vec::new();
        let keys: Vec<Key> = config.listeners.iter().map(|listener| listener.key.clone()).collect();
        for config::Listener { bind, key, .. } in &config.listeners {
            let service = services.of(key).ok_or_else(|| Error::Bug(format!("{key} has no service")))?;
            let wanted = Wanted { bind: bind.clone(), key: key.clone(), service: Arc::clone(service) };
            let mut there: Vec<Key> =
                self.sockets.keys().filter(|key| key.is_wanted_as(&wanted.key, &keys)).cloned().collect();
            there.sort();
            if there.is_empty() {
                listeners.push(Opening::Bound(self.bind(&wanted)?, wanted.clone()));
            }
            for key in there {
                let Some((socket, giver)) = self.sockets.remove(&key) else { continue };
                let (listener, shared) = match giver {
                    Giver::Predecessor(file) => {
                        claimed.push(key.clone());
                        (Listener::adopt(socket, key, file)?, Shared::WithPredecessor)
                    }
                    Giver::ServiceManager(number) => {
                        let passed = Listener::passed(socket, key);
                        (passed.map_err(|problem| Error::Passed { number, problem })?, Shared::No)
                    }
                };
                if !listener.is_where_it_says() {
                    warn!(address = %listener.address(), detail = "clients do not reach this listener until the host is stopped and started", "socket path was replaced");
                }
                listeners.push(Opening::Ready(ready(listener, wanted.clone(), shared)?));
            }
        }
        Ok(claimed)
    }

    fn bind(&self, Wanted { bind, key, .. }: &Wanted) -> Result<Bound, Error> {
        if let Bind::Systemd(_) = bind {
            return Err(Error::NotPassed { bind: bind.clone(), why: self.why_not_passed() });
        }
        if let Some(served) = self.sockets.keys().find(|offered| key.contradicts(offered)) {
            return Err(Error::Contradiction { wanted: key.clone(), served: served.clone() });
        }
        Ok(Bound::new(bind, key.clone())?)
    }

    fn why_not_passed(&self) -> String {
        match (&*self.passed, self.meant_for, self.heir) {
            (_, _, Heir::OfPredecessor) => {
                "the predecessor has no such socket, and a service manager passes new ones at a cold start \
                only: stop and start"
                    .into()
            }
            ([_, ..], ..) => format!(
                "the passed sockets are {}: bind one of them, or set FileDescriptorName= in the socket unit",
                self.passed.join(", ")
            ),
            ([], Some(pid), _) => format!(
                "what was passed is for process {pid} (LISTEN_PID), and this is process {}: the program in between must exec this one, or be left out",
                process::id()
            ),
            ([], None, _) => {
                "no socket was passed to this process (LISTEN_FDS): start it from a socket unit, or bind an address"
                    .into()
            }
        }
    }

    /// On a cold start: whatever was passed is served.
    pub(super) fn is_taken(&self) -> Result<(), Error> {
        let left = self.sockets.iter().filter_map(|(key, (_, giver))| match giver {
            Giver::ServiceManager(number) => Some((*number, key)),
            Giver::Predecessor(_) => None,
        });
        match left.min() {
            Some((number, key)) => Err(Error::Unserved { number, key: key.clone() }),
            None => Ok(()),
        }
    }

    /// On a restart: what the predecessor offers and nobody takes.
    pub(super) fn unclaimed(self) -> Vec<Key> {
        for key in self.sockets.keys().filter(|key| key.is_passed()) {
            warn!(listener = %key, detail = "no --bind serves it; connections to it wait until the service manager closes it", "passed socket not served");
        }
        let offered = self.sockets.into_iter().filter(|(_, (_, giver))| matches!(giver, Giver::Predecessor(_)));
        offered.map(|(key, _closed)| key).collect()
    }
}

impl Opening {
    /// Listens, where it does not yet.
    pub(super) fn listen(self, backlog: u32) -> Result<Ready, Error> {
        match self {
            Self::Ready(there) => Ok(there),
            Self::Bound(bound, wanted) => ready(bound.listen(backlog)?, wanted, Shared::No),
        }
    }
}

/// All that can fail is done here, and nobody accepts yet.
fn ready(listener: Listener, wanted: Wanted, shared: Shared) -> Result<Ready, Error> {
    match listener.incoming() {
        Ok(incoming) => Ok(Ready { listener, incoming, wanted, shared }),
        Err(error) => {
            if shared == Shared::No {
                listener.unlink().ok();
            }
            Err(Error::Runtime(error))
        }
    }
}

fn is_same(this: impl AsFd, that: impl AsFd) -> bool {
    match (fstat(this), fstat(that)) {
        (Ok(this), Ok(that)) => (this.st_dev, this.st_ino) == (that.st_dev, that.st_ino),
        _ => false,
    }
}
