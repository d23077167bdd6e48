//! A listening socket, bound by this process or adopted from its predecessor or the service
//! manager. After adoption all behave alike, except for settings that the service manager keeps.

use super::{
    address::{ListenerAddress, PeerAddress},
    bound::length,
    key::{Key, Name},
    socket_file::{FileId, SocketFile},
    uri::Bind,
};
use crate::system::kernel;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd},
    net::{SocketAddrAny, SocketFlags, accept_with, acceptfrom_with, listen, sockopt},
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor is not the listener that its key names.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It is a file, a pipe or the like.
    #[error("the descriptor passed as {0} is not a socket")]
    NoSocket(Key),
    /// It serves datagrams or packets.
    #[error("the descriptor passed as {0} is not a stream socket")]
    NoStream(Key),
    /// It does not listen: listen(2) was not called.
    #[error("the socket passed as {0} does not listen")]
    NotListening(Key),
    /// It has another address, or another kind of address.
    #[error("the socket passed as {key} listens on {found}")]
    Elsewhere {
        /// The key that it came with.
        key: Key,
        /// Its real address.
        found: String,
    },
    /// Connections would come from a network that this process is not in.
    #[error(
        "the socket passed as {0} listens in another network namespace: start the successor in the namespace of its predecessor"
    )]
    OtherNetwork(Key),
    /// The system refused to examine it.
    #[error("the socket passed as {0} cannot be examined: {1}")]
    System(Key, io::Error),
}

/// A listening socket. Dropping it closes it; only [`Self::unlink`] removes its path.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    key: Key,
    address: ListenerAddress,
    /// The file at the path of a unix listener.
    file: Option<SocketFile>,
    /// Whether this process may remove the path. Between two generations the path always belongs to
    /// one of them.
    owns_path: AtomicBool,
}

impl Listener {
    /// A socket that this process has bound. This process owns its path.
    pub(super) fn new(socket: OwnedFd, key: Key, address: ListenerAddress, file: Option<SocketFile>) -> Self {
        Self { socket, key, address, file, owns_path: AtomicBool::new(true) }
    }

    /// Takes a socket from the service manager. Its unit's settings stay in force: the length of
    /// the queue, the mode, the path.
    ///
    /// # Errors
    ///
    /// If it cannot be served.
    pub fn passed(socket: OwnedFd, key: Key) -> Result<Self, AdoptError> {
        let listener = Self::adopt(socket, key, None)?;
        if let ListenerAddress::Tcp(_) = listener.address {
            let delay_nothing = SockRef::from(&listener.socket).set_tcp_nodelay(true);
            delay_nothing.map_err(|error| AdoptError::System(listener.key.clone(), error))?;
        }
        Ok(listener)
    }

    /// Takes over a socket that the predecessor has bound as `key` and `file`, and still serves.
    /// Changes only what concerns this process: its children do not inherit the socket, and it
    /// never blocks, as every holder sets. The path stays the predecessor's until
    /// [`Self::settled`].
    ///
    /// # Errors
    ///
    /// If it is not what `key` says.
    pub fn adopt(socket: OwnedFd, key: Key, file: Option<FileId>) -> Result<Self, AdoptError> {
        let system = |error| AdoptError::System(key.clone(), error);
        let kind = match sockopt::socket_type(&socket) {
            Ok(kind) => kind,
            Err(Errno::NOTSOCK) => return Err(AdoptError::NoSocket(key)),
            Err(error) => return Err(system(error.into())),
        };
        if kind != rustix::net::SocketType::STREAM {
            return Err(AdoptError::NoStream(key));
        }
        if !sockopt::socket_acceptconn(&socket).map_err(|error| system(error.into()))? {
            return Err(AdoptError::NotListening(key));
        }
        let found = SockRef::from(&socket).local_addr().map_err(system)?;
        let Some(address) = matching(&key, &found) else {
            let found = match (found.as_socket(), found.as_pathname()) {
                (Some(address), _) => ListenerAddress::from(address).to_string(),
                (None, Some(path)) => format!("unix://{}", path.display()),
                (None, None) => "an address of another kind".into(),
            };
            return Err(AdoptError::Elsewhere { key, found });
        };
        let here = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(system)?;
        // A service with a private network may be passed sockets of another one.
        if !key.is_passed()
            && kernel::network_namespace(socket.as_fd()).map_err(system)?
                != kernel::network_namespace(here.as_fd()).map_err(system)?
        {
            return Err(AdoptError::OtherNetwork(key));
        }
        set_private_flags(&socket).map_err(|error| system(error.into()))?;
        let file = match &address {
            ListenerAddress::Unix(path) if !key.is_passed() => SocketFile::adopted(path, file).map_err(system)?,
            _ => None,
        };
        Ok(Self { socket, key, address, file, owns_path: AtomicBool::new(false) })
    }

    /// Takes over the path after the predecessor has released it, and applies the options of
    /// `bind`. Before that, a second listen(2) or another mode would change the predecessor's
    /// socket too.
    ///
    /// # Errors
    ///
    /// If the system refuses. The listener then serves with its previous options.
    pub fn settled(&self, bind: &Bind, backlog: u32) -> io::Result<()> {
        if self.key.is_passed() {
            return Ok(());
        }
        self.owns_path.store(true, Ordering::Relaxed);
        if let (Some(file), Bind::Unix(_, Some(mode))) = (&self.file, bind) {
            file.set_mode(*mode)?;
        }
        Ok(listen(&self.socket, length(backlog))?)
    }

    /// The file that its path must lead to, for a successor.
    pub fn file(&self) -> Option<FileId> {
        self.file.as_ref().map(SocketFile::id)
    }

    /// Whether clients that use its address connect to this socket. Always true on tcp.
    pub fn is_where_it_says(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.is_there().unwrap_or(true))
    }

    /// Removes the path of a unix listener, if this process owns it and it still leads to this
    /// socket. For a listener that is retired, or of a start that failed.
    ///
    /// # Errors
    ///
    /// If the system does not allow it.
    pub fn unlink(&self) -> io::Result<()> {
        match &self.file {
            Some(file) if self.owns_path.load(Ordering::Relaxed) => file.remove(),
            _ => Ok(()),
        }
    }

    /// The key under which it is handed over.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its address, with the real port.
    pub fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Starts to watch for connections. Needs a runtime, whose reactor watches a copy of the
    /// descriptor for the life of the result. Dropping the result leaves the listener open.
    ///
    /// # Errors
    ///
    /// If descriptors have run out, or the reactor does not accept it.
    pub fn incoming(&self) -> io::Result<Incoming> {
        Ok(Incoming { socket: kernel::watched(self.socket.try_clone()?)?, address: self.address.clone() })
    }

    /// Takes one connection off the queue; `WouldBlock` if it is empty.
    ///
    /// # Errors
    ///
    /// Any error of `accept4(2)`.
    pub fn accept(&self) -> io::Result<(OwnedFd, PeerAddress)> {
        accept(&self.socket, &self.address)
    }
}

impl AsFd for Listener {
    /// The socket, for sending it to a successor.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The incoming connections of a listener.
#[derive(Debug)]
pub struct Incoming {
    socket: AsyncFd<OwnedFd>,
    address: ListenerAddress,
}

impl Incoming {
    /// The listener's address.
    pub fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Waits until a connection may be queued.
    ///
    /// # Errors
    ///
    /// Only if the runtime is shutting down.
    pub async fn ready(&self) -> io::Result<()> {
        self.socket.readable().await?.retain_ready();
        Ok(())
    }

    /// Takes one connection off the queue; `WouldBlock` if it is empty, so that [`Self::ready`]
    /// waits again.
    ///
    /// # Errors
    ///
    /// Any error of `accept4(2)`.
    pub fn accept(&self) -> io::Result<(OwnedFd, PeerAddress)> {
        self.socket.try_io(Interest::READABLE, |socket| accept(socket, &self.address))
    }
}

/// The address of a socket, if it is bound as `key` says.
fn matching(key: &Key, found: &SockAddr) -> Option<ListenerAddress> {
    match &key.0 {
        Name::Tcp(address) => found.as_socket().filter(|found| found == address).map(ListenerAddress::Tcp),
        Name::ChosenPort(address, _) => {
            let is_it = |found: &SocketAddr| SocketAddr::new(found.ip(), 0) == *address;
            found.as_socket().filter(is_it).map(ListenerAddress::Tcp)
        }
        Name::Unix(path) => (found.as_pathname() == Some(path.as_ref())).then(|| ListenerAddress::Unix(path.clone())),
        Name::Passed(..) => {
            let path = || found.as_pathname()?.to_str()?.parse().ok().map(ListenerAddress::Unix);
            found.as_socket().map(ListenerAddress::Tcp).or_else(path)
        }
        Name::AllPassed(_) => None,
    }
}

fn set_private_flags(socket: &OwnedFd) -> rustix::io::Result<()> {
    let flags = fcntl_getfd(socket)?;
    if !flags.contains(FdFlags::CLOEXEC) {
        fcntl_setfd(socket, flags | FdFlags::CLOEXEC)?;
    }
    let status = fcntl_getfl(socket)?;
    if !status.contains(OFlags::NONBLOCK) {
        fcntl_setfl(socket, status | OFlags::NONBLOCK)?;
    }
    Ok(())
}

fn accept(socket: &OwnedFd, listener: &ListenerAddress) -> io::Result<(OwnedFd, PeerAddress)> {
    // Non-blocking and close-on-exec from the start.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match listener {
        ListenerAddress::Tcp(_) => {
            let (socket, peer): (OwnedFd, Option<SocketAddrAny>) = acceptfrom_with(socket, flags)?;
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
            Ok((socket, peer.into()))
        }
        ListenerAddress::Unix(_) => {
            // The peer's address is read separately: a name may be 108 bytes long, its final NUL
            // beyond the end of `sockaddr_un`, and rustix panics on such an answer of accept4(2).
            let stream = UnixStream::from(accept_with(socket, flags)?);
            let peer = stream.peer_addr().map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))?;
            Ok((stream.into(), peer.into()))
        }
    }
}

#[cfg(test)]
mod tests;
