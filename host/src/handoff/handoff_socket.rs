//! `--handoff-socket`: where a successor that this process did not start asks for the service.
//!
//! A connection has no rights yet. Those of other users are closed unread, and only a valid `hello`
//! in time is reported.

use super::{
    channel::{self, Channel, MESSAGE_TIMEOUT, Received, Side, in_time},
    message::Message,
};
use crate::{
    net::{Claim, FileId, Mode, Obstacle, SocketFile, SocketPath},
    system::kernel,
};
use futures::future::BoxFuture;
use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use rustix::net::{SocketFlags, SocketType, accept_with, sockopt};
use socket2::{SockRef, Type};
use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time,
};
use tracing::{debug, warn};

/// Most connections that are read at once. A further one replaces the oldest: a successor sends at
/// once, so silent connections cannot keep it waiting.
const MOST_VISITORS: usize = 16;

/// As many again may wait in the kernel's queue.
const BACKLOG: i32 = 16;

/// After a failed accept, for example without free descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// The listening socket for successors.
pub struct HandoffSocket {
    socket: Arc<AsyncFd<OwnedFd>>,
    path: SocketPath,
    file: Option<SocketFile>,
    /// Whether this process has to remove the path: of two generations exactly one does.
    owns_path: bool,
    /// Oldest first.
    visitors: VecDeque<BoxFuture<'static, Result<Visitor, channel::Error>>>,
}

/// A successor that has sent `hello`.
pub struct Visitor {
    /// The channel for the answer.
    pub channel: Channel,
    /// Its `hello`.
    pub hello: Received,
}

impl HandoffSocket {
    /// Claims a path that no socket has.
    ///
    /// # Errors
    ///
    /// If another program has the path, or the system refuses.
    pub fn claim(path: &SocketPath) -> Result<Claim, Obstacle> {
        Claim::new(Type::SEQPACKET, path, Some(Mode::OWNER))
    }

    /// Listens there.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn open(claim: Claim, path: &SocketPath) -> Result<Self, Obstacle> {
        let (socket, file) = claim.listen(BACKLOG)?;
        // A message that arrives before the accept must carry its sender, too.
        sockopt::set_socket_passcred(&socket, true)?;
        Ok(Self::on(socket, path, Some(file), true)?)
    }

    /// Adopts the socket of a predecessor. Its path stays the predecessor's until
    /// [`Self::settled`].
    ///
    /// # Errors
    ///
    /// If it is not such a socket.
    pub fn adopt(socket: OwnedFd, path: &SocketPath, file: Option<FileId>) -> Result<Self, Obstacle> {
        let listens = sockopt::socket_acceptconn(&socket)? && sockopt::socket_type(&socket)? == SocketType::SEQPACKET;
        let there = SockRef::from(&socket).local_addr()?.as_pathname() == Some(path.as_ref());
        if !listens || !there {
            return Err(Obstacle::NoSocket);
        }
        Ok(Self::on(socket, path, SocketFile::adopted(path, file)?, false)?)
    }

    fn on(socket: OwnedFd, path: &SocketPath, file: Option<SocketFile>, owns_path: bool) -> io::Result<Self> {
        let socket = Arc::new(kernel::watched(socket)?);
        Ok(Self { socket, path: path.clone(), file, owns_path, visitors: VecDeque::new() })
    }

    /// Its path.
    pub fn path(&self) -> &SocketPath {
        &self.path
    }

    /// The file that the path has to lead to, for a successor.
    pub fn file(&self) -> Option<FileId> {
        self.file.as_ref().map(SocketFile::id)
    }

    /// The socket, to hand it over.
    pub fn socket(&self) -> Arc<dyn AsFd + Send + Sync> {
        Arc::clone(&self.socket) as _
    }

    /// The predecessor has let go of it: this process owns the path from here on.
    pub fn settled(&mut self) {
        self.owns_path = true;
    }

    /// Removes it from the file system, if this process owns the path and the path still leads to
    /// this socket.
    pub fn remove(&self) {
        if let Some(Err(error)) = self.file.as_ref().filter(|_| self.owns_path).map(SocketFile::remove) {
            warn!(path = %self.path, %error, "handoff socket removal failed");
        }
    }

    /// The next successor that sends `hello`. May be dropped and called again.
    pub async fn visitor(&mut self) -> Visitor {
        loop {
            tokio::select! {
                // A complete `hello` is returned before a new connection may replace its sender.
                biased;
                first_hello = first_hello(&mut self.visitors) => match first_hello {
                    Ok(visitor) => return visitor,
                    Err(error) => debug!(%error, "handoff socket: connection failed"),
                },
                accepted = self.socket.async_io(Interest::READABLE, |socket| {
                    Ok(accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
                }) => match accepted.and_then(admit) {
                    Ok(Some(channel)) => {
                        if self.visitors.len() == MOST_VISITORS {
                            debug!("handoff socket: idle connection closed");
                            self.visitors.pop_front();
                        }
                        self.visitors.push_back(Box::pin(listen(channel)));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        warn!(%error, "handoff socket: accept failed");
                        time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}

/// The result of the first connection that sends something or fails.
async fn first_hello(
    visitors: &mut VecDeque<BoxFuture<'static, Result<Visitor, channel::Error>>>,
) -> Result<Visitor, channel::Error> {
    poll_fn(|context| {
        for index in 0..visitors.len() {
            if let Poll::Ready(first_hello) = visitors[index].as_mut().poll(context) {
                drop(visitors.remove(index));
                return Poll::Ready(first_hello);
            }
        }
        Poll::Pending
    })
    .await
}

/// A channel, if the peer may take over: only the same user and root may.
fn admit(socket: OwnedFd) -> io::Result<Option<Channel>> {
    let peer = getsockopt(&socket, PeerCredentials)?;
    if peer.uid() != geteuid().as_raw() && peer.uid() != 0 {
        debug!(uid = peer.uid(), process = peer.pid(), "handoff socket: user rejected");
        return Ok(None);
    }
    Channel::new(socket, Side::Predecessor).map(Some)
}

async fn listen(channel: Channel) -> Result<Visitor, channel::Error> {
    let hello = in_time("hello", MESSAGE_TIMEOUT, channel.receive()).await?;
    match hello.message {
        Message::Hello { .. } => Ok(Visitor { channel, hello }),
        message => Err(channel::Error::Unexpected { came: message.name(), awaited: "hello" }),
    }
}

impl Visitor {
    /// Rejects it.
    pub async fn refuse(self, reason: &str) {
        let refused = Message::Refused { reason: reason.to_owned() };
        match self.channel.send(&refused, &[]).await {
            Ok(()) => debug!(reason, "successor rejected"),
            Err(error) => debug!(reason, %error, "successor rejected and gone"),
        }
    }
}
