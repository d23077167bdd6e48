//! The HTTP version of a peer: the one from ALPN, or the one that its first bytes show.

use crate::wire::Wire;
use bytes::{Bytes, BytesMut};

/// The preface of every HTTP/2 client (RFC 9113, section 3.4). No HTTP/1 request begins like this.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A supported version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 1.1, and 1.0.
    One,
    /// 2.
    Two,
}

/// Waits until the version is certain. Returns it with the bytes that were read.
pub(super) async fn of(wire: &Wire) -> (Version, Bytes) {
    let agreed = wire.session(|session| session.alpn().map(<[u8]>::to_vec)).flatten();
    match agreed.as_deref() {
        Some(b"h2") => return (Version::Two, Bytes::new()),
        Some(b"http/1.1" | b"http/1.0") => return (Version::One, Bytes::new()),
        _ => {}
    }
    let mut begun = BytesMut::new();
    while PREFACE.starts_with(&begun) {
        let missing = PREFACE.len() - begun.len();
        if missing == 0 {
            return (Version::Two, begun.freeze());
        }
        match wire.try_read(missing) {
            // The end of the input, which the next reader sees again.
            Ok(Some(bytes)) if bytes.is_empty() => break,
            Err(_) => break,
            Ok(Some(bytes)) => begun.extend_from_slice(&bytes),
            Ok(None) => wire.readable().await,
        }
    }
    (Version::One, begun.freeze())
}
