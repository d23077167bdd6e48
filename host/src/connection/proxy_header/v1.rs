//! Version 1: a line of text.

use super::{Header, Malformed};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str,
};

pub(super) const START: &[u8] = b"PROXY ";

/// With its line end. The specification derives it from the longest two IPv6 addresses.
const LONGEST: usize = 107;

/// As [`super::decode`], for bytes that begin as [`START`] does.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(end) = bytes.windows(2).take(LONGEST - 1).position(|end| end == b"\r\n") else {
        return if bytes.len() < LONGEST { Ok(None) } else { Err(Malformed::Endless) };
    };
    let line = bytes.get(..end).unwrap_or_default();
    match line.get(START.len()..).and_then(header) {
        Some(header) => Ok(Some((header, end + 2))),
        None => Err(Malformed::Line(String::from_utf8_lossy(line).into_owned())),
    }
}

fn header(says: &[u8]) -> Option<Header> {
    // After UNKNOWN the rest of the line is ignored, text or not.
    if says == b"UNKNOWN" || says.starts_with(b"UNKNOWN ") {
        return Some(Header::ProxyItself);
    }
    let mut words = str::from_utf8(says).ok()?.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then(|| Header::Tcp {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// Decimal digits without leading zeros.
fn port(digits: &str) -> Option<u16> {
    let plain = digits == "0" || !digits.starts_with(['0', '+']);
    digits.parse().ok().filter(|_| plain)
}
