//! Source addresses of the clients: enough of them that a load never runs out of ports.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// How many loopback addresses the clients use.
const SOURCES: u8 = 16;

/// A socket that blocks, bound to one of several source addresses.
///
/// The side that closes a connection first remembers its pair of addresses and ports for a minute
/// (TIME-WAIT). Here that is the server, since a client closes only after it has read to the end,
/// so the load never runs out of ports. But a source address has 28,000 ports by default, which a
/// load uses up in less than two seconds: with one address nearly every new connection would meet a
/// pair that the server remembers. The kernel mostly lets it pass. Where it does not, the
/// connection takes a second instead of 50 µs. Sixteen addresses of 127.0.0.0/8 have more pairs
/// than the kernel remembers by default. The kernel chooses the port on `connect`. On `bind` it
/// would need a port that is free towards every server.
pub(crate) fn bound(client: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    // 127.0.0.1 is left to everything else on this machine. The remainder is below 16.
    let last = (client % usize::from(SOURCES)) as u8 + 2;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
    Ok(socket)
}

/// Connects from one of several source addresses.
pub(crate) async fn connect(server: SocketAddr, client: usize) -> io::Result<TcpStream> {
    let socket = bound(client)?;
    socket.set_nonblocking(true)?;
    TcpSocket::from_std_stream(socket.into()).connect(server).await
}
