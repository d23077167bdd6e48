//! A bind URI, and the listening socket that it becomes.
//!
//! Serving does not care how a listener came to be; this is the only room that knows.

use crate::sys;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};
use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    str::FromStr,
};
use tokio::io::unix::AsyncFd;

/// What to listen on, as parsed from `tcp://HOST:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind(SocketAddr);

/// The system refused to listen.
#[derive(Debug, thiserror::Error)]
#[error("--bind {bind}: {source}{}", remedy(.source))]
pub struct Error {
    bind: Bind,
    source: io::Error,
}

impl Bind {
    /// The port asked for; 0 where the system chooses.
    pub fn port(&self) -> u16 {
        self.0.port()
    }
}

impl FromStr for Bind {
    type Err = String;

    /// Parses a URI. A host name is looked up here, once, so that what follows knows only addresses.
    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let authority = uri.strip_prefix("tcp://").ok_or("does not start with tcp://, as in tcp://127.0.0.1:7000")?;
        let (host, port) = authority.rsplit_once(':').ok_or("has no port, as in tcp://127.0.0.1:7000")?;
        // `parse` alone would take a sign.
        let port =
            Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())).and_then(|port| port.parse().ok());
        let port: u16 = port.ok_or("has a port that is no number from 0 to 65535")?;
        let address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(literal) => SocketAddr::new(
                IpAddr::V6(literal.parse().map_err(|_error| "has no IPv6 address between its brackets")?),
                port,
            ),
            None if host.is_empty() => {
                return Err("has no host; tcp://0.0.0.0:PORT listens on every IPv4 address".into());
            }
            None if host.contains(':') => {
                return Err("has an IPv6 address without brackets, as in tcp://[::1]:7000".into());
            }
            None => (host, port)
                .to_socket_addrs()
                .map_err(|error| format!("has a host that cannot be looked up ({error})"))?
                .next()
                .ok_or("has a host without any address")?,
        };
        Ok(Self(address))
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ListenerAddress(self.0))
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: stop it, or bind another port",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address: bind one that it has, or 0.0.0.0",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE: bind a higher one",
        _ => "",
    }
}

/// Where a listener really listens, in the grammar of `--bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerAddress(SocketAddr);

/// Where a peer is, in the grammar of `--bind`. An IPv4-mapped address is an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(SocketAddr);

/// This end of a connection, in the grammar of `--bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress(SocketAddr);

impl From<SocketAddr> for LocalAddress {
    fn from(address: SocketAddr) -> Self {
        Self(canonical(address))
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self(canonical(address))
    }
}

impl From<SocketAddr> for ListenerAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}", self.0)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}", self.0)
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}", self.0)
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<OwnedFd>,
    address: ListenerAddress,
}

impl Listener {
    /// Binds and listens. Needs a runtime, whose reactor watches the socket.
    ///
    /// # Errors
    ///
    /// Where the system refuses any step; the error names the URI.
    pub fn bind(bind: Bind, backlog: u32) -> Result<Self, Error> {
        Self::open(bind, backlog).map_err(|source| Error { bind, source })
    }

    fn open(Bind(address): Bind, backlog: u32) -> io::Result<Self> {
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
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let real = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket: sys::watched(socket.into())?, address: ListenerAddress(real) })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> ListenerAddress {
        self.address
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
        use tokio::io::Interest;
        // One system call: non-blocking and close-on-exec from the start.
        let (socket, peer): (OwnedFd, Option<SocketAddrAny>) = self.socket.try_io(Interest::READABLE, |socket| {
            Ok(acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
        })?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((socket, peer.into()))
    }

    /// Makes the kernel drop every further SYN, while handshakes that have begun complete and what is queued stays.
    ///
    /// A peer whose SYN is dropped retries, and finds the port closed or a successor on it: it is never reset.
    ///
    /// # Errors
    ///
    /// Where the system does not allow a socket filter.
    pub fn stop_arrivals(&self) -> io::Result<()> {
        // Classic BPF; on a listening socket a packet begins with its TCP header, whose byte 13 holds the flags.
        const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
        const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
        const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
        const RETURN: u16 = 0x06; // BPF_RET | BPF_K
        const SYN: u32 = 0x02;
        const ACK: u32 = 0x10;
        SockRef::from(self.socket.get_ref()).attach_filter(&[
            SockFilter::new(LOAD_BYTE, 0, 0, 13),
            SockFilter::new(AND, 0, 0, SYN | ACK),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ])
    }

    /// What the kernel holds for this listener. `None` where the system does not tell.
    pub fn queue(&self) -> Option<Queue> {
        const SYN_RECEIVED: &str = "03";
        const LISTENING: &str = "0A";
        let inode = rustix::fs::fstat(self.socket.get_ref()).ok()?.st_ino.to_string();
        let port = format!(":{:04X}", self.address.0.port());
        let mut queue = Queue { waiting: 0, handshakes: false };
        for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            for row in fs::read_to_string(table).ok()?.lines() {
                // Ordinal, local, remote, state, queues (sending:receiving), three that do not matter here, timeouts, inode.
                let columns: Vec<&str> = row.split_ascii_whitespace().collect();
                let [_, local, _, state, queues, _, _, _, _, row_inode, ..] = columns.as_slice() else { continue };
                if *state == SYN_RECEIVED && local.ends_with(&port) {
                    queue.handshakes = true;
                } else if *state == LISTENING && *row_inode == inode {
                    let waiting = queues.split_once(':').and_then(|(_, waiting)| u32::from_str_radix(waiting, 16).ok());
                    queue.waiting = waiting.unwrap_or_default();
                }
            }
        }
        Some(queue)
    }
}

/// What the kernel holds for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait to be accepted.
    pub waiting: u32,
    /// Whether a handshake is under way on the port. Those that the kernel tracks by SYN cookies alone, after its queue
    /// overflowed, are in no table.
    pub handshakes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_manual_shows() {
        assert_eq!("tcp://127.0.0.1:7000".parse::<Bind>().unwrap().to_string(), "tcp://127.0.0.1:7000");
        assert_eq!("tcp://[::1]:7000".parse::<Bind>().unwrap().to_string(), "tcp://[::1]:7000");
        assert_eq!("tcp://localhost:0".parse::<Bind>().unwrap().port(), 0);
    }

    #[test]
    fn refuses_everything_else_with_a_remedy() {
        for uri in [
            "",
            "7000",
            "127.0.0.1:7000",
            "tcp://",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:",
            "tcp://127.0.0.1:99999",
            "tcp://127.0.0.1:+80",
            "tcp://:80",
            "tcp://::1:80",
            "tcp://[::g]:80",
            "udp://127.0.0.1:80",
            "tcp://127.0.0.1:80/x",
        ] {
            let refusal = uri.parse::<Bind>().expect_err(uri);
            assert!(!refusal.is_empty(), "{uri}");
        }
    }

    #[test]
    fn a_mapped_peer_is_an_ipv4_peer() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:5".parse().unwrap();
        assert_eq!(PeerAddress::from(mapped).to_string(), "tcp://192.0.2.7:5");
    }
}
