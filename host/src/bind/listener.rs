//! A socket that listens, bound by this process or adopted from its predecessor or the service manager: from then on nobody can
//! tell the difference, but for what a service manager keeps to itself.

use super::{
    Bind, Key, ListenerAddress, PeerAddress,
    key::Name,
    socket_file::{Claim, FileId, Obstacle, SocketFile},
};
use crate::{privilege::Owner, sys};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd},
    net::{SocketAddrAny, SocketFlags, accept_with, acceptfrom_with, listen, sockopt},
};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
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

/// The system refused to listen.
#[derive(Debug, thiserror::Error)]
#[error("--bind {bind}: {obstacle}")]
pub struct Error {
    bind: Bind,
    obstacle: Obstruction,
}

#[derive(Debug, thiserror::Error)]
enum Obstruction {
    #[error("{error}{remedy}", error = .0, remedy = remedy(.0))]
    Tcp(io::Error),
    #[error(transparent)]
    Unix(Obstacle),
    #[error("only the service manager opens it")]
    Passed,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: stop it, or bind another port",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address: bind one that it has, or 0.0.0.0",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE, which --user gives up: bind a higher one, or stop and start"
        }
        _ => "",
    }
}

/// A descriptor is not the listener that it was said to be.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It is a file, a pipe or the like.
    #[error("what came as {0} is no socket")]
    NoSocket(Key),
    /// It serves datagrams or packets.
    #[error("what came as {0} is no stream socket")]
    NoStream(Key),
    /// Nobody has called listen(2) on it.
    #[error("what came as {0} does not listen")]
    NotListening(Key),
    /// It has another address, or another kind of address.
    #[error("what came as {key} listens on {found}")]
    Elsewhere {
        /// What it was said to be.
        key: Key,
        /// What it is.
        found: String,
    },
    /// Connections would come from a network that this process is not in.
    #[error("what came as {0} listens in another network namespace: start the successor in that of its predecessor")]
    OtherNetwork(Key),
    /// The system does not say what it is.
    #[error("what came as {0}: {1}")]
    System(Key, io::Error),
}

/// A socket that listens. Closed when dropped; its path, where it has one, is removed by [`Self::unlink`] only.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    key: Key,
    address: ListenerAddress,
    /// What stands at the path of a unix listener.
    file: Option<SocketFile>,
    /// Whether the path is this process's to remove: between two generations it is always one's only.
    owns_path: AtomicBool,
}

/// A socket that is bound and does not listen yet: its address is this process's, and whoever connects is refused, as if it were
/// not there. Dropped, it leaves no trace.
#[derive(Debug)]
pub struct Bound {
    bind: Bind,
    key: Key,
    address: ListenerAddress,
    socket: Unheard,
}

#[derive(Debug)]
enum Unheard {
    Tcp(Socket),
    Unix(Claim),
}

impl Bound {
    /// Binds.
    ///
    /// # Errors
    ///
    /// Where the system refuses any step, or something else is at the path; the error names the URI.
    pub fn new(bind: &Bind, key: Key) -> Result<Self, Error> {
        let refused = |obstacle| Error { bind: bind.clone(), obstacle };
        let (address, socket) = match bind {
            Bind::Tcp(address) => {
                let (socket, real) = tcp(*address).map_err(|error| refused(Obstruction::Tcp(error)))?;
                (ListenerAddress::Tcp(real), Unheard::Tcp(socket))
            }
            Bind::Unix(path, mode) => {
                let claim = Claim::new(Type::STREAM, path, *mode);
                let claim = claim.map_err(|obstacle| refused(Obstruction::Unix(obstacle)))?;
                (ListenerAddress::Unix(path.clone()), Unheard::Unix(claim))
            }
            Bind::Systemd(_) => return Err(refused(Obstruction::Passed)),
        };
        Ok(Self { bind: bind.clone(), key, address, socket })
    }

    /// Where it will listen.
    pub fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Gives its path to whom this process becomes, so that those that come after it may change and remove it.
    ///
    /// # Errors
    ///
    /// Where the system does not allow it.
    pub fn give_to(&self, owner: Owner) -> io::Result<()> {
        match &self.socket {
            Unheard::Tcp(_) => Ok(()),
            Unheard::Unix(claim) => claim.give_to(owner),
        }
    }

    /// Listens. Its path, where it has one, is owned from here on.
    ///
    /// # Errors
    ///
    /// Where the system refuses: hardly anything can come between, but another program may have begun to listen on the port in
    /// the same instant.
    pub fn listen(self, backlog: u32) -> Result<Listener, Error> {
        let Self { bind, key, address, socket } = self;
        let (socket, file) = match socket {
            Unheard::Tcp(socket) => match heard(&socket, backlog) {
                Ok(()) => (socket.into(), None),
                Err(error) => return Err(Error { bind, obstacle: Obstruction::Tcp(error) }),
            },
            Unheard::Unix(claim) => match claim.listen(length(backlog)) {
                Ok((socket, file)) => (socket, Some(file)),
                Err(error) => return Err(Error { bind, obstacle: Obstruction::Unix(error.into()) }),
            },
        };
        Ok(Listener { socket, key, address, file, owns_path: AtomicBool::new(true) })
    }
}

impl Listener {
    /// Takes a socket that the service manager has passed. What it keeps of it stays as its unit says: the length of the queue, who
    /// may connect, the path.
    ///
    /// # Errors
    ///
    /// Where it is none that can be served.
    pub fn passed(socket: OwnedFd, key: Key) -> Result<Self, AdoptError> {
        let listener = Self::adopt(socket, key, None)?;
        if let ListenerAddress::Tcp(_) = listener.address {
            let delay_nothing = SockRef::from(&listener.socket).set_tcp_nodelay(true);
            delay_nothing.map_err(|error| AdoptError::System(listener.key.clone(), error))?;
        }
        Ok(listener)
    }

    /// Takes over a socket that a predecessor has bound as `key`, to this file, and still serves. So nothing is changed on it but what
    /// concerns this process alone: that its children do not inherit it, and that it never blocks, which every holder wants. Its path
    /// stays the predecessor's until [`Self::settled`].
    ///
    /// # Errors
    ///
    /// Where it is not what `key` says.
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
        // A service without a network of its own may well be passed sockets of another.
        if !key.is_passed()
            && sys::network_namespace(socket.as_fd()).map_err(system)?
                != sys::network_namespace(here.as_fd()).map_err(system)?
        {
            return Err(AdoptError::OtherNetwork(key));
        }
        keep_to_ourselves(&socket).map_err(|error| system(error.into()))?;
        let file = match &address {
            ListenerAddress::Unix(path) if !key.is_passed() => SocketFile::adopted(path, file).map_err(system)?,
            _ => None,
        };
        Ok(Self { socket, key, address, file, owns_path: AtomicBool::new(false) })
    }

    /// The predecessor has let go of it: the path is owned from here on, and what `bind` asks for is applied. Until then, a second
    /// listen(2) or another mode would change the predecessor's socket too.
    ///
    /// # Errors
    ///
    /// What the system refused; the listener serves on as it was.
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

    /// Which file its path has to lead to, for a successor.
    pub fn file(&self) -> Option<FileId> {
        self.file.as_ref().map(SocketFile::id)
    }

    /// Whether clients that are given its address come here. Always so on tcp.
    pub fn is_where_it_says(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.is_there().unwrap_or(true))
    }

    /// Removes the path of a unix listener, where this process owns it and it still leads to this socket. For a listener that is
    /// retired, or that was bound in vain.
    ///
    /// # Errors
    ///
    /// Where the system does not allow it.
    pub fn unlink(&self) -> io::Result<()> {
        match &self.file {
            Some(file) if self.owns_path.load(Ordering::Relaxed) => file.remove(),
            _ => Ok(()),
        }
    }

    /// The name under which it is handed over.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Starts to watch for connections. Needs a runtime, whose reactor watches a copy of the descriptor for as long as the result
    /// lives; the listener stays open when that is dropped.
    ///
    /// # Errors
    ///
    /// Where descriptors have run out, or the reactor cannot take it.
    pub fn incoming(&self) -> io::Result<Incoming> {
        Ok(Incoming { socket: sys::watched(self.socket.try_clone()?)?, address: self.address.clone() })
    }

    /// Takes one connection off the queue; `WouldBlock` where it is empty.
    ///
    /// # Errors
    ///
    /// Whatever `accept4(2)` answers.
    pub fn accept(&self) -> io::Result<(OwnedFd, PeerAddress)> {
        accept(&self.socket, &self.address)
    }
}

impl AsFd for Listener {
    /// The socket, to be sent to a successor.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The connections that come to a listener.
#[derive(Debug)]
pub struct Incoming {
    socket: AsyncFd<OwnedFd>,
    address: ListenerAddress,
}

impl Incoming {
    /// Where they come to.
    pub fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Waits until a connection is queued, or may be.
    ///
    /// # Errors
    ///
    /// Only where the runtime is shutting down.
    pub async fn ready(&self) -> io::Result<()> {
        self.socket.readable().await?.retain_ready();
        Ok(())
    }

    /// Takes one connection off the queue; `WouldBlock` where it is empty, so that [`Self::ready`] waits again.
    ///
    /// # Errors
    ///
    /// Whatever `accept4(2)` answers.
    pub fn accept(&self) -> io::Result<(OwnedFd, PeerAddress)> {
        self.socket.try_io(Interest::READABLE, |socket| accept(socket, &self.address))
    }
}

/// The kernel's queue, as listen(2) takes it.
fn length(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// A port that is taken, as far as the system has a way to: two sockets may be bound to one port as long as neither listens, if both
/// were bound so that connections of former times do not matter. So this one forgets that it was, until it listens.
fn tcp(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // What `[::]` means must not depend on net.ipv6.bindv6only.
        socket.set_only_v6(false)?;
    }
    // A port whose last connections are in TIME_WAIT is free; one where another process listens is not.
    socket.set_reuse_address(true)?;
    // Guests write whole answers; waiting for more to send with them would only delay those. Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.set_reuse_address(false)?;
    let real = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, real))
}

fn heard(socket: &Socket, backlog: u32) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.listen(length(backlog))
}

/// The address of a socket that is bound as `key` says.
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

/// Binds without listening, and lets go.
pub(super) fn check(bind: &Bind) -> Result<(), Error> {
    let refused = |obstacle| Error { bind: bind.clone(), obstacle };
    match bind {
        Bind::Tcp(address) => match tcp(*address) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => Err(refused(Obstruction::Tcp(error))),
            _ => Ok(()),
        },
        Bind::Unix(path, _) => SocketFile::check(path).map_err(|obstacle| refused(Obstruction::Unix(obstacle))),
        // What a service manager will pass is known when it does.
        Bind::Systemd(_) => Ok(()),
    }
}

fn keep_to_ourselves(socket: &OwnedFd) -> rustix::io::Result<()> {
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
            // Asked for apart: a peer's name may be 108 bytes long, its final NUL beyond the end of `sockaddr_un`, and rustix
            // panics when it converts such an answer of accept4(2).
            let stream = UnixStream::from(accept_with(socket, flags)?);
            let peer = stream.peer_addr().map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))?;
            Ok((stream.into(), peer.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use rustix::net::{SocketAddrUnix, bind};
    use std::{
        fs::{self, File},
        net::{TcpListener, TcpStream, UdpSocket},
        os::unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixListener},
        },
        path::Path,
        thread,
    };

    const BACKLOG: u32 = 16;

    fn listener(uri: &str) -> Listener {
        let bind: Bind = uri.parse().unwrap();
        let [key] = Key::of(std::slice::from_ref(&bind)).try_into().unwrap();
        Bound::new(&bind, key).unwrap().listen(BACKLOG).unwrap()
    }

    fn copy(listener: &Listener) -> OwnedFd {
        listener.as_fd().try_clone_to_owned().unwrap()
    }

    fn adopt(socket: impl Into<OwnedFd>, key: &str) -> Result<Listener, AdoptError> {
        Listener::adopt(socket.into(), key.parse().unwrap(), None)
    }

    #[test]
    fn a_listener_is_adopted_as_what_it_is_and_left_as_it_was() {
        let bound = listener("tcp://127.0.0.1:0");
        let port = format!("tcp://{}", bound.address().to_string().strip_prefix("tcp://").unwrap());
        for key in [&*bound.key().to_string(), "tcp://127.0.0.1:0#7", &port] {
            let adopted = adopt(copy(&bound), key).unwrap();
            assert_eq!((adopted.key().to_string().as_str(), adopted.address()), (key, bound.address()));
        }
    }

    #[test]
    fn the_queue_is_as_long_as_the_predecessor_made_it_until_it_has_let_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let uri = format!("unix://{}", path.display());
        let predecessor = listener(&uri);
        let successor = adopt(copy(&predecessor), &uri).unwrap();
        let client = || {
            let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            client.connect(&SockAddr::unix(&path).unwrap()).map(|()| client)
        };
        // The kernel takes one more than it was asked for.
        let _queued: Vec<_> = (0..=BACKLOG).map(|_| client().unwrap()).collect();
        assert_eq!(client().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        successor.settled(&uri.parse().unwrap(), BACKLOG + 1).unwrap();
        client().unwrap();
        assert_eq!(client().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_adopted_socket_neither_blocks_nor_is_inherited() {
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let key = format!("tcp://{}", plain.local_addr().unwrap());
        let socket = OwnedFd::from(plain);
        fcntl_setfd(&socket, FdFlags::empty()).unwrap();
        let adopted = adopt(socket, &key).unwrap();
        assert!(fcntl_getfd(&adopted.socket).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(adopted.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_not_that_listener_is_not_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = |name: &str| format!("unix://{}", directory.path().join(name).display());
        let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = {
            let listener = tcp();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap()
        };
        let any = "tcp://127.0.0.1:0#0";
        assert!(matches!(adopt(File::open("/dev/null").unwrap(), any), Err(AdoptError::NoSocket(_))));
        assert!(matches!(adopt(UdpSocket::bind("127.0.0.1:0").unwrap(), any), Err(AdoptError::NoStream(_))));
        assert!(matches!(adopt(UnixDatagram::unbound().unwrap(), any), Err(AdoptError::NoStream(_))));
        assert!(matches!(adopt(connected, any), Err(AdoptError::NotListening(_))));
        let elsewhere = |socket: OwnedFd, key: &str| match adopt(socket, key) {
            Err(AdoptError::Elsewhere { found, .. }) => found,
            other => panic!("{key}: {other:?}"),
        };
        assert!(elsewhere(tcp().into(), "tcp://127.0.0.1:1").starts_with("tcp://127.0.0.1:"));
        assert!(elsewhere(tcp().into(), "tcp://127.0.0.2:0#0").starts_with("tcp://127.0.0.1:"));
        assert!(elsewhere(tcp().into(), "tcp://[::1]:0#0").starts_with("tcp://127.0.0.1:"));
        assert!(elsewhere(tcp().into(), &unix("socket")).starts_with("tcp://127.0.0.1:"));
        let socket = UnixListener::bind(&path).unwrap();
        assert_eq!(elsewhere(socket.try_clone().unwrap().into(), &unix("other")), unix("socket"));
        assert_eq!(elsewhere(socket.try_clone().unwrap().into(), any), unix("socket"));
        adopt(socket, &unix("socket")).unwrap();
    }

    #[test]
    fn a_listener_of_another_network_is_not_adopted() {
        let elsewhere = thread::spawn(|| {
            // Only root may; the kernel before 5.14 cannot tell.
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            Some(TcpListener::bind("0.0.0.0:0").unwrap())
        });
        let Some(elsewhere) = elsewhere.join().unwrap() else { return };
        if sys::network_namespace(elsewhere.as_fd()).unwrap().is_some() {
            assert!(matches!(adopt(elsewhere, "tcp://0.0.0.0:0#0"), Err(AdoptError::OtherNetwork(_))));
        }
    }

    #[test]
    fn a_port_that_is_bound_is_refused_to_others_and_to_clients_until_it_listens() {
        let bind: Bind = "tcp://127.0.0.1:0".parse().unwrap();
        let [key] = Key::of(std::slice::from_ref(&bind)).try_into().unwrap();
        let bound = Bound::new(&bind, key).unwrap();
        let ListenerAddress::Tcp(address) = *bound.address() else { panic!("a tcp listener") };
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        // The standard library binds it as this program does.
        for other in [address, SocketAddr::from(([0, 0, 0, 0], address.port()))] {
            assert_eq!(TcpListener::bind(other).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        let listener = bound.listen(BACKLOG).unwrap();
        TcpStream::connect(address).unwrap();
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        listener.accept().unwrap();
    }

    #[test]
    fn a_path_that_leads_elsewhere_since_it_was_bound_is_not_the_successors_to_remove() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let uri = format!("unix://{}", path.display());
        let predecessor = listener(&uri);
        fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        let successor = Listener::adopt(copy(&predecessor), uri.parse().unwrap(), predecessor.file()).unwrap();
        assert!(!successor.is_where_it_says());
        drop(predecessor);
        successor.settled(&format!("{uri}?mode=0600").parse().unwrap(), BACKLOG).unwrap();
        successor.unlink().unwrap();
        UnixStream::connect(&path).unwrap();
        theirs.accept().unwrap();
    }

    #[test]
    fn a_path_belongs_to_one_generation_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let uri = format!("unix://{}", path.display());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

        let predecessor = listener(&format!("{uri}?mode=0600"));
        let successor = adopt(copy(&predecessor), &uri).unwrap();
        successor.unlink().unwrap();
        assert_eq!(mode(&path), 0o600, "not yet its own, and as it was");

        // A predecessor that has handed over closes its copy, and removes nothing.
        drop(predecessor);
        successor.settled(&format!("{uri}?mode=0666").parse().unwrap(), BACKLOG).unwrap();
        assert_eq!(mode(&path), 0o666);
        assert!(path.exists());
        successor.unlink().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn accepting_can_be_paused_and_goes_on_with_what_came_in_between() {
        let directory = tempfile::tempdir().unwrap();
        let uri = format!("unix://{}", directory.path().join("socket").display());
        for listener in [listener(&uri), listener("tcp://127.0.0.1:0")] {
            let connect = || -> Box<dyn std::any::Any> {
                match listener.address() {
                    ListenerAddress::Tcp(address) => Box::new(TcpStream::connect(address).unwrap()),
                    ListenerAddress::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
                }
            };
            let incoming = listener.incoming().unwrap();
            let _first = connect();
            incoming.ready().await.unwrap();
            incoming.accept().unwrap();
            drop(incoming);
            let _second = connect();
            let _third = connect();
            assert_eq!(listener.queue().unwrap().waiting, 2);
            let incoming = listener.incoming().unwrap();
            incoming.ready().await.unwrap();
            incoming.accept().unwrap();
            incoming.accept().unwrap();
            assert_eq!(incoming.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_unix_socket_that_stops_arrivals_refuses_and_keeps_what_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = listener(&format!("unix://{}", path.display()));
        let _queued: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        listener.stop_arrivals().unwrap();
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        for waiting in [3, 2, 1] {
            assert_eq!(listener.queue().unwrap().waiting, waiting);
            listener.accept().unwrap();
        }
        assert_eq!(listener.queue().unwrap().waiting, 0);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_queue_that_was_once_too_short_is_known_as_such() {
        let bind: Bind = "tcp://127.0.0.1:0".parse().unwrap();
        let [key] = Key::of(std::slice::from_ref(&bind)).try_into().unwrap();
        let listener = Bound::new(&bind, key).unwrap().listen(1).unwrap();
        let ListenerAddress::Tcp(address) = *listener.address() else { panic!("a tcp listener") };
        let connect = || {
            let client = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            client.connect(&SockAddr::from(address)).ok();
            client
        };
        // The kernel takes one more than it was asked for.
        let mut clients = vec![connect(), connect()];
        assert!(!listener.has_overflowed());
        while !listener.has_overflowed() {
            clients.push(connect());
            assert!(clients.len() < 100, "more than any queue of one holds");
        }
    }

    /// The kernel takes names of up to 108 bytes and counts a final NUL beyond them.
    #[test]
    fn a_peer_with_the_longest_of_names_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = listener(&format!("unix://{}", path.display()));
        let room = 108 - directory.path().as_os_str().len() - 1;
        let name = directory.path().join("n".repeat(room));
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        bind(&client, &SocketAddrUnix::new(&name).unwrap()).unwrap();
        client.connect(&SockAddr::unix(&path).unwrap()).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.to_string(), format!("unix://{}", name.display()));
    }
}
