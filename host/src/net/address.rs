//! The addresses of listeners and connections. Each has its own type, so that they cannot be
//! confused, and all print in the grammar of `--bind`.

use crate::record::log;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    os::{linux::net::SocketAddrExt, unix},
    path::Path,
    str::FromStr,
    sync::Arc,
};

/// The most bytes that `sun_path` holds before its final NUL.
const LONGEST_PATH: usize = 107;

/// The absolute path of a unix listener, in its shortest form, because paths are compared as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketPath(Arc<str>);

impl AsRef<Path> for SocketPath {
    fn as_ref(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl TryFrom<String> for SocketPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SocketPath> for String {
    fn from(path: SocketPath) -> Self {
        path.to_string()
    }
}

impl FromStr for SocketPath {
    type Err = String;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        let Some(steps) = path.strip_prefix('/') else {
            return Err(if path.is_empty() {
                "needs a path, as in /run/app.sock".into()
            } else if path.starts_with(['~', '$']) {
                "has a path with a variable or ~, which the host does not expand; write the whole path, as in /run/app.sock"
                    .into()
            } else {
                "needs an absolute path, as in /run/app.sock".into()
            });
        };
        if path.ends_with('/') {
            return Err("ends with a slash, as a directory does; name the socket itself".into());
        }
        if steps.split('/').any(|step| matches!(step, "" | "." | "..")) {
            return Err("has an empty component, . or .. in its path; write it in its shortest form".into());
        }
        // The ready line is one line, and a NUL would end the path early.
        if path.chars().any(char::is_control) {
            return Err("has a control character in its path; choose a path without one".into());
        }
        if path.len() > LONGEST_PATH {
            return Err(format!("has a path that is {} bytes long; the system takes {LONGEST_PATH}", path.len()));
        }
        Ok(Self(path.into()))
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address of a listener, with its real port. Cheap to clone: each connection has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A path.
    Unix(SocketPath),
}

impl From<SocketAddr> for ListenerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

/// The address of a peer. An IPv4-mapped address becomes an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress(Peer);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Peer {
    Tcp(SocketAddr),
    /// The usual case: clients rarely bind their socket to a name.
    UnixUnnamed,
    /// Escaped: the peer chose its bytes.
    UnixNamed(Arc<str>),
}

impl PeerAddress {
    /// A peer on a unix socket without a name, the usual case.
    pub const UNIX_UNNAMED: Self = Self(Peer::UnixUnnamed);

    /// The IP address; `None` on unix.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|address| address.ip())
    }

    /// The IP address and port; `None` on unix.
    pub fn socket(&self) -> Option<SocketAddr> {
        match &self.0 {
            Peer::Tcp(address) => Some(*address),
            Peer::UnixUnnamed | Peer::UnixNamed(_) => None,
        }
    }
}

impl From<unix::net::SocketAddr> for PeerAddress {
    fn from(address: unix::net::SocketAddr) -> Self {
        let shown = |mark, name| format!("{mark}{}", log::escaped(&String::from_utf8_lossy(name))).into();
        Self(match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => Peer::UnixNamed(shown("", path.as_os_str().as_encoded_bytes())),
            (None, Some(name)) => Peer::UnixNamed(shown("@", name)),
            (None, None) => Peer::UnixUnnamed,
        })
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self(Peer::Tcp(canonical(address)))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Peer::Tcp(address) => write!(f, "tcp://{address}"),
            Peer::UnixUnnamed => f.write_str("unix://"),
            Peer::UnixNamed(name) => write!(f, "unix://{name}"),
        }
    }
}

/// The local address of a tcp connection. For a unix connection it is the listener's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress(SocketAddr);

impl LocalAddress {
    /// Its IP address and port.
    pub fn socket(self) -> SocketAddr {
        self.0
    }
}

impl From<SocketAddr> for LocalAddress {
    fn from(address: SocketAddr) -> Self {
        Self(canonical(address))
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}", self.0)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_peer_is_an_ipv4_peer() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:5".parse().unwrap();
        assert_eq!(PeerAddress::from(mapped).to_string(), "tcp://192.0.2.7:5");
    }

    #[test]
    fn the_name_of_a_unix_peer_is_escaped() {
        let unnamed = unix::net::UnixStream::pair().unwrap().0.peer_addr().unwrap();
        let path = |path| unix::net::SocketAddr::from_pathname(path).unwrap();
        let name = |name| unix::net::SocketAddr::from_abstract_name(name).unwrap();
        for (address, shown) in [
            (unnamed, "unix://"),
            (path("/run/client"), "unix:///run/client"),
            (name(&b"client"[..]), "unix://@client"),
            (name(b"a\nb\0\xff"), "unix://@a\\nb\\u{0}\u{fffd}"),
        ] {
            assert_eq!(PeerAddress::from(address).to_string(), shown);
        }
    }
}
