//! The load: clients that connect to a server, verify every byte that it answers, and tell what they saw in one line.

pub(crate) mod echo;
pub(crate) mod hello;
pub(crate) mod idle;
pub(crate) mod outcome;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::anyhow;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::options::{LoadOptions, Shape};
use crate::process;

/// How many loopback addresses the clients come from.
const SOURCES: u8 = 16;

/// Does what the options say and prints the outcome.
pub(crate) fn run(options: &LoadOptions) -> anyhow::Result<()> {
    process::end_with_parent()?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let outcome = match options.shape {
        Shape::Hello { server, clients, seconds } => runtime.block_on(hello::load(server, clients, seconds))?,
        Shape::Echo { server, clients, bytes_per_client } => {
            runtime.block_on(echo::load(server, clients, bytes_per_client))?
        }
        Shape::Idle { server, connections } => idle::load(&runtime, server, connections)?,
    };
    println!("{outcome}");
    // Without waiting for clients that hang: the outcome counts them already.
    runtime.shutdown_background();
    Ok(())
}

/// Connects from one of several source addresses.
///
/// The side that closes a connection first remembers its pair of addresses and ports for a minute (TIME-WAIT). Here
/// that is the server, since a client closes only when it has read to the end, so the load never runs out of ports. But
/// a source address has 28,000 ports by default, which is less than two seconds' worth: with one address nearly every
/// new connection would meet a pair that the server remembers. The kernel mostly lets it pass, and where it does not,
/// the connection takes a second instead of 50 µs. Sixteen addresses of 127.0.0.0/8 have more pairs than the kernel
/// remembers by default. The port is chosen on connecting, not on binding, where it would have to be free towards any
/// server.
async fn connect(server: SocketAddr, client: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    // 127.0.0.1 is left to everything else on this machine. The remainder is below 16.
    let last = (client % usize::from(SOURCES)) as u8 + 2;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    socket.connect(server).await
}

/// Nothing waits without an end: what takes longer than `limit` has failed.
async fn bounded<T>(limit: Duration, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(limit, what).await.unwrap_or_else(|_| Err(anyhow!("no complete answer within {limit:?}")))
}
