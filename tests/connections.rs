//! Connections that tests make: the transport, the address, and helpers that read from them.

use crate::{harness::PATIENCE, secure::Secure};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};
use std::{
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// The transport of a scenario. Most scenarios about bytes run over each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Unix,
    /// Over tcp.
    Tls,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Unix, Self::Tls];
    /// The transports whose clients are connected before the host accepts them.
    pub const PLAIN: [Self; 2] = [Self::Tcp, Self::Unix];
}

/// The address of a host's ready line. It is `Copy`, so the path of a Unix socket is leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(&'static Path),
    Tls(SocketAddr),
}

impl Address {
    pub fn of_ready_line(line: &str) -> Self {
        match line.strip_prefix("listening ").and_then(|uri| uri.split_once("://")) {
            Some(("tcp", address)) => Self::Tcp(address.parse().unwrap()),
            Some(("unix", path)) => Self::Unix(Box::leak(PathBuf::from(path).into_boxed_path())),
            _ => panic!("not a ready line: {line:?}"),
        }
    }

    /// The address of a TCP listener; panics for any other.
    pub fn tcp(&self) -> SocketAddr {
        match self {
            Self::Tcp(address) | Self::Tls(address) => *address,
            Self::Unix(path) => panic!("{} is not a tcp address", path.display()),
        }
    }

    /// A single attempt, with a short timeout.
    pub fn try_connect(&self) -> io::Result<Stream> {
        let stream = match self {
            Self::Tcp(address) => Stream::Tcp(TcpStream::connect_timeout(address, PATIENCE)?),
            Self::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Self::Tls(address) => {
                let socket = TcpStream::connect_timeout(address, PATIENCE)?;
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                Stream::Tls(Secure::over(socket)?)
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(stream)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// A client's end of a connection.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Secure),
}

/// The same call on either kind.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

/// The same for what concerns the socket alone.
macro_rules! any_socket {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::Tls(Secure { socket: $inner, .. }) => $call,
        }
    };
}

impl Stream {
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tls(stream) => Ok(Self::Tls(stream.clone())),
        }
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        either!(self, stream => stream.shutdown(how))
    }

    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        any_socket!(self, stream => stream.set_read_timeout(timeout))
    }

    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        any_socket!(self, stream => stream.set_write_timeout(timeout))
    }

    /// Whether bytes, an end or an error have arrived that were not read yet. It does not wait.
    pub fn has_arrivals(&self) -> bool {
        let socket = SockRef::from(self);
        socket.set_nonblocking(true).unwrap();
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        socket.set_nonblocking(false).unwrap();
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The TCP socket; panics for any other.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => &stream.socket,
            Self::Unix(_) => panic!("not a tcp connection"),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.read(buffer))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        either!(self, stream => stream.flush())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        any_socket!(self, stream => stream.as_fd())
    }
}

pub fn connect(address: impl Into<Address>) -> Stream {
    let address = address.into();
    address.try_connect().unwrap_or_else(|error| panic!("{address:?}: {error}"))
}

/// From another address of this machine: the whole of 127.0.0.0/8 is local.
pub fn connect_from(source: &str, address: SocketAddr) -> Stream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.connect(&address.into()).unwrap_or_else(|error| panic!("{address} from {source}: {error}"));
    Stream::Tcp(socket.into())
}

pub fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        panic!("{error} after {:?}", String::from_utf8_lossy(&answer));
    }
    answer
}

/// Reads one line, including its end.
pub fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            break;
        }
    }
    String::from_utf8(line).unwrap()
}

/// Makes the kernel drop every packet that has a FIN and no payload.
pub fn drop_ends_without_bytes(stream: &TcpStream) {
    // Classic BPF. The packet begins with its TCP header: byte 12 holds the header's length, byte
    // 13 the flags.
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const LOAD_LENGTH: u16 = 0x80; // BPF_LD | BPF_W | BPF_LEN
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const SHIFT_RIGHT: u16 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
    const TO_INDEX: u16 = 0x07; // BPF_MISC | BPF_TAX
    const JUMP_IF_ANY: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const JUMP_IF_GREATER: u16 = 0x2d; // BPF_JMP | BPF_JGT | BPF_X
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const FIN: u32 = 0x01;
    SockRef::from(stream)
        .attach_filter(&[
            SockFilter::new(LOAD_BYTE, 0, 0, 13),
            SockFilter::new(JUMP_IF_ANY, 0, 6, FIN),
            // The upper half of the byte counts words of four bytes.
            SockFilter::new(LOAD_BYTE, 0, 0, 12),
            SockFilter::new(AND, 0, 0, 0xf0),
            SockFilter::new(SHIFT_RIGHT, 0, 0, 2),
            SockFilter::new(TO_INDEX, 0, 0, 0),
            SockFilter::new(LOAD_LENGTH, 0, 0, 0),
            SockFilter::new(JUMP_IF_GREATER, 0, 1, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
            SockFilter::new(RETURN, 0, 0, 0),
        ])
        .unwrap();
}
