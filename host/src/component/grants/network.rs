//! The network targets of guests: addresses and networks from the options, and the addresses of
//! names.

use super::{Error, names::Name};
use ipnet::IpNet;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
    sync::Arc,
};

/// The most names granted to one plugin: each may occupy a blocking thread.
const MOST_NAMES: usize = 32;

/// `HOST-OR-CIDR:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    place: Place,
    ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Network(IpNet),
    Name(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    One(NonZeroU16),
    All,
}

impl Ports {
    fn include(self, port: u16) -> bool {
        match self {
            Self::One(one) => one.get() == port,
            Self::All => true,
        }
    }
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            return Err("is a URL; write HOST:PORT, with * for all ports");
        }
        let (place, port) = text.rsplit_once(':').ok_or("needs a port; write HOST:PORT, with * for all ports")?;
        let ports = match port {
            "*" => Ports::All,
            port => Ports::One(
                // A sign would parse.
                port.parse().ok().filter(|_| port.starts_with(|first: char| first.is_ascii_digit())).ok_or(
                    "has a port that is neither * nor a number from 1 to 65535; give the option once for each port",
                )?,
            ),
        };
        Ok(Self { place: place.parse()?, ports })
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or("opens a bracket and does not close it before the port")?;
            return match network(inner)? {
                Some(network) if inner.contains(':') => Ok(Self::Network(network)),
                _ => Err(
                    "has something in brackets that is not an IPv6 address or network; write it as in [2001:db8::/32]:443",
                ),
            };
        }
        if text.contains(':') {
            return Err("has an IPv6 address without brackets; write [::1]:443");
        }
        match network(text)? {
            Some(network) => Ok(Self::Network(network)),
            None => name(text).map(Self::Name),
        }
    }
}

/// Parses an address or a network; `None` if it is neither. IPv4-mapped addresses become IPv4.
fn network(text: &str) -> Result<Option<IpNet>, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Some(address.to_canonical().into()));
    }
    if !text.contains('/') {
        return Ok(None);
    }
    let network: IpNet =
        text.parse().map_err(|_malformed| "has a network that is not ADDRESS/BITS, as in 10.0.0.0/8")?;
    if network.trunc() != network {
        return Err("has a network with host bits set; write them as zeros, as in 10.0.0.0/8");
    }
    if matches!(network.addr(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return Err("has a network of IPv4-mapped addresses; write the IPv4 network");
    }
    Ok(Some(network))
}

/// A host name, in lower case and without a final dot.
fn name(text: &str) -> Result<String, &'static str> {
    const LONGEST: usize = 253;
    let name = plain(text);
    if !name.is_ascii() {
        return Err("has a host name that is not ASCII; write its ASCII form, which begins with xn--");
    }
    let part = |part: &str| {
        (1..=63).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() > LONGEST || !name.split('.').all(part) {
        return Err("needs an address, a network or a name before its port");
    }
    // Resolvers accept such names as addresses, in other bases and with parts left out.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("has an address that is not written in full; write all four parts in decimal");
    }
    Ok(name)
}

/// A name in the form in which names are compared.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Network(network @ IpNet::V6(_)) => write!(f, "[{network}]")?,
            Place::Network(network) => write!(f, "{network}")?,
            Place::Name(name) => write!(f, "{name}")?,
        }
        match self.ports {
            Ports::One(port) => write!(f, ":{port}"),
            Ports::All => f.write_str(":*"),
        }
    }
}

/// All targets of a plugin, with resolved names.
#[derive(Debug)]
pub(crate) struct Network {
    networks: Vec<(IpNet, Ports)>,
    names: Vec<(Arc<Name>, Ports)>,
}

impl Network {
    /// Resolves each name once.
    pub(super) async fn find(targets: &[Target]) -> Result<Self, Error> {
        let mut found = Self { networks: Vec::new(), names: Vec::new() };
        for target in targets {
            match &target.place {
                Place::Network(network) => found.networks.push((*network, target.ports)),
                Place::Name(name) => {
                    let refused = |problem: String| Error::new("--guest-connect", target, problem);
                    let known = found.name(name).cloned();
                    let resolved = match known {
                        Some(known) => known,
                        None if found.names.len() == MOST_NAMES => {
                            return Err(refused(format!(
                                "is one name more than the {MOST_NAMES} that a plugin may have"
                            )));
                        }
                        None => Name::find(name).await.map_err(|problem| Error {
                            // A resolver that is down for a moment looks the same as an unknown
                            // name.
                            is_refusal_of_the_system: true,
                            ..refused(problem)
                        })?,
                    };
                    found.names.push((resolved, target.ports));
                }
            }
        }
        Ok(found)
    }

    /// Whether a guest may connect to this address.
    pub(crate) fn permits(&self, address: SocketAddr) -> bool {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        self.networks.iter().any(|(network, ports)| ports.include(port) && network.contains(&ip))
            || self.names.iter().any(|(name, ports)| ports.include(port) && name.has(ip))
    }

    /// The addresses of a granted name, or an address itself; `None` if the name is not granted.
    pub(crate) async fn lookup(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Some(Arc::new([address.to_canonical()]));
        }
        if let Some(Ok(address)) =
            name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::parse::<Ipv6Addr>)
        {
            return Some(Arc::new([IpAddr::V6(address).to_canonical()]));
        }
        Some(self.name(&plain(name))?.addresses().await)
    }

    fn name(&self, name: &str) -> Option<&Arc<Name>> {
        self.names.iter().map(|(known, _)| known).find(|known| known.is(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(targets: &[&str]) -> Network {
        let targets: Vec<Target> = targets.iter().map(|target| target.parse().unwrap()).collect();
        let networks = targets.iter().filter_map(|target| match target.place {
            Place::Network(network) => Some((network, target.ports)),
            Place::Name(_) => None,
        });
        Network { networks: networks.collect(), names: Vec::new() }
    }

    #[test]
    fn a_target_permits_its_addresses_and_ports_only() {
        let network = network(&["10.0.0.0/8:5432", "[2001:db8::/32]:443", "192.0.2.1:*", "[::ffff:192.0.2.2]:80"]);
        for (address, permitted) in [
            ("10.1.2.3:5432", true),
            ("10.1.2.3:5433", false),
            ("11.0.0.1:5432", false),
            ("[::ffff:10.1.2.3]:5432", true),
            ("[2001:db8:1::1]:443", true),
            ("[2001:db9::1]:443", false),
            ("192.0.2.1:1", true),
            ("192.0.2.2:80", true),
            ("[::ffff:192.0.2.2]:80", true),
            ("127.0.0.1:5432", false),
        ] {
            assert_eq!(network.permits(address.parse().unwrap()), permitted, "{address}");
        }
    }

    #[test]
    fn an_invalid_target_is_rejected() {
        for text in [
            "",
            ",",
            ":",
            ":80",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:1-2",
            "::1:80",
            "[::1:80",
            "[a]:80",
            "[10.0.0.0/33]:1",
            "10.0.0.1/8:80",
            "10.0.0.0/33:80",
            "127.1:80",
            "0x7f.0.0.1:80",
            "2130706433:80",
            "a..b:80",
            "a b:80",
            "-é:80",
            "[::ffff:10.0.0.0/104]:80",
            "a/8:80",
            "[10.0.0.1]:80",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
        for text in [
            "localhost:80",
            "DB.internal.:5432",
            "_srv.example:1",
            "a:*",
            "4f5d6a7b8c9d:80",
            "0.0.0.0/0:443",
            "[::/0]:443",
        ] {
            assert!(text.parse::<Target>().is_ok(), "{text:?}");
        }
    }
}
