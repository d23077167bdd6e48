//! The header with which a proxy names the client of a connection: versions 1 and 2 of the PROXY
//! protocol.
//!
//! It reads exactly the header off the socket; the bytes after it, such as a TLS handshake, stay.
//! Whether the peer is trusted is checked elsewhere.

mod v1;
mod v2;

#[cfg(test)]
mod tests;

use rustix::net::{RecvFlags, recv};
use std::{io, net::SocketAddr, os::fd::OwnedFd};
use tokio::io::{Interest, unix::AsyncFd};

/// The longest header that is read, in bytes and with extensions: the limit of nginx, and far more
/// than proxies send.
pub(crate) const LONGEST: usize = 4096;

/// The client that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy itself, as in a health check, or a client whose address the proxy does not know.
    ProxyItself,
    /// A client with an address.
    Tcp {
        /// The client's address.
        source: SocketAddr,
        /// The address to which it connected.
        destination: SocketAddr,
    },
    /// A client at a unix socket of the proxy.
    Unix,
}

/// Why no header was read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The proxy closed its side before the first byte: a health check that only connects.
    #[error("it sent nothing")]
    Nothing,
    /// The proxy closed its side in the middle.
    #[error("the header is cut off after {0} bytes")]
    Cut(usize),
    /// The connection broke.
    #[error("{0}")]
    Broken(io::Error),
    /// The bytes are not a header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Why bytes are not a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither version begins like this.
    #[error("the connection begins with something else; is the proxy configured to send a header?")]
    Start,
    /// A line without an end.
    #[error("a header of version 1 has no CR LF within its 107 bytes")]
    Endless,
    /// A line that does not parse.
    #[error("a header of version 1 is malformed: {0:?}")]
    Line(String),
    /// An unknown version or command.
    #[error("a header of version 2 has version and command {0:#04x}, which is neither LOCAL nor PROXY")]
    Command(u8),
    /// An unknown family, or datagrams, which a stream cannot carry.
    #[error("a header of version 2 has address family {0:#04x}, which is not one of TCP and unix streams")]
    Family(u8),
    /// It is longer than `LONGEST`.
    #[error("a header of version 2 is {0} bytes long; at most {LONGEST} are allowed")]
    TooLong(usize),
    /// Its length is too short for its addresses.
    #[error("a header of version 2 is too short for its addresses")]
    TooShort,
    /// The extensions do not match their lengths.
    #[error("an extension in a header of version 2 is cut off")]
    Extension,
    /// The checksum does not match.
    #[error("a header of version 2 has a wrong checksum")]
    Checksum,
}

/// Reads the header of a new connection, and leaves the bytes after it. The caller sets a deadline.
///
/// # Errors
///
/// If the proxy sends no valid header.
pub(crate) async fn read(socket: &AsyncFd<OwnedFd>) -> Result<Header, Error> {
    let mut taken = Vec::new();
    loop {
        let step = socket.async_io(Interest::READABLE, |socket| take(socket, &mut taken)).await;
        if let Some(header) = step.map_err(Error::Broken)?? {
            return Ok(header);
        }
    }
}

/// Reads the available bytes of the header and adds them to `taken`. Returns the header once it is
/// complete.
fn take(socket: &OwnedFd, taken: &mut Vec<u8>) -> io::Result<Result<Option<Header>, Error>> {
    let before = taken.len();
    // It peeks first, since only the bytes tell how long the header is. It never takes more than
    // the longest.
    let mut ahead = [0; LONGEST];
    let room = ahead.get_mut(before..).unwrap_or_default();
    let (count, _) = recv(socket, &mut *room, RecvFlags::PEEK)?;
    if count == 0 {
        return Ok(Err(if before == 0 { Error::Nothing } else { Error::Cut(before) }));
    }
    taken.extend(room.iter().take(count));
    let (header, length) = match decode(taken) {
        Ok(Some((header, length))) => (Some(header), length),
        Ok(None) => (None, taken.len()),
        Err(malformed) => return Ok(Err(malformed.into())),
    };
    taken.truncate(before);
    // They are in the socket already: this does not block.
    let wanted = room.get_mut(..length.saturating_sub(before)).unwrap_or_default();
    let (count, _) = recv(socket, &mut *wanted, RecvFlags::empty())?;
    taken.extend(wanted.iter().take(count));
    Ok(Ok(header.filter(|_| taken.len() == length)))
}

/// The header at the start of `bytes`, and its length, at most [`LONGEST`]. `None` if the bytes are
/// too few to decide, which [`LONGEST`] bytes never are.
///
/// # Errors
///
/// If no header begins like this, as soon as that is certain.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let begins_as = |start: &[u8]| bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted);
    if begins_as(&v2::START) {
        v2::decode(bytes)
    } else if begins_as(v1::START) {
        v1::decode(bytes)
    } else {
        Err(Malformed::Start)
    }
}
