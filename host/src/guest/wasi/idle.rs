//! Connections of one plugin to servers, between the requests of its guests.
//!
//! They are few and short-lived. They do not take places of guests. Servers usually close idle
//! connections after five seconds or more.

use crate::component::places;
use hyper::client::conn::http1::SendRequest;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    task::AbortHandle,
    time::{self, Instant},
};
use wasmtime_wasi_http::WasiBody;

/// The most idle connections of a plugin: as many as one guest may hold.
const MOST: usize = places::PLACES as usize;

/// How long one is kept. Among the common servers Node.js is the first to close idle connections,
/// after 5 s.
const LONGEST: Duration = Duration::from_secs(4);

/// How often expired ones are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// A connection to a server. Dropping it closes it.
#[derive(Debug)]
pub(in crate::guest) struct Connection {
    sender: SendRequest<WasiBody>,
    address: SocketAddr,
    driver: AbortHandle,
}

impl Connection {
    /// `driver` is the task that moves its bytes.
    pub(in crate::guest) fn new<T>(
        sender: SendRequest<WasiBody>,
        address: SocketAddr,
        driver: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let driver = tokio::spawn(async move { drop(driver.await) }).abort_handle();
        Self { sender, address, driver }
    }

    pub(in crate::guest) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(in crate::guest) fn sender(&mut self) -> &mut SendRequest<WasiBody> {
        &mut self.sender
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The server at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guest) struct Key {
    encrypted: bool,
    host: String,
    port: u16,
}

impl Key {
    pub(in crate::guest) fn new(encrypted: bool, host: &str, port: u16) -> Self {
        Self { encrypted, host: host.to_ascii_lowercase(), port }
    }

    pub(in crate::guest) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    pub(in crate::guest) fn host(&self) -> &str {
        &self.host
    }

    pub(in crate::guest) fn port(&self) -> u16 {
        self.port
    }
}

/// The idle connections of a plugin.
#[derive(Debug, Default)]
pub(in crate::guest) struct Idle(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first.
    connections: VecDeque<(Instant, Key, Connection)>,
    /// Whether a task removes expired ones.
    watched: bool,
}

impl Kept {
    fn drop_old(&mut self) {
        while self.connections.front().is_some_and(|(since, ..)| since.elapsed() >= LONGEST) {
            self.connections.pop_front();
        }
    }
}

impl Idle {
    /// The connection to this server that became idle last, if there is one.
    pub(in crate::guest) fn take(&self, key: &Key) -> Option<Connection> {
        let mut kept = self.kept();
        kept.drop_old();
        loop {
            let found = kept.connections.iter().rposition(|(_, other, _)| other == key)?;
            let (_, _, connection) = kept.connections.remove(found)?;
            // Its server may have closed it.
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(in crate::guest) fn put(self: &Arc<Self>, key: Key, connection: Connection) {
        let mut kept = self.kept();
        kept.connections.push_back((Instant::now(), key, connection));
        if kept.connections.len() > MOST {
            kept.connections.pop_front();
        }
        if !std::mem::replace(&mut kept.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A holder of the lock cannot leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes expired connections, until there are none left.
async fn watch(idle: Weak<Idle>) {
    loop {
        time::sleep(LOOK).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut kept = idle.kept();
        kept.drop_old();
        if kept.connections.is_empty() {
            kept.watched = false;
            return;
        }
    }
}
