//! `--handoff-socket`: where a successor that nobody here started asks for the service.
//!
//! Whoever connects has got nothing yet: other users are turned away unheard, and only a valid `hello` in time is told of.

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

/// How many may be listened to at once. A further one takes the place of the oldest: a successor speaks at once, so that those who
/// say nothing cannot keep it waiting.
const MOST_VISITORS: usize = 16;

/// As many again may wait in the kernel's queue.
const BACKLOG: i32 = 16;

/// After an error of accept, such as a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// A socket at which successors ask.
pub struct Door {
    socket: Arc<AsyncFd<OwnedFd>>,
    path: SocketPath,
    file: Option<SocketFile>,
    /// Whether the path is this process's to remove: between two generations it is always one's only.
    owns_path: bool,
    /// The oldest first.
    visitors: VecDeque<BoxFuture<'static, Result<Visitor, channel::Error>>>,
}

/// Somebody who has said `hello`.
pub struct Visitor {
    /// Where the answer goes.
    pub channel: Channel,
    /// What was said.
    pub hello: Received,
}

impl Door {
    /// Takes a path where there is none.
    ///
    /// # Errors
    ///
    /// Where the path is somebody else's, or the system refuses.
    pub fn claim(path: &SocketPath) -> Result<Claim, Obstacle> {
        Claim::new(Type::SEQPACKET, path, Some(Mode::OWNER))
    }

    /// Opens it there.
    ///
    /// # Errors
    ///
    /// Where the system refuses.
    pub fn open(claim: Claim, path: &SocketPath) -> Result<Self, Obstacle> {
        let (socket, file) = claim.listen(BACKLOG)?;
        // What a visitor says before it is accepted must tell who said it, too.
        sockopt::set_socket_passcred(&socket, true)?;
        Ok(Self::on(socket, path, Some(file), true)?)
    }

    /// Takes over the one of a predecessor. Its path stays the predecessor's until [`Self::settled`].
    ///
    /// # Errors
    ///
    /// Where it is no such socket.
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

    /// Where it is.
    pub fn path(&self) -> &SocketPath {
        &self.path
    }

    /// Which file its path has to lead to, for a successor.
    pub fn file(&self) -> Option<FileId> {
        self.file.as_ref().map(SocketFile::id)
    }

    /// The socket, to be handed on.
    pub fn socket(&self) -> Arc<dyn AsFd + Send + Sync> {
        Arc::clone(&self.socket) as _
    }

    /// The predecessor has let go of it: the path is owned from here on.
    pub fn settled(&mut self) {
        self.owns_path = true;
    }

    /// Removes it from the file system, where it is this process's to remove and still this one.
    pub fn remove(&self) {
        if let Some(Err(error)) = self.file.as_ref().filter(|_| self.owns_path).map(SocketFile::remove) {
            warn!(path = %self.path, %error, "the handoff socket could not be removed");
        }
    }

    /// The next that says `hello`. May be dropped and called again.
    pub async fn visitor(&mut self) -> Visitor {
        loop {
            tokio::select! {
                // Whoever has spoken is heard before anybody else may push it out.
                biased;
                heard = heard(&mut self.visitors) => match heard {
                    Ok(visitor) => return visitor,
                    Err(error) => debug!(%error, "somebody at the handoff socket has nothing to say"),
                },
                accepted = self.socket.async_io(Interest::READABLE, |socket| {
                    Ok(accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
                }) => match accepted.and_then(admit) {
                    Ok(Some(channel)) => {
                        if self.visitors.len() == MOST_VISITORS {
                            debug!("somebody at the handoff socket has said nothing, and gives way to the next");
                            self.visitors.pop_front();
                        }
                        self.visitors.push_back(Box::pin(listen(channel)));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        warn!(%error, "nobody can be heard at the handoff socket");
                        time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}

/// What the first that speaks has said, or why it does not.
async fn heard(
    visitors: &mut VecDeque<BoxFuture<'static, Result<Visitor, channel::Error>>>,
) -> Result<Visitor, channel::Error> {
    poll_fn(|context| {
        for index in 0..visitors.len() {
            if let Poll::Ready(heard) = visitors[index].as_mut().poll(context) {
                drop(visitors.remove(index));
                return Poll::Ready(heard);
            }
        }
        Poll::Pending
    })
    .await
}

/// A channel to whoever may hand over at all: the same user, and root.
fn admit(socket: OwnedFd) -> io::Result<Option<Channel>> {
    let peer = getsockopt(&socket, PeerCredentials)?;
    if peer.uid() != geteuid().as_raw() && peer.uid() != 0 {
        debug!(uid = peer.uid(), process = peer.pid(), "another user was turned away at the handoff socket");
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
    /// Sends it away.
    pub async fn refuse(self, reason: &str) {
        let refused = Message::Refused { reason: reason.to_owned() };
        match self.channel.send(&refused, &[]).await {
            Ok(()) => debug!(reason, "a successor was refused"),
            Err(error) => debug!(reason, %error, "a successor was refused, and is gone"),
        }
    }
}
