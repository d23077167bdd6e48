//! The key under which a listener is handed over: both generations use the same key for a listener,
//! even if its options differ.

use super::{activation::SocketName, address::SocketPath, uri::Bind};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The key of a listener: the resolved address from the configuration, or the path. If the system
/// chooses the port, an ordinal tells the listeners of one address apart: `tcp://127.0.0.1:0#0`.
/// Sockets that the service manager passes under one name have one too: `systemd:web#0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(pub(super) Name);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Name {
    /// The port is not 0.
    Tcp(SocketAddr),
    /// The port is 0.
    ChosenPort(SocketAddr, u32),
    Unix(SocketPath),
    Passed(SocketName, u32),
    /// Every socket passed under this name; without a name, all that other binds do not name. Only
    /// a configuration has this key, never a listener.
    AllPassed(Option<SocketName>),
}

/// Not the key of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not the key of a listener, as in tcp://127.0.0.1:7000, tcp://127.0.0.1:0#0, unix:///run/app.sock or systemd:web#0"
)]
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
            Bind::Systemd(name) => Name::AllPassed(name.clone()),
        };
        binds.iter().map(name).map(Self).collect()
    }

    /// The keys of sockets that are passed under these names, in their order.
    pub fn passed(names: &[SocketName]) -> Vec<Self> {
        let key = |(index, name): (usize, &SocketName)| {
            let ordinal = names.iter().take(index).filter(|earlier| *earlier == name).count();
            Self(Name::Passed(name.clone(), u32::try_from(ordinal).unwrap_or(u32::MAX)))
        };
        names.iter().enumerate().map(key).collect()
    }

    /// Whether a configuration with these `keys` asks for this listener by `wanted`.
    pub fn is_wanted_as(&self, wanted: &Self, keys: &[Self]) -> bool {
        match (&self.0, &wanted.0) {
            (Name::Passed(name, _), Name::AllPassed(Some(wanted))) => name == wanted,
            (Name::Passed(name, _), Name::AllPassed(None)) => {
                let by_itself = Self(Name::AllPassed(Some(name.clone())));
                !keys.contains(&by_itself)
            }
            _ => self == wanted,
        }
    }

    /// Whether the listener belongs to the service manager. That keeps it open when this process
    /// has closed it, and manages its options, its path and its queue.
    pub fn is_passed(&self) -> bool {
        matches!(self.0, Name::Passed(..))
    }

    /// Whether both cannot be bound at once, though they differ: one port on a wildcard address and
    /// on an address that the wildcard covers. `[::]` covers IPv4, since listeners take both
    /// families. A reload cannot change one into the other.
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
            Name::Passed(name, ordinal) => write!(f, "systemd:{name}#{ordinal}"),
            Name::AllPassed(None) => f.write_str("systemd:"),
            Name::AllPassed(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

impl FromStr for Key {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = if let Some(passed) = text.strip_prefix("systemd:") {
            // The name itself may contain a #.
            let (name, ordinal) = passed.rsplit_once('#').ok_or(NoKey)?;
            Name::Passed(name.parse().map_err(|_remedy| NoKey)?, ordinal.parse().map_err(|_error| NoKey)?)
        } else {
            match text.split_once("://").ok_or(NoKey)? {
                ("unix", path) => path.parse().map(Name::Unix).map_err(|_remedy| NoKey)?,
                ("tcp", tcp) => match tcp.split_once('#') {
                    Some((address, ordinal)) => Name::ChosenPort(
                        address.parse().map_err(|_error| NoKey)?,
                        ordinal.parse().map_err(|_error| NoKey)?,
                    ),
                    None => Name::Tcp(tcp.parse().map_err(|_error| NoKey)?),
                },
                _ => return Err(NoKey),
            }
        };
        // A listener has one key: text that would print differently is not a key.
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
    fn a_key_does_not_contain_options_and_chosen_ports_are_numbered() {
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
    fn a_key_prints_and_parses() {
        for text in [
            "tcp://127.0.0.1:80",
            "tcp://[::1]:80",
            "tcp://127.0.0.1:0#7",
            "unix:///run/a",
            "systemd:a#0",
            "systemd:a#1#2",
        ] {
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
            "systemd:",
            "systemd:a",
            "systemd:#0",
            "systemd:a#",
            "systemd:a#01",
        ] {
            assert_eq!(text.parse::<Key>(), Err(NoKey), "{text}");
            assert!(serde_json::from_str::<Key>(&format!("{text:?}")).is_err());
        }
    }

    #[test]
    fn a_bind_takes_passed_sockets_by_name_or_all_the_rest() {
        let names = ["web", "admin", "web"].map(|name| name.parse().unwrap());
        let passed = Key::passed(&names);
        assert_eq!(
            passed.iter().map(Key::to_string).collect::<Vec<_>>(),
            ["systemd:web#0", "systemd:admin#0", "systemd:web#1"]
        );
        let binds = |uris: &[&str]| Key::of(&uris.iter().map(|uri| uri.parse().unwrap()).collect::<Vec<Bind>>());
        let wanted = |uris: &[&str]| -> Vec<usize> {
            let keys = binds(uris);
            keys.iter().map(|key| passed.iter().filter(|passed| passed.is_wanted_as(key, &keys)).count()).collect()
        };
        assert_eq!(wanted(&["systemd:"]), [3]);
        assert_eq!(wanted(&["systemd:web"]), [2]);
        assert_eq!(wanted(&["systemd:", "systemd:web"]), [1, 2]);
        assert_eq!(wanted(&["systemd:nobody", "systemd:admin", "tcp://127.0.0.1:80"]), [0, 1, 0]);
        let [tcp] = binds(&["tcp://127.0.0.1:80"]).try_into().unwrap();
        assert!(tcp.is_wanted_as(&tcp, &[]) && !tcp.is_passed() && passed[0].is_passed());
    }

    #[test]
    fn a_wildcard_address_contradicts_the_addresses_that_it_covers() {
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
