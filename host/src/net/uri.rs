//! Bind URIs. A host name is resolved once, during parsing, so that later code sees only addresses.

use super::{
    activation::SocketName,
    address::SocketPath,
    bound::{self, Error},
};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs},
    str::FromStr,
};

/// Where to listen, as parsed from `tcp://HOST:PORT`, `unix:///PATH?mode=OCTAL` or `systemd:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An address and a port; port 0 if the system chooses.
    Tcp(SocketAddr),
    /// A path, and the mode of its file.
    Unix(SocketPath, Option<Mode>),
    /// Every socket that the service manager has passed under this name; without a name, all that
    /// other binds do not name.
    Systemd(Option<SocketName>),
}

/// Permission bits of a socket's file. Connecting needs the write bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub(super) u32);

impl Mode {
    /// Only the owner may connect.
    pub const OWNER: Self = Self(0o600);

    /// The bits, at most 0o777.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Bind {
    type Err = String;

    /// Parses a URI, and resolves a host name.
    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        match uri.strip_prefix("systemd:") {
            Some("") => return Ok(Self::Systemd(None)),
            Some(name) => return name.parse().map(Some).map(Self::Systemd),
            None => {}
        }
        match uri.split_once("://") {
            Some(("tcp", authority)) => tcp(authority).map(Self::Tcp),
            Some(("unix", rest)) => {
                let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
                if !path.starts_with(['/', '~', '$']) && !path.is_empty() {
                    return Err("needs an absolute path, hence three slashes, as in unix:///run/app.sock".into());
                }
                Ok(Self::Unix(path.parse()?, query.map(mode).transpose()?))
            }
            _ => Err(format!("does not start with tcp://, unix:// or systemd:, as in {}", with_scheme(uri))),
        }
    }
}

/// The likely meaning of an address without its scheme, or with another one.
fn with_scheme(address: &str) -> String {
    // With fewer slashes than the scheme needs.
    if let Some(rest) = ["unix:", "tcp:"].iter().find_map(|scheme| address.strip_prefix(scheme)) {
        let path = rest.trim_start_matches('/');
        return if address.starts_with("unix:") { format!("unix:///{path}") } else { with_scheme(path) };
    }
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest =
        rest.split_once('/').filter(|(authority, _)| !authority.is_empty()).map_or(rest, |(authority, _)| authority);
    let is_number = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match rest {
        path if path.starts_with('/') => format!("unix://{path}"),
        port if is_number => format!("tcp://127.0.0.1:{port}"),
        address if address.parse::<Ipv6Addr>().is_ok() => format!("tcp://[{address}]:7000"),
        port if port.rfind(':') == Some(0) && has_port => format!("tcp://0.0.0.0{port}"),
        authority if has_port => format!("tcp://{authority}"),
        _ => "tcp://127.0.0.1:7000".to_owned(),
    }
}

/// The address between brackets. A link-local one needs its interface, as in `fe80::1%eth0`.
fn ipv6(literal: &str, port: u16) -> Result<SocketAddr, String> {
    let (address, interface) = literal.split_once('%').map_or((literal, None), |(address, name)| (address, Some(name)));
    let address: Ipv6Addr = address.parse().map_err(|_error| "does not have an IPv6 address between its brackets")?;
    let scope = match interface {
        None if address.is_unicast_link_local() => {
            return Err(format!(
                "is a link-local address, and needs its interface, as in tcp://[{address}%eth0]:{port}"
            ));
        }
        None => 0,
        Some(name) => interface_index(name)
            .ok_or_else(|| format!("names an interface, {name:?}, that this machine does not have; see ip link"))?,
    };
    Ok(SocketAddrV6::new(address, port, 0, scope).into())
}

/// By its number, as addresses are printed here, or by its name.
fn interface_index(name: &str) -> Option<u32> {
    let number = name.parse().ok().filter(|number| *number > 0);
    number.or_else(|| {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
        name_to_index(socket, name).ok()
    })
}

fn tcp(authority: &str) -> Result<SocketAddr, String> {
    if let Some((address, _)) = authority.split_once('/') {
        return Err(format!("has a slash after its port, and a tcp address has no path; write tcp://{address}"));
    }
    let (host, port) = authority.rsplit_once(':').ok_or("needs a port, as in tcp://127.0.0.1:7000")?;
    // `parse` alone would accept a sign.
    let port =
        Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())).and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or("has a port that is not a number from 0 to 65535")?;
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(literal) => ipv6(literal, port),
        None if host.is_empty() => Err("needs a host; tcp://0.0.0.0:PORT listens on every IPv4 address".into()),
        None if host.contains(':') => Err("has an IPv6 address without brackets; write it as in tcp://[::1]:7000".into()),
        None if host == "*" => Err("has * as its host; 0.0.0.0 is every IPv4 address, and [::] every address".into()),
        None => (host, port)
            .to_socket_addrs()
            .map_err(|error| {
                format!("has a host that cannot be looked up ({error}); give an address, or a name that resolves on this machine")
            })?
            .next()
            .ok_or_else(|| "has a host name without an address; give an address".into()),
    }
}

fn mode(query: &str) -> Result<Mode, String> {
    match query.split_once('=').unwrap_or((query, "")) {
        ("mode", octal) => Some(octal)
            .filter(|octal| (3..=4).contains(&octal.len()) && octal.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|octal| u32::from_str_radix(octal, 8).ok())
            .filter(|bits| *bits <= 0o777)
            .map(Mode)
            .ok_or_else(|| "has a mode that is not an octal number from 0000 to 0777, as in mode=0660".into()),
        (unknown, _) => Err(format!("has the option {unknown:?}; a unix listener takes mode only")),
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path, None) => write!(f, "unix://{path}"),
            Self::Unix(path, Some(mode)) => write!(f, "unix://{path}?mode={:04o}", mode.bits()),
            Self::Systemd(None) => f.write_str("systemd:"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// Checks whether this host could listen there, without listening. A process that already listens
/// there counts as the predecessor.
///
/// # Errors
///
/// If something is in the way.
pub fn check(bind: &Bind) -> Result<(), Error> {
    bound::check(bind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed_uris_print_unchanged() {
        for uri in [
            "tcp://127.0.0.1:7000",
            "tcp://[::1]:7000",
            "tcp://[fe80::1%1]:7000",
            "tcp://0.0.0.0:0",
            "unix:///run/app.sock",
            "unix:///run/app.sock?mode=0660",
            "unix:///with space/@name#1",
            "systemd:",
            "systemd:app.socket",
        ] {
            assert_eq!(uri.parse::<Bind>().unwrap().to_string(), uri);
        }
        assert!(matches!("tcp://localhost:0".parse(), Ok(Bind::Tcp(address)) if address.port() == 0));
        assert_eq!("unix:///a?mode=600".parse::<Bind>().unwrap().to_string(), "unix:///a?mode=0600");
        let longest = format!("unix:///{}", "x".repeat(106));
        assert_eq!(longest.parse::<Bind>().unwrap().to_string(), longest);
    }

    #[test]
    fn invalid_uris_are_rejected_with_a_remedy() {
        let too_long = format!("unix:///{}", "x".repeat(107));
        for (uri, remedy) in [
            ("", "does not start with tcp://, unix:// or systemd:"),
            ("7000", "does not start with"),
            ("127.0.0.1:7000", "does not start with"),
            ("/run/app.sock", "does not start with"),
            ("udp://127.0.0.1:80", "does not start with"),
            ("systemd", "does not start with"),
            ("systemd://web", "as in systemd:web"),
            ("systemd:a:b", "as in systemd:web"),
            ("tcp://", "needs a port"),
            ("tcp://127.0.0.1", "needs a port"),
            ("tcp://127.0.0.1:", "not a number from 0 to 65535"),
            ("tcp://127.0.0.1:99999", "not a number from 0 to 65535"),
            ("tcp://127.0.0.1:+80", "not a number from 0 to 65535"),
            (
                "tcp://127.0.0.1:80/x",
                "has a slash after its port, and a tcp address has no path; write tcp://127.0.0.1:80",
            ),
            ("tcp://127.0.0.1:7000/", "write tcp://127.0.0.1:7000"),
            ("tcp://[fe80::1]:7000", "as in tcp://[fe80::1%eth0]:7000"),
            ("tcp://[fe80::1%nowhere]:7000", "names an interface, \"nowhere\", that this machine does not have"),
            ("9000", "as in tcp://127.0.0.1:9000"),
            (":9000", "as in tcp://0.0.0.0:9000"),
            ("http://localhost:9000/", "as in tcp://localhost:9000"),
            ("/run/other.sock", "as in unix:///run/other.sock"),
            ("unix:/run/other.sock", "as in unix:///run/other.sock"),
            ("unix:run/other.sock", "as in unix:///run/other.sock"),
            ("tcp:127.0.0.1:9000", "as in tcp://127.0.0.1:9000"),
            ("tcp:/127.0.0.1:9000", "as in tcp://127.0.0.1:9000"),
            ("tcp:9000", "as in tcp://127.0.0.1:9000"),
            ("::1", "as in tcp://[::1]:7000"),
            ("tcp://:80", "needs a host"),
            ("tcp://*:80", "0.0.0.0 is every IPv4 address"),
            ("tcp://::1:80", "without brackets"),
            ("tcp://[::g]:80", "not have an IPv6 address"),
            ("unix://", "needs a path"),
            ("unix://?mode=0660", "needs a path"),
            ("unix://~/app.sock", "which the host does not expand"),
            ("unix://$XDG_RUNTIME_DIR/app.sock", "which the host does not expand"),
            ("unix://run/app.sock", "three slashes"),
            ("unix://./app.sock", "three slashes"),
            ("unix:///run/", "ends with a slash"),
            ("unix:///", "ends with a slash"),
            ("unix:///run//app.sock", "shortest form"),
            ("unix:///run/./app.sock", "shortest form"),
            ("unix:///run/../app.sock", "shortest form"),
            ("unix:///run/app\0.sock", "control character"),
            ("unix:///run/app\n.sock", "control character"),
            ("unix:///run/app.sock?", "has the option \"\""),
            ("unix:///run/app.sock?user=me", "has the option \"user\""),
            ("unix:///run/app.sock?mode", "not an octal number"),
            ("unix:///run/app.sock?mode=", "not an octal number"),
            ("unix:///run/app.sock?mode=0888", "not an octal number"),
            ("unix:///run/app.sock?mode=1777", "not an octal number"),
            ("unix:///run/app.sock?mode=rw-", "not an octal number"),
            ("unix:///run/app.sock?mode=0660&mode=0600", "not an octal number"),
            (&too_long, "108 bytes long; the system takes 107"),
        ] {
            let refusal = uri.parse::<Bind>().expect_err(uri);
            assert!(refusal.contains(remedy), "{uri}: {refusal}");
        }
    }
}
