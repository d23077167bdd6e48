//! Connects with the host's sockets: resolves a name, and tries its addresses until the deadline.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::bindings::sync::wasi::clocks::monotonic_clock::subscribe_duration;
use crate::bindings::sync::wasi::io::poll::{Pollable, poll};
use crate::bindings::sync::wasi::io::streams::{InputStream, OutputStream};
use crate::bindings::sync::wasi::sockets::instance_network::instance_network;
use crate::bindings::sync::wasi::sockets::ip_name_lookup::resolve_addresses;
use crate::bindings::sync::wasi::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
};
use crate::bindings::sync::wasi::sockets::tcp::{ShutdownType, TcpSocket};
use crate::bindings::sync::wasi::sockets::tcp_create_socket::create_tcp_socket;

/// The socket of the two streams, which must outlive them.
#[derive(Debug)]
pub(crate) struct OutgoingSocket(TcpSocket);

impl OutgoingSocket {
    /// Closes the sending side after the written bytes. A broken socket is closed already.
    pub(crate) fn shut_down(&self) {
        self.0.shutdown(ShutdownType::Send).unwrap_or_default();
    }
}

pub(crate) fn connect(target: &str, within: Duration) -> io::Result<(InputStream, OutputStream, OutgoingSocket)> {
    let deadline = subscribe_duration(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
    let network = instance_network();
    let mut last = ErrorCode::NameUnresolvable;
    for address in addresses(&network, target, &deadline)? {
        match attempt(&network, address, &deadline) {
            Ok(connected) => return Ok(connected),
            Err(ErrorCode::Timeout) if deadline.ready() => return Err(failure(ErrorCode::Timeout)),
            Err(code) => last = code,
        }
    }
    Err(failure(last))
}

fn addresses(network: &Network, target: &str, deadline: &Pollable) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = target.parse() {
        return Ok(vec![address]);
    }
    let invalid = || io::Error::new(ErrorKind::InvalidInput, "expected HOST:PORT");
    let (name, port) = target.rsplit_once(':').ok_or_else(invalid)?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    let lookup = resolve_addresses(network, name).map_err(failure)?;
    let mut found = Vec::new();
    loop {
        match lookup.resolve_next_address() {
            Ok(Some(IpAddress::Ipv4((a, b, c, d)))) => found.push(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            Ok(Some(IpAddress::Ipv6((a, b, c, d, e, f, g, h)))) => {
                found.push(IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)));
            }
            Ok(None) => return Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect()),
            Err(ErrorCode::WouldBlock) => wait(&lookup.subscribe(), deadline).map_err(failure)?,
            Err(code) => return Err(failure(code)),
        }
    }
}

fn attempt(
    network: &Network,
    address: SocketAddr,
    deadline: &Pollable,
) -> Result<(InputStream, OutputStream, OutgoingSocket), ErrorCode> {
    let (family, address) = match address {
        SocketAddr::V4(address) => {
            let [a, b, c, d] = address.ip().octets();
            let address = Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) };
            (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(address))
        }
        SocketAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.ip().segments();
            let address = Ipv6SocketAddress {
                port: address.port(),
                flow_info: address.flowinfo(),
                address: (a, b, c, d, e, f, g, h),
                scope_id: address.scope_id(),
            };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
        }
    };
    let socket = create_tcp_socket(family)?;
    socket.start_connect(network, address)?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok((input, output, OutgoingSocket(socket))),
            Err(ErrorCode::WouldBlock) => wait(&socket.subscribe(), deadline)?,
            Err(code) => return Err(code),
        }
    }
}

/// Waits for `something`, unless the deadline comes first.
fn wait(something: &Pollable, deadline: &Pollable) -> Result<(), ErrorCode> {
    match poll(&[something, deadline]).first() {
        Some(0) => Ok(()),
        _ => Err(ErrorCode::Timeout),
    }
}

fn failure(code: ErrorCode) -> io::Error {
    let (kind, words) = match code {
        ErrorCode::AccessDenied => (ErrorKind::PermissionDenied, "not granted (--guest-connect)"),
        ErrorCode::ConnectionRefused => (ErrorKind::ConnectionRefused, "connection refused"),
        ErrorCode::ConnectionReset => (ErrorKind::ConnectionReset, "connection reset"),
        ErrorCode::ConnectionAborted => (ErrorKind::ConnectionAborted, "connection aborted"),
        ErrorCode::RemoteUnreachable => (ErrorKind::HostUnreachable, "unreachable"),
        ErrorCode::Timeout => (ErrorKind::TimedOut, "no answer in time"),
        ErrorCode::NewSocketLimit => (ErrorKind::QuotaExceeded, "this guest has too many open files and sockets"),
        ErrorCode::NameUnresolvable | ErrorCode::TemporaryResolverFailure | ErrorCode::PermanentResolverFailure => {
            (ErrorKind::NotFound, "the name has no address")
        }
        ErrorCode::InvalidArgument => (ErrorKind::InvalidInput, "not an address that can be connected to"),
        code => return io::Error::other(code.name()),
    };
    io::Error::new(kind, words)
}
