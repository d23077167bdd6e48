//! The socket of the endpoint, and who may speak there.
//!
//! A listener like those that are served, apart from them: handed over, given back and removed by the same rules, and accepted on
//! by a task of its own, so that whatever happens here concerns nobody else.

use super::{
    address::Address,
    desk::{Desk, MOST_CONNECTIONS},
    http::{self, Reach},
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

/// After an error of accept, such as a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a connection that had to give way may take to be gone.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// A socket at which an operator asks. Dropped, it is gone, and so is its path where that is this process's.
#[derive(Debug)]
pub struct Endpoint {
    listener: Arc<Listener>,
    address: Address,
    desk: Desk,
    accepting: Option<AbortHandle>,
    /// Whether a successor has it now.
    handed_over: bool,
}

impl Endpoint {
    /// Those who ask at once are few; further ones wait in connect(2).
    pub const BACKLOG: u32 = 32;

    /// One at which nobody is heard yet.
    pub fn new(listener: Listener, address: Address, desk: Desk) -> Self {
        Self { listener: Arc::new(listener), address, desk, accepting: None, handed_over: false }
    }

    /// Hears whoever comes, where nobody does already. Needs a runtime.
    ///
    /// # Errors
    ///
    /// Where descriptors have run out.
    pub fn open(&mut self) -> io::Result<()> {
        if self.accepting.is_none() {
            let incoming = self.listener.incoming()?;
            self.accepting = Some(tokio::spawn(accept(incoming, self.desk.clone())).abort_handle());
        }
        Ok(())
    }

    /// Hears nobody new: somebody else does. Whoever was heard is answered.
    pub fn pause(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The name under which it is handed over.
    pub fn key(&self) -> &Key {
        self.listener.key()
    }

    /// Which file its path has to lead to, for a successor.
    pub fn file(&self) -> Option<FileId> {
        self.listener.file()
    }

    /// The socket, to be handed on.
    pub fn socket(&self) -> Arc<dyn AsFd + Send + Sync> {
        Arc::clone(&self.listener) as _
    }

    /// The predecessor has let go of it.
    ///
    /// # Errors
    ///
    /// Where the system refuses what is this process's to set now.
    pub fn settled(&self) -> io::Result<()> {
        self.listener.settled(self.address.bind(), Self::BACKLOG)
    }

    /// Lets go of it: a successor has it, and its path.
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
            warn!(address = %self.address, %error, "the admin endpoint's path could not be removed");
        }
    }
}

/// A connection that has not asked for anything yet.
struct Silent {
    task: AbortHandle,
    asked: Arc<AtomicBool>,
}

async fn accept(incoming: Incoming, desk: Desk) {
    let mut silent: VecDeque<Silent> = VecDeque::new();
    // It fails only where the runtime is shutting down.
    while incoming.ready().await.is_ok() {
        match incoming.accept() {
            Ok((socket, _peer)) => {
                silent.retain(|one| !one.asked.load(Ordering::Relaxed) && !one.task.is_finished());
                let Some(place) = place(&desk, &mut silent).await else {
                    debug!("nobody more is heard at the admin endpoint: {MOST_CONNECTIONS} wait for an outcome");
                    continue;
                };
                let asked = Arc::new(AtomicBool::new(false));
                match serve(socket, incoming.address(), &desk, &asked, place) {
                    Ok(Some(task)) => silent.push_back(Silent { task, asked }),
                    Ok(None) => {}
                    Err(error) => debug!(%error, "somebody at the admin endpoint could not be heard"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                warn!(%error, "nobody can be heard at the admin endpoint");
                time::sleep(PAUSE).await;
            }
        }
    }
}

/// A place for one more; the one that has been silent for longest gives way where there is none.
async fn place(desk: &Desk, silent: &mut VecDeque<Silent>) -> Option<OwnedSemaphorePermit> {
    let places = Arc::clone(&desk.places);
    if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
        return Some(place);
    }
    debug!("somebody at the admin endpoint has asked nothing, and gives way to the next");
    silent.pop_front()?.task.abort();
    time::timeout(GIVE_WAY, places.acquire_owned()).await.ok()?.ok()
}

fn serve(
    socket: OwnedFd,
    at: &ListenerAddress,
    desk: &Desk,
    asked: &Arc<AtomicBool>,
    place: OwnedSemaphorePermit,
) -> io::Result<Option<AbortHandle>> {
    let (desk, asked) = (desk.clone(), Arc::clone(asked));
    let task = match at {
        ListenerAddress::Unix(_) => {
            let peer = getsockopt(&socket, PeerCredentials)?;
            if peer.uid() != geteuid().as_raw() && peer.uid() != 0 {
                debug!(uid = peer.uid(), process = peer.pid(), "another user was turned away at the admin endpoint");
                return Ok(None);
            }
            tokio::spawn(http::serve(Stream::new(socket)?, Reach::Owner, desk, asked, place))
        }
        ListenerAddress::Tcp(_) => tokio::spawn(http::serve(Stream::new(socket)?, Reach::Machine, desk, asked, place)),
    };
    Ok(Some(task.abort_handle()))
}
