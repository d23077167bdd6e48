//! Version 2: a binary header, whose length is known after its first 16 bytes.

use super::{Header, LONGEST, Malformed};
use std::{
    iter, mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// No other protocol begins like this.
pub(super) const START: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// The two paths of a unix connection, padded.
const UNIX_ADDRESSES: usize = 2 * 108;

/// The extension with the header's CRC32c. This host ignores all others.
const CHECKSUM: u8 = 0x03;

/// As [`super::decode`], for bytes that begin as [`START`] does.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some((&[.., command, family, high, low], _)) = bytes.split_first_chunk::<16>() else { return Ok(None) };
    if !matches!(command, LOCAL | PROXY) {
        return Err(Malformed::Command(command));
    }
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(Malformed::TooLong(length));
    }
    let Some(whole) = bytes.get(..length) else { return Ok(None) };
    // For a connection of the proxy itself the rest is ignored.
    if command == LOCAL || family == UNSPECIFIED {
        return Ok(Some((Header::ProxyItself, length)));
    }
    let after = whole.get(16..).unwrap_or_default();
    let (header, extensions) = match family {
        TCP_OVER_IPV4 => tcp_over_ipv4(after),
        TCP_OVER_IPV6 => tcp_over_ipv6(after),
        UNIX_STREAM => after.split_at_checked(UNIX_ADDRESSES).map(|(_, rest)| (Header::Unix, rest)),
        _ => return Err(Malformed::Family(family)),
    }
    .ok_or(Malformed::TooShort)?;
    judge(extensions, whole)?;
    Ok(Some((header, length)))
}

fn tcp_over_ipv4(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (source, rest) = bytes.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    let (source_port, destination_port, rest) = ports(rest)?;
    let source = SocketAddr::new(Ipv4Addr::from(*source).into(), source_port);
    let destination = SocketAddr::new(Ipv4Addr::from(*destination).into(), destination_port);
    Some((Header::Tcp { source, destination }, rest))
}

fn tcp_over_ipv6(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (source, rest) = bytes.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (source_port, destination_port, rest) = ports(rest)?;
    let source = SocketAddr::new(Ipv6Addr::from(*source).into(), source_port);
    let destination = SocketAddr::new(Ipv6Addr::from(*destination).into(), destination_port);
    Some((Header::Tcp { source, destination }, rest))
}

fn ports(bytes: &[u8]) -> Option<(u16, u16, &[u8])> {
    let (&[a, b, c, d], rest) = bytes.split_first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), rest))
}

/// Walks through the extensions, and verifies the checksum if one of them has it.
fn judge(mut extensions: &[u8], whole: &[u8]) -> Result<(), Malformed> {
    let mut judged = false;
    while let [kind, high, low, after @ ..] = extensions {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = after.split_at_checked(length).ok_or(Malformed::Extension)?;
        // Checks one only: a header full of checksums would take long.
        if *kind == CHECKSUM && !mem::replace(&mut judged, true) {
            // The checksum was computed with zeros in its own place.
            let (before, behind) = (whole.len() - after.len(), rest.len());
            let bytes = whole.iter().take(before).copied();
            let bytes = bytes.chain(iter::repeat_n(0, length)).chain(whole.iter().skip(whole.len() - behind).copied());
            if value != crc32c(bytes).to_be_bytes() {
                return Err(Malformed::Checksum);
            }
        }
        extensions = rest;
    }
    if extensions.is_empty() { Ok(()) } else { Err(Malformed::Extension) }
}

/// CRC-32C, as in appendix B of RFC 4960. A header is short and seldom has one: a bit at a time is
/// fast enough.
pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let bit = |crc: u32, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(byte), bit))
}
