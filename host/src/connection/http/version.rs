//! Which version of HTTP a peer speaks: the one that was agreed upon under TLS, or the one whose first bytes it sends.

use crate::wire::Wire;
use bytes::{Bytes, BytesMut};

/// What a client of HTTP/2 begins with, whatever it was told (RFC 9113, section 3.4). No request of HTTP/1 begins so.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 1.1, and 1.0.
    One,
    /// 2.
    Two,
}

/// Waits until it is certain. What was read for it comes back.
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
            // An end, which whoever reads next is told again.
            Ok(Some(bytes)) if bytes.is_empty() => break,
            Err(_) => break,
            Ok(Some(bytes)) => begun.extend_from_slice(&bytes),
            Ok(None) => wire.readable().await,
        }
    }
    (Version::One, begun.freeze())
}
