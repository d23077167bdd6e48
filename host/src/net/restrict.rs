//! Pure: whether a peer may connect. Networks from the configuration, parsed strictly, and the
//! rules made of them.
//!
//! The caller has found out the peer's address, and handles a peer that is rejected. A unix peer
//! has no address, and the mode of the socket's file decides who may connect: the rules here do not
//! apply to it.

use super::address::PeerAddress;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{net::IpAddr, str::FromStr};

/// Networks, as parsed from `10.0.0.0/8,2001:db8::1`. An address alone is one host. An IPv4-mapped
/// network becomes the IPv4 network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    // Disjoint and ascending, so that a list of a hundred thousand costs a connection as little as
    // one of ten.
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

/// The proxies that must send a header of the PROXY protocol: networks, and the word `unix` for the
/// peers of unix listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Networks,
    unix: bool,
}

/// The peers that may connect.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Empty allows every peer.
    pub allow: Networks,
    /// Takes precedence over `allow`.
    pub deny: Networks,
}

/// Why a peer may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exclusion {
    /// It is in a denied network.
    #[error("in --deny-network")]
    Denied,
    /// A list of allowed networks exists, and the peer is not in it.
    #[error("not in --allow-network")]
    NotAllowed,
}

impl Rules {
    /// Whether `peer` may connect.
    ///
    /// # Errors
    ///
    /// If it may not, with the reason.
    pub fn judge(&self, peer: &PeerAddress) -> Result<(), Exclusion> {
        self.not_denied(peer)?;
        match peer.ip() {
            Some(address) if !self.allow.is_empty() && !self.allow.contain(address) => Err(Exclusion::NotAllowed),
            _ => Ok(()),
        }
    }

    /// Whether `peer` is not denied, whether or not it is allowed. This is the only check of a
    /// proxy before it has named its client.
    ///
    /// # Errors
    ///
    /// If it is denied.
    pub fn not_denied(&self, peer: &PeerAddress) -> Result<(), Exclusion> {
        match peer.ip() {
            Some(address) if self.deny.contain(address) => Err(Exclusion::Denied),
            _ => Ok(()),
        }
    }
}

impl Proxies {
    /// Whether `peer` is a configured proxy.
    pub fn include(&self, peer: &PeerAddress) -> bool {
        peer.ip().map_or(self.unix, |address| self.networks.contain(address))
    }

    /// The first proxy network that `rules` deny as a whole, if there is one.
    pub fn shut_out_by(&self, rules: &Rules) -> Option<IpNet> {
        let mut proxies = self.networks.iter();
        proxies.find(|proxy| rules.deny.iter().any(|denied| denied.contains(proxy)))
    }
}

impl Networks {
    /// Whether one of the networks contains `address`.
    pub fn contain(&self, address: IpAddr) -> bool {
        // Only the last network that begins at or before the address can contain it.
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let behind = self.v4.partition_point(|network| network.network() <= address);
                behind.checked_sub(1).and_then(|at| self.v4.get(at)).is_some_and(|network| network.contains(&address))
            }
            IpAddr::V6(address) => {
                let behind = self.v6.partition_point(|network| network.network() <= address);
                behind.checked_sub(1).and_then(|at| self.v6.get(at)).is_some_and(|network| network.contains(&address))
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.v4.iter().copied().map(IpNet::V4).chain(self.v6.iter().copied().map(IpNet::V6))
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(network) => v4.push(network),
                IpNet::V6(network) => v6.push(network),
            }
        }
        Self { v4: Ipv4Net::aggregate(&v4), v6: Ipv6Net::aggregate(&v6) }
    }
}

/// Lists from several options form one list.
impl FromIterator<Self> for Networks {
    fn from_iter<I: IntoIterator<Item = Self>>(lists: I) -> Self {
        lists.into_iter().flat_map(|list| list.iter().collect::<Vec<_>>()).collect()
    }
}

impl FromIterator<Self> for Proxies {
    fn from_iter<I: IntoIterator<Item = Self>>(lists: I) -> Self {
        let lists: Vec<Self> = lists.into_iter().collect();
        Self {
            unix: lists.iter().any(|list| list.unix),
            networks: lists.into_iter().map(|list| list.networks).collect(),
        }
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        entries(list, network)
    }
}

impl FromStr for Proxies {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        entries(list, |entry| match entry {
            "unix" => Ok(Self { unix: true, ..Self::default() }),
            _ => Ok(Self { networks: [network(entry)?].into_iter().collect(), unix: false }),
        })
    }
}

/// Parses entries separated by commas. If there are several, the error names the wrong one.
fn entries<E, L: FromIterator<E>>(list: &str, parse: impl Fn(&str) -> Result<E, String>) -> Result<L, String> {
    let named = |entry: &str| {
        parse(entry.trim()).map_err(|problem| if entry == list { problem } else { format!("{entry:?} {problem}") })
    };
    list.split(',').map(named).collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    const NO_NETWORK: &str =
        "is not a network; write one as in 10.0.0.0/8 or 2001:db8::/32, or one host as in 192.0.2.7";
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().map_err(|_error| NO_NETWORK)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        // `parse` alone would accept a sign.
        Some(digits) => Some(digits)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|prefix| *prefix <= bits)
            .ok_or_else(|| format!("has a prefix length that is not a number from 0 to {bits}"))?,
    };
    let (address, prefix) = match address.to_canonical() {
        IpAddr::V4(mapped) if address.is_ipv6() && prefix >= 96 => (IpAddr::V4(mapped), prefix - 96),
        _ => (address, prefix),
    };
    let network = IpNet::new(address, prefix).map_err(|_error| NO_NETWORK)?;
    if network.trunc() != network {
        return Err(format!(
            "has host bits set; write {} for the network, or {address} for that host",
            network.trunc()
        ));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::random::Random;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    fn peer(address: &str) -> PeerAddress {
        SocketAddr::new(address.parse().unwrap(), 1).into()
    }

    fn networks(list: &str) -> Networks {
        list.parse().unwrap()
    }

    #[test]
    fn deny_wins_over_allow_and_no_allow_rule_means_all() {
        let rules = |allow: &str, deny: &str| {
            let list = |text: &str| if text.is_empty() { Networks::default() } else { networks(text) };
            Rules { allow: list(allow), deny: list(deny) }
        };
        use Exclusion::{Denied, NotAllowed};
        for (allow, deny, address, verdict) in [
            ("", "", "192.0.2.7", Ok(())),
            ("", "", "2001:db8::1", Ok(())),
            ("", "192.0.2.0/24", "192.0.2.7", Err(Denied)),
            ("", "192.0.2.0/24", "192.0.3.0", Ok(())),
            ("", "192.0.2.0/24", "192.0.1.255", Ok(())),
            ("192.0.2.0/24", "", "192.0.2.0", Ok(())),
            ("192.0.2.0/24", "", "192.0.2.255", Ok(())),
            ("192.0.2.0/24", "", "192.0.3.0", Err(NotAllowed)),
            ("192.0.2.0/24", "192.0.2.7", "192.0.2.7", Err(Denied)),
            ("192.0.2.0/24", "192.0.2.7", "192.0.2.8", Ok(())),
            ("192.0.2.7", "0.0.0.0/0", "192.0.2.7", Err(Denied)),
            ("0.0.0.0/0", "", "2001:db8::1", Err(NotAllowed)),
            ("::/0", "", "192.0.2.7", Err(NotAllowed)),
            ("2001:db8::/32", "", "2001:db8:ffff::1", Ok(())),
            ("2001:db8::/32", "", "2001:db9::", Err(NotAllowed)),
            ("127.0.0.0/8", "", "::ffff:127.0.0.1", Ok(())),
            ("", "::ffff:10.0.0.0/104", "10.255.0.1", Err(Denied)),
            ("::ffff:0:0/96", "", "255.255.255.255", Ok(())),
        ] {
            assert_eq!(rules(allow, deny).judge(&peer(address)), verdict, "{address}, allow {allow:?}, deny {deny:?}");
        }
    }

    #[test]
    fn rules_do_not_apply_to_a_peer_without_an_address() {
        let unix = PeerAddress::UNIX_UNNAMED;
        let rules = Rules { allow: networks("192.0.2.7"), deny: networks("0.0.0.0/0,::/0") };
        assert_eq!(rules.judge(&unix), Ok(()));
        assert!("unix".parse::<Proxies>().unwrap().include(&unix));
        assert!(!"0.0.0.0/0,::/0".parse::<Proxies>().unwrap().include(&unix));
    }

    #[test]
    fn an_invalid_network_is_rejected_with_a_remedy() {
        for (list, remedy) in [
            ("", "is not a network; write one as in 10.0.0.0/8"),
            (",", "\"\" is not a network"),
            ("10.0.0.0/8,", "\"\" is not a network"),
            ("10.0.0.0/8,,10.1.0.0/16", "\"\" is not a network"),
            ("10.0.0.0/8,localhost", "\"localhost\" is not a network"),
            ("localhost", "is not a network"),
            ("unix", "is not a network"),
            ("10.0.0", "is not a network"),
            ("010.0.0.1", "is not a network"),
            ("10.0.0.0.0/8", "is not a network"),
            ("fe80::1%eth0", "is not a network"),
            ("[::1]", "is not a network"),
            ("10.0.0.1:80", "is not a network"),
            ("10.0.0.0/", "not a number from 0 to 32"),
            ("10.0.0.0/+8", "not a number from 0 to 32"),
            ("10.0.0.0/33", "not a number from 0 to 32"),
            ("10.0.0.0/256", "not a number from 0 to 32"),
            ("10.0.0.0/255.0.0.0", "not a number from 0 to 32"),
            ("10.0.0.0/8/8", "not a number from 0 to 32"),
            ("2001:db8::/129", "not a number from 0 to 128"),
            ("10.0.0.1/8", "has host bits set; write 10.0.0.0/8 for the network, or 10.0.0.1 for that host"),
            ("::ffff:10.0.0.1/104", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("::1/0", "write ::/0"),
        ] {
            let refusal = list.parse::<Networks>().expect_err(list);
            assert!(refusal.contains(remedy), "{list}: {refusal}");
        }
        assert_eq!("unix,localhost".parse::<Proxies>().unwrap_err().split(' ').next(), Some("\"localhost\""));
    }

    #[test]
    fn lists_are_joined_and_spaces_do_not_count() {
        let apart: Networks = ["10.0.0.0/9", "10.128.0.0/9 , 2001:db8::1"].into_iter().map(networks).collect();
        assert_eq!(apart, networks("10.0.0.0/8,2001:db8::1/128"));
        let proxies: Proxies = ["10.0.0.1", "unix"].into_iter().map(|list| list.parse::<Proxies>().unwrap()).collect();
        assert_eq!(proxies, "unix,10.0.0.1/32".parse().unwrap());
    }

    #[test]
    fn a_proxy_that_is_denied_is_found() {
        let rules = |deny| Rules { allow: Networks::default(), deny: networks(deny) };
        let proxies: Proxies = "10.0.0.5,10.1.0.0/16".parse().unwrap();
        assert_eq!(proxies.shut_out_by(&rules("10.0.0.0/15")), Some("10.0.0.5/32".parse().unwrap()));
        assert_eq!(proxies.shut_out_by(&rules("10.1.0.0/17,10.1.128.0/17")), Some("10.1.0.0/16".parse().unwrap()));
        assert_eq!(proxies.shut_out_by(&rules("10.1.0.0/17,10.0.0.4")), None);
    }

    /// A list contains an address exactly if one of its networks does, however they overlap.
    #[test]
    fn a_list_contains_what_its_networks_contain() {
        let mut random = Random::new(0x6e65_7477_6f72_6b73);
        for _ in 0..2000 {
            // Few leading bits differ, so that networks nest and touch.
            let list: Vec<IpNet> = (0..random.below(9))
                .map(|_| {
                    let (leading, prefix) = (random.next_u64() >> 56, u8::try_from(random.below(9)).unwrap());
                    let address = if random.below(2) == 0 {
                        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(leading).unwrap() << 24))
                    } else {
                        IpAddr::V6(Ipv6Addr::from_bits(u128::from(leading) << 120))
                    };
                    IpNet::new(address, prefix).unwrap().trunc()
                })
                .collect();
            let joined: Networks = list.iter().copied().collect();
            for _ in 0..64 {
                let bits = random.next_u64();
                let address = if random.below(2) == 0 {
                    IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits >> 32).unwrap()))
                } else {
                    IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits) << 64))
                };
                let has = list.iter().any(|network| network.contains(&address));
                assert_eq!(joined.contain(address), has, "{address} in {list:?}");
            }
        }
    }
}
