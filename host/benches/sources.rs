//! Where clients come from: enough addresses that a load never runs out of ports.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::net::{TcpSocket, TcpStream};

/// How many loopback addresses the clients come from.
const SOURCES: u8 = 16;

/// Connects from one of several source addresses.
///
/// The side that closes a connection first remembers its pair of addresses and ports for a minute (TIME-WAIT). Here
/// that is the server, since a client closes only when it has read to the end, so the load never runs out of ports. But
/// a source address has 28,000 ports by default, which is less than two seconds' worth: with one address nearly every
/// new connection would meet a pair that the server remembers. The kernel mostly lets it pass, and where it does not,
/// the connection takes a second instead of 50 µs. Sixteen addresses of 127.0.0.0/8 have more pairs than the kernel
/// remembers by default. The port is chosen on connecting, not on binding, where it would have to be free towards any
/// server.
pub(crate) async fn connect(server: SocketAddr, client: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    // 127.0.0.1 is left to everything else on this machine. The remainder is below 16.
    let last = (client % usize::from(SOURCES)) as u8 + 2;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    socket.connect(server).await
}
