//! The address of the endpoint: a unix socket of the process's user, or a port on a loopback
//! address.

use crate::net::{Bind, Key, Mode};
use std::{fmt, str::FromStr};

/// A bind that only this machine can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Bind);

impl Address {
    /// The bind of the address.
    pub fn bind(&self) -> &Bind {
        &self.0
    }

    /// The key under which its listener is handed over.
    pub fn key(&self) -> Option<Key> {
        Key::of(std::slice::from_ref(&self.0)).pop()
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        if !uri.starts_with("unix://") && !uri.starts_with("tcp://") {
            return Err("does not start with unix:// or tcp://, as in unix:///run/app/admin.sock".into());
        }
        match uri.parse()? {
            Bind::Unix(path, None) => Ok(Self(Bind::Unix(path, Some(Mode::OWNER)))),
            Bind::Tcp(address) if !address.ip().to_canonical().is_loopback() => Err(
                "is not a loopback address, and every client that reaches it could stop the service; give tcp://127.0.0.1:PORT, or a unix:// path".into(),
            ),
            Bind::Tcp(address) if address.port() == 0 => {
                Err("has port 0, which clients cannot know; give a port".into())
            }
            Bind::Tcp(address) => Ok(Self(Bind::Tcp(address))),
            Bind::Unix(..) | Bind::Systemd(_) => Err("has a mode, but only its owner and root may connect; leave the mode out".into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Bind::Unix(path, _) => write!(f, "unix://{path}"),
            bind => bind.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_addresses_are_accepted() {
        for right in ["unix:///run/app/admin.sock", "tcp://127.0.0.1:9000", "tcp://[::1]:9000", "tcp://127.8.0.1:9000"]
        {
            assert_eq!(right.parse::<Address>().unwrap().to_string(), right);
        }
        for (wrong, why) in [
            ("tcp://0.0.0.0:9000", "is not a loopback address"),
            ("tcp://[::]:9000", "is not a loopback address"),
            ("tcp://192.0.2.1:9000", "is not a loopback address"),
            ("tcp://127.0.0.1:0", "has port 0"),
            ("tcp://127.0.0.1", "needs a port"),
            ("unix://admin.sock", "needs an absolute path"),
            ("unix:///run/admin.sock?mode=0666", "has a mode"),
            ("systemd:admin", "does not start with unix:// or tcp://"),
            ("/run/admin.sock", "does not start with unix:// or tcp://"),
        ] {
            let error = wrong.parse::<Address>().unwrap_err();
            assert!(error.starts_with(why), "{wrong}: {error}");
        }
    }
}
