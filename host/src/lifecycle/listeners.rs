//! The listeners of a process that is about to serve: taken from a predecessor or the service
//! manager if they have them, otherwise bound. Nothing is accepted here.

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

/// Sockets that exist already, by the keys under which a configuration finds them.
pub(super) struct ExistingSockets {
    sockets: HashMap<Key, (OwnedFd, PassedBy)>,
    /// All sockets that the service manager has passed, for error messages.
    passed: Vec<String>,
    /// The process for which the service manager passed them, if that is not this one.
    meant_for: Option<u32>,
    start_kind: StartKind,
}

/// A listener on its way to be served.
pub(super) enum Opening {
    /// It existed already and can accept at once.
    Ready(Ready),
    /// It is bound. Clients cannot connect until it is certain that this process will serve.
    Bound(Bound, Wanted),
}

/// The process that an existing socket comes from.
enum PassedBy {
    /// With the socket file that it has bound.
    Predecessor(Option<FileId>),
    /// With the descriptor number under which it was passed.
    ServiceManager(RawFd),
}

/// Whether this process has a predecessor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StartKind {
    Restart,
    Cold,
}

impl ExistingSockets {
    /// The sockets that the service manager has passed.
    pub(super) fn passed(activation: Activation, start_kind: StartKind) -> Self {
        let Activation { sockets, meant_for } = activation;
        let passed = sockets.iter().map(|passed| passed.key.to_string()).collect();
        let sockets = sockets
            .into_iter()
            .map(|passed| (passed.key, (passed.descriptor, PassedBy::ServiceManager(passed.number))));
        Self { sockets: sockets.collect(), passed, meant_for, start_kind }
    }

    /// Adds a socket that a predecessor offers. It wins over a passed one of the same key, since
    /// connections are queued there.
    pub(super) fn offered(&mut self, key: Key, file: Option<FileId>, socket: OwnedFd) {
        if let Some((passed, _)) = self.sockets.get(&key)
            && !is_same(passed, &socket)
        {
            warn!(listener = %key, detail = "the predecessor's listener is served instead; stop and start the host to change it", "passed socket ignored");
        }
        self.sockets.insert(key, (socket, PassedBy::Predecessor(file)));
    }

    /// Takes the existing sockets and binds the others. Returns the keys of those from the
    /// predecessor.
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
                let Some((socket, passed_by)) = self.sockets.remove(&key) else { continue };
                let (listener, shared) = match passed_by {
                    PassedBy::Predecessor(file) => {
                        claimed.push(key.clone());
                        (Listener::adopt(socket, key, file)?, Shared::WithPredecessor)
                    }
                    PassedBy::ServiceManager(number) => {
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
        match (&*self.passed, self.meant_for, self.start_kind) {
            (_, _, StartKind::Restart) => {
                "the predecessor has no such socket, and a service manager passes new ones at a cold start \
                only: stop and start"
                    .into()
            }
            ([_, ..], ..) => format!(
                "the passed sockets are {}: bind one of them, or set FileDescriptorName= in the socket unit",
                self.passed.join(", ")
            ),
            ([], Some(pid), _) => format!(
                "the sockets were passed to process {pid} (LISTEN_PID), and this is process {}: a program in between must \
                 exec this one, or be removed",
                process::id()
            ),
            ([], None, _) => {
                "no socket was passed to this process (LISTEN_FDS): start it from a socket unit, or bind an address"
                    .into()
            }
        }
    }

    /// On a cold start: checks that every passed socket is served.
    pub(super) fn is_taken(&self) -> Result<(), Error> {
        let left = self.sockets.iter().filter_map(|(key, (_, passed_by))| match passed_by {
            PassedBy::ServiceManager(number) => Some((*number, key)),
            PassedBy::Predecessor(_) => None,
        });
        match left.min() {
            Some((number, key)) => Err(Error::Unserved { number, key: key.clone() }),
            None => Ok(()),
        }
    }

    /// On a restart: the offered listeners that this configuration does not use.
    pub(super) fn unclaimed(self) -> Vec<Key> {
        for key in self.sockets.keys().filter(|key| key.is_passed()) {
            warn!(listener = %key, detail = "no --bind serves it; connections to it wait until the service manager closes it", "passed socket not served");
        }
        let offered =
            self.sockets.into_iter().filter(|(_, (_, passed_by))| matches!(passed_by, PassedBy::Predecessor(_)));
        offered.map(|(key, _closed)| key).collect()
    }
}

impl Opening {
    /// Listens, unless the socket does already.
    pub(super) fn listen(self, backlog: u32) -> Result<Ready, Error> {
        match self {
            Self::Ready(there) => Ok(there),
            Self::Bound(bound, wanted) => ready(bound.listen(backlog)?, wanted, Shared::No),
        }
    }
}

/// Does everything that can fail, before the first accept.
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
