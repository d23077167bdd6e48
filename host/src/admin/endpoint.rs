//! The socket of the endpoint, and the peers that may use it.
//!
//! It is a listener like the served ones, but separate. It is handed over, given back and removed
//! by the same rules. Its own task accepts on it, so that its failures affect no other listener.

use super::{
    address::Address,
    http::{self, Reach},
    queue::{MOST_CONNECTIONS, Queue},
    stream::Stream,
};
use crate::net::{FileId, Incoming, Key, Listener, ListenerAddress};
use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::OwnedSemaphorePermit, task::AbortHandle, time};
use tracing::{debug, warn};

/// After a failed accept, for example without free descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a replaced connection may take to close.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// The admin socket. Dropping it closes it and removes its path, if this process owns that.
#[derive(Debug)]
pub struct Endpoint {
    listener: Arc<Listener>,
    address: Address,
    queue: Queue,
    accepting: Option<AbortHandle>,
    /// Whether a successor has it now.
    handed_over: bool,
}

impl Endpoint {
    /// Few clients connect at once; further ones wait in connect(2).
    pub const BACKLOG: u32 = 32;

    /// An endpoint that does not accept yet.
    pub fn new(listener: Listener, address: Address, queue: Queue) -> Self {
        Self { listener: Arc::new(listener), address, queue, accepting: None, handed_over: false }
    }

    /// Starts to accept, unless it does already. Needs a runtime.
    ///
    /// # Errors
    ///
    /// If descriptors have run out.
    pub fn open(&mut self) -> io::Result<()> {
        if self.accepting.is_none() {
            let incoming = self.listener.incoming()?;
            self.accepting = Some(tokio::spawn(accept(incoming, self.queue.clone())).abort_handle());
        }
        Ok(())
    }

    /// Stops accepting, since another process does. Requests under way are answered.
    pub fn pause(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }

    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The key under which it is handed over.
    pub fn key(&self) -> &Key {
        self.listener.key()
    }

    /// The file that its path has to lead to, for a successor.
    pub fn file(&self) -> Option<FileId> {
        self.listener.file()
    }

    /// The socket, to hand it over.
    pub fn socket(&self) -> Arc<dyn AsFd + Send + Sync> {
        Arc::clone(&self.listener) as _
    }

    /// The predecessor has let go of it: this process owns it from here on.
    ///
    /// # Errors
    ///
    /// If the system refuses to set its options or permissions.
    pub fn settled(&self) -> io::Result<()> {
        self.listener.settled(self.address.bind(), Self::BACKLOG)
    }

    /// Lets go of it: a successor has it, with its path.
    pub fn hand_over(mut self) {
        self.handed_over = true;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.pause();
        if !self.handed_over
            && let Err(error) = self.listener.unlink()
        {
            warn!(address = %self.address, %error, "admin socket removal failed");
        }
    }
}

/// A connection that has not sent a request yet.
struct Silent {
    task: AbortHandle,
    asked: Arc<AtomicBool>,
}

async fn accept(incoming: Incoming, queue: Queue) {
    let mut silent: VecDeque<Silent> = VecDeque::new();
    // It fails only if the runtime shuts down.
    while incoming.ready().await.is_ok() {
        match incoming.accept() {
            Ok((socket, _peer)) => {
                silent.retain(|one| !one.asked.load(Ordering::Relaxed) && !one.task.is_finished());
                let Some(place) = place(&queue, &mut silent).await else {
                    debug!(waiting = MOST_CONNECTIONS, "admin endpoint: connection limit reached");
                    continue;
                };
                let asked = Arc::new(AtomicBool::new(false));
                match serve(socket, incoming.address(), &queue, &asked, place) {
                    Ok(Some(task)) => silent.push_back(Silent { task, asked }),
                    Ok(None) => {}
                    Err(error) => debug!(%error, "admin endpoint: connection failed"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                warn!(%error, "admin endpoint: accept failed");
                time::sleep(PAUSE).await;
            }
        }
    }
}

/// A permit for one more connection. If none is free, the connection that has been silent longest
/// is closed.
async fn place(queue: &Queue, silent: &mut VecDeque<Silent>) -> Option<OwnedSemaphorePermit> {
    let places = Arc::clone(&queue.places);
    if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
        return Some(place);
    }
    debug!("admin endpoint: idle connection closed");
    silent.pop_front()?.task.abort();
    time::timeout(GIVE_WAY, places.acquire_owned()).await.ok()?.ok()
}

fn serve(
    socket: OwnedFd,
    at: &ListenerAddress,
    queue: &Queue,
    asked: &Arc<AtomicBool>,
    place: OwnedSemaphorePermit,
) -> io::Result<Option<AbortHandle>> {
    let (queue, asked) = (queue.clone(), Arc::clone(asked));
    let task = match at {
        ListenerAddress::Unix(_) => {
            let peer = getsockopt(&socket, PeerCredentials)?;
            if peer.uid() != geteuid().as_raw() && peer.uid() != 0 {
                debug!(uid = peer.uid(), process = peer.pid(), "admin endpoint: user rejected");
                return Ok(None);
            }
            tokio::spawn(http::serve(Stream::new(socket)?, Reach::Owner, queue, asked, place))
        }
        ListenerAddress::Tcp(_) => tokio::spawn(http::serve(Stream::new(socket)?, Reach::Machine, queue, asked, place)),
    };
    Ok(Some(task.abort_handle()))
}
