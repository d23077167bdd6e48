//! A socket that is bound and does not listen yet. Every step of a new listener that can fail is
//! done before clients can connect.

use super::{
    address::ListenerAddress,
    key::Key,
    listener::Listener,
    socket_file::{Claim, Obstacle, SocketFile},
    uri::Bind,
};
use crate::system::privilege::Owner;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{fmt, io, net::SocketAddr};

/// The system refused to listen.
#[derive(Debug, thiserror::Error)]
#[error("--bind {bind}: {obstacle}")]
pub struct Error {
    bind: Bind,
    obstacle: Obstruction,
}

impl Error {
    /// The obstacle without the option, for callers that have another option.
    pub fn obstacle(&self) -> impl fmt::Display {
        &self.obstacle
    }
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
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have that address: bind one that it has, or 0.0.0.0"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE, which --user gives up: bind a higher port, or start the host again with that capability"
        }
        _ => "",
    }
}

/// A socket that is bound and does not listen yet. This process has the address, and clients are
/// refused as if it were free. Dropping it releases the address.
#[derive(Debug)]
pub struct Bound {
    bind: Bind,
    key: Key,
    address: ListenerAddress,
    socket: NotListening,
}

#[derive(Debug)]
enum NotListening {
    Tcp(Socket),
    Unix(Claim),
}

impl Bound {
    /// Binds.
    ///
    /// # Errors
    ///
    /// If the system refuses a step, or the path is in use. The error names the URI.
    pub fn new(bind: &Bind, key: Key) -> Result<Self, Error> {
        let refused = |obstacle| Error { bind: bind.clone(), obstacle };
        let (address, socket) = match bind {
            Bind::Tcp(address) => {
                let (socket, real) = tcp(*address).map_err(|error| refused(Obstruction::Tcp(error)))?;
                (ListenerAddress::Tcp(real), NotListening::Tcp(socket))
            }
            Bind::Unix(path, mode) => {
                let claim = Claim::new(Type::STREAM, path, *mode);
                let claim = claim.map_err(|obstacle| refused(Obstruction::Unix(obstacle)))?;
                (ListenerAddress::Unix(path.clone()), NotListening::Unix(claim))
            }
            Bind::Systemd(_) => return Err(refused(Obstruction::Passed)),
        };
        Ok(Self { bind: bind.clone(), key, address, socket })
    }

    /// The address where it will listen.
    pub fn address(&self) -> &ListenerAddress {
        &self.address
    }

    /// Gives its path to the user that this process changes to, so that later generations can
    /// change and remove it.
    ///
    /// # Errors
    ///
    /// If the system does not allow it.
    pub fn give_to(&self, owner: Owner) -> io::Result<()> {
        match &self.socket {
            NotListening::Tcp(_) => Ok(()),
            NotListening::Unix(claim) => claim.give_to(owner),
        }
    }

    /// Listens. From here on this process owns the path, if there is one.
    ///
    /// # Errors
    ///
    /// If the system refuses, for example because another program began to listen on the port just
    /// before.
    pub fn listen(self, backlog: u32) -> Result<Listener, Error> {
        let Self { bind, key, address, socket } = self;
        let (socket, file) = match socket {
            NotListening::Tcp(socket) => match start_listening(&socket, backlog) {
                Ok(()) => (socket.into(), None),
                Err(error) => return Err(Error { bind, obstacle: Obstruction::Tcp(error) }),
            },
            NotListening::Unix(claim) => match claim.listen(length(backlog)) {
                Ok((socket, file)) => (socket, Some(file)),
                Err(error) => return Err(Error { bind, obstacle: Obstruction::Unix(error.into()) }),
            },
        };
        Ok(Listener::new(socket, key, address, file))
    }
}

/// The length of the kernel's queue, as listen(2) takes it.
pub(super) fn length(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// Binds without listening, and releases the address.
pub(super) fn check(bind: &Bind) -> Result<(), Error> {
    let refused = |obstacle| Error { bind: bind.clone(), obstacle };
    match bind {
        Bind::Tcp(address) => match tcp(*address) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => Err(refused(Obstruction::Tcp(error))),
            _ => Ok(()),
        },
        Bind::Unix(path, _) => SocketFile::check(path).map_err(|obstacle| refused(Obstruction::Unix(obstacle))),
        // The service manager's sockets are known only when it passes them.
        Bind::Systemd(_) => Ok(()),
    }
}

/// Binds a port so that another bind fails, as far as the system allows. Two sockets with
/// SO_REUSEADDR may bind one port as long as neither listens. So this clears the option after the
/// bind, until the socket listens.
fn tcp(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // The meaning of `[::]` must not depend on net.ipv6.bindv6only.
        socket.set_only_v6(false)?;
    }
    // A port whose last connections are in TIME_WAIT is free. A port where another process listens
    // is not.
    socket.set_reuse_address(true)?;
    // Guests write whole answers, and waiting for more would only delay them. Accepted sockets
    // inherit the option.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.set_reuse_address(false)?;
    let real = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, real))
}

fn start_listening(socket: &Socket, backlog: u32) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.listen(length(backlog))
}
