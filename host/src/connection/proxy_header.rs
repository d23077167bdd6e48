//! The header with which a proxy says whom a connection is from: versions 1 and 2 of the PROXY protocol.
//!
//! Exactly the header is taken off the socket: what follows it, be it a TLS handshake, is untouched. Whether a peer is to be
//! believed is not judged here.

mod v1;
mod v2;

#[cfg(test)]
mod tests;

use rustix::net::{RecvFlags, recv};
use std::{io, net::SocketAddr, os::fd::OwnedFd};
use tokio::io::{Interest, unix::AsyncFd};

/// The longest header that is read, extensions included: what nginx takes, and far more than proxies send.
pub(crate) const LONGEST: usize = 4096;

/// Whom a connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy itself, as in a health check, or somebody of whom it knows no address.
    ProxyItself,
    /// A client with an address.
    Tcp {
        /// The client's.
        source: SocketAddr,
        /// The one to which it connected.
        destination: SocketAddr,
    },
    /// A client at a unix socket of the proxy's.
    Unix,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The proxy closed its side before the first byte: a health check that only connects.
    #[error("it sent nothing")]
    Nothing,
    /// It closed its side in the middle.
    #[error("the header is cut off after {0} bytes")]
    Cut(usize),
    /// The connection broke.
    #[error("{0}")]
    Broken(io::Error),
    /// What it sent is not one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What is wrong with bytes that should be a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither version begins like this.
    #[error("it does not begin as a PROXY header does; is the proxy told to send one?")]
    Start,
    /// A line without its end.
    #[error("a header of version 1 has no CR LF within its 107 bytes")]
    Endless,
    /// A line that says something else.
    #[error("a header of version 1 says {0:?}")]
    Line(String),
    /// A version or a command that does not exist.
    #[error("a header of version 2 has version and command {0:#04x}, which is neither LOCAL nor PROXY")]
    Command(u8),
    /// A family that does not exist, or datagrams, which do not come over a stream.
    #[error("a header of version 2 has address family {0:#04x}, which is not one of TCP and unix streams")]
    Family(u8),
    /// More than is taken.
    #[error("a header of version 2 is {0} bytes long; at most {LONGEST} are taken")]
    TooLong(usize),
    /// Its length has no room for its addresses.
    #[error("a header of version 2 is too short for its addresses")]
    TooShort,
    /// What follows the addresses is not what it says.
    #[error("an extension of a header of version 2 is cut off")]
    Extension,
    /// It was changed on its way.
    #[error("a header of version 2 does not have the checksum that it names")]
    Checksum,
}

/// Reads the header off a connection that has only begun, leaving what follows it. To be given a deadline.
///
/// # Errors
///
/// Where the proxy sends none.
pub(crate) async fn read(socket: &AsyncFd<OwnedFd>) -> Result<Header, Error> {
    let mut taken = Vec::new();
    loop {
        let step = socket.async_io(Interest::READABLE, |socket| take(socket, &mut taken)).await;
        if let Some(header) = step.map_err(Error::Broken)?? {
            return Ok(header);
        }
    }
}

/// Takes what has come of the header, and adds it to what was `taken` before: the header, once it is whole.
fn take(socket: &OwnedFd, taken: &mut Vec<u8>) -> io::Result<Result<Option<Header>, Error>> {
    let before = taken.len();
    // Looked at first, since only the bytes tell how many of them are the header's. Never more than one may have.
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
    // They are there already: this does not wait.
    let wanted = room.get_mut(..length.saturating_sub(before)).unwrap_or_default();
    let (count, _) = recv(socket, &mut *wanted, RecvFlags::empty())?;
    taken.extend(wanted.iter().take(count));
    Ok(Ok(header.filter(|_| taken.len() == length)))
}

/// The header with which `bytes` begin and its length, at most [`LONGEST`]; `None` where they are too few to tell, as that many
/// never are.
///
/// # Errors
///
/// Where no header begins like this: as soon as that is certain.
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
