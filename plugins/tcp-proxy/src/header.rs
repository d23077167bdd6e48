//! The header with which a proxy names its client: version 1 of the PROXY protocol, one line of
//! text.

use std::net::SocketAddr;

/// The line for a connection between two addresses, in the host's format.
pub(crate) fn line(peer: &str, local: &str) -> String {
    let address = |uri: &str| uri.strip_prefix("tcp://")?.parse::<SocketAddr>().ok();
    match (address(peer), address(local)) {
        (Some(SocketAddr::V4(peer)), Some(SocketAddr::V4(local))) => {
            format!("PROXY TCP4 {} {} {} {}\r\n", peer.ip(), local.ip(), peer.port(), local.port())
        }
        (Some(SocketAddr::V6(peer)), Some(SocketAddr::V6(local))) => {
            format!("PROXY TCP6 {} {} {} {}\r\n", peer.ip(), local.ip(), peer.port(), local.port())
        }
        // Version 1 has no form for a unix socket's address.
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn each_family_has_its_line() {
        for (peer, local, expected) in [
            ("tcp://192.0.2.7:40312", "tcp://192.0.2.1:443", "PROXY TCP4 192.0.2.7 192.0.2.1 40312 443\r\n"),
            ("tcp://[2001:db8::7]:1", "tcp://[2001:db8::1]:2", "PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n"),
            ("unix://", "unix:///run/proxy.sock", "PROXY UNKNOWN\r\n"),
            ("tcp://192.0.2.7:40312", "unix:///run/proxy.sock", "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(line(peer, local), expected);
        }
    }
}
