//! The name under which a listener is handed over: what both generations call the same listener, whatever they think of its
//! options.

use super::{Bind, SocketPath};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// A listener's name: the resolved address that was asked for, or the path. Where the system chooses the port, the ordinal
/// among the listeners of that address tells them apart: `tcp://127.0.0.1:0#0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(pub(super) Name);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// The port is never 0.
    Tcp(SocketAddr),
    /// The port is always 0.
    ChosenPort(SocketAddr, u32),
    Unix(SocketPath),
}

/// Not the name of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no listener's key, as in tcp://127.0.0.1:7000, tcp://127.0.0.1:0#0 or unix:///run/app.sock")]
pub struct NoKey;

impl Key {
    /// The keys of a configuration's binds, in their order.
    pub fn of(binds: &[Bind]) -> Vec<Self> {
        let mut chosen_ports = HashMap::new();
        let name = |bind: &Bind| match bind {
            Bind::Unix(path, _) => Name::Unix(path.clone()),
            Bind::Tcp(address) if address.port() == 0 => {
                let next: &mut u32 = chosen_ports.entry(*address).or_default();
                let ordinal = *next;
                *next += 1;
                Name::ChosenPort(*address, ordinal)
            }
            Bind::Tcp(address) => Name::Tcp(*address),
        };
        binds.iter().map(name).map(Self).collect()
    }

    /// Whether the system would not let both be bound at once, though they differ: one port on a wildcard address and on an
    /// address that this covers. `[::]` covers IPv4, since listeners take both families. A live change from one to the other
    /// is impossible.
    pub fn contradicts(&self, other: &Self) -> bool {
        const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let (Name::Tcp(this), Name::Tcp(that)) = (&self.0, &other.0) else { return false };
        if this.port() != that.port() || this.ip() == that.ip() {
            return false;
        }
        match (this.ip().to_canonical(), that.ip().to_canonical()) {
            (ANY, _) | (_, ANY) => true,
            (ANY_V4, ip) | (ip, ANY_V4) => ip.is_ipv4(),
            // One of them is written as an IPv4-mapped address.
            (this, that) => this == that,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Tcp(address) => write!(f, "tcp://{address}"),
            Name::ChosenPort(address, ordinal) => write!(f, "tcp://{address}#{ordinal}"),
            Name::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

impl FromStr for Key {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = match text.split_once("://").ok_or(NoKey)? {
            ("unix", path) => path.parse().map(Name::Unix).map_err(|_remedy| NoKey)?,
            ("tcp", tcp) => match tcp.split_once('#') {
                Some((address, ordinal)) => {
                    Name::ChosenPort(address.parse().map_err(|_error| NoKey)?, ordinal.parse().map_err(|_error| NoKey)?)
                }
                None => Name::Tcp(tcp.parse().map_err(|_error| NoKey)?),
            },
            _ => return Err(NoKey),
        };
        // One listener has one name: what is written differently from what is meant is none.
        let key = Self(name);
        let numbered = matches!(key.0, Name::ChosenPort(..));
        let chosen = matches!(key.0, Name::Tcp(address) | Name::ChosenPort(address, _) if address.port() == 0);
        if numbered == chosen && key.to_string() == text { Ok(key) } else { Err(NoKey) }
    }
}

impl TryFrom<String> for Key {
    type Error = NoKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(uris: &[&str]) -> Vec<String> {
        let binds: Vec<Bind> = uris.iter().map(|uri| uri.parse().unwrap()).collect();
        Key::of(&binds).iter().map(Key::to_string).collect()
    }

    #[test]
    fn options_are_no_part_of_a_key_and_chosen_ports_are_numbered() {
        let uris = [
            "tcp://127.0.0.1:0",
            "tcp://[::1]:0",
            "tcp://127.0.0.1:80",
            "tcp://127.0.0.1:0",
            "unix:///run/a?mode=0660",
            "tcp://127.0.0.1:0",
        ];
        assert_eq!(
            keys(&uris),
            [
                "tcp://127.0.0.1:0#0",
                "tcp://[::1]:0#0",
                "tcp://127.0.0.1:80",
                "tcp://127.0.0.1:0#1",
                "unix:///run/a",
                "tcp://127.0.0.1:0#2",
            ]
        );
        assert_eq!(keys(&["unix:///run/a"]), keys(&["unix:///run/a?mode=0600"]));
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        for text in ["tcp://127.0.0.1:80", "tcp://[::1]:80", "tcp://127.0.0.1:0#7", "unix:///run/a"] {
            let key: Key = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(serde_json::to_string(&key).unwrap(), format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Key>(&format!("{text:?}")).unwrap(), key);
        }
        for text in [
            "",
            "tcp://",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:80#0",
            "tcp://127.0.0.1:0#",
            "tcp://127.0.0.1:0#+1",
            "tcp://127.0.0.1:0#01",
            "tcp://127.0.0.1:0#-1",
            "tcp://localhost:80",
            "tcp://127.0.0.1:080",
            "unix://a",
            "unix:///run/",
            "systemd:a",
        ] {
            assert_eq!(text.parse::<Key>(), Err(NoKey), "{text}");
            assert!(serde_json::from_str::<Key>(&format!("{text:?}")).is_err());
        }
    }

    #[test]
    fn a_wildcard_address_contradicts_what_it_covers() {
        let contradict = |this: &str, that: &str| {
            let (this, that): (Key, Key) = (this.parse().unwrap(), that.parse().unwrap());
            assert_eq!(this.contradicts(&that), that.contradicts(&this), "{this} and {that}");
            this.contradicts(&that)
        };
        assert!(contradict("tcp://0.0.0.0:80", "tcp://127.0.0.1:80"));
        assert!(contradict("tcp://[::]:80", "tcp://[::1]:80"));
        assert!(contradict("tcp://[::]:80", "tcp://127.0.0.1:80"));
        assert!(contradict("tcp://[::]:80", "tcp://0.0.0.0:80"));
        assert!(contradict("tcp://0.0.0.0:80", "tcp://[::ffff:127.0.0.1]:80"));
        assert!(contradict("tcp://127.0.0.1:80", "tcp://[::ffff:127.0.0.1]:80"));
        assert!(!contradict("tcp://0.0.0.0:80", "tcp://[::1]:80"));
        assert!(!contradict("tcp://0.0.0.0:80", "tcp://0.0.0.0:80"));
        assert!(!contradict("tcp://0.0.0.0:80", "tcp://127.0.0.1:81"));
        assert!(!contradict("tcp://0.0.0.0:0#0", "tcp://127.0.0.1:0#0"));
        assert!(!contradict("tcp://127.0.0.1:80", "tcp://127.0.0.2:80"));
        assert!(!contradict("unix:///a", "unix:///b"));
    }
}
