//! The grants of a plugin's guests: the options, then their meaning each time the plugin is loaded.
//! A guest has access to nothing else.

mod denial;
mod directory;
mod environment;
mod names;
mod network;
mod trust;

pub(crate) use denial::Denials;
pub use directory::Directory;
pub use environment::{Variable, Word};
pub use network::Target;
pub(crate) use trust::Trust;

use self::network::Network;
use super::places::PLACES;
use std::{net::SocketAddr, sync::Arc};
use wasmtime_wasi::{WasiCtxBuilder, filesystem::Dir, sockets::SocketAddrUse};

/// The grants, as the options name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// `--guest-env`; each name once.
    pub environment: Vec<Variable>,
    /// `--guest-arg`, in order.
    pub arguments: Vec<Word>,
    /// `--guest-dir`; each path in the guest once.
    pub directories: Vec<Directory>,
    /// `--guest-connect`.
    pub targets: Vec<Target>,
}

/// A grant that cannot be given: one line that names the option, the value and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{option} {value}: {problem}", value = crate::record::secret::Shown::of(value))]
pub struct Error {
    option: &'static str,
    value: String,
    problem: String,
    /// Whether the system refused, rather than the grant being wrong.
    pub(super) is_refusal_of_the_system: bool,
}

impl Error {
    fn new(option: &'static str, value: impl ToString, problem: impl ToString) -> Self {
        Self { option, value: value.to_string(), problem: problem.to_string(), is_refusal_of_the_system: false }
    }
}

impl Grants {
    /// The descriptors that one guest may hold beside its connection.
    pub fn descriptors(&self) -> u32 {
        if self.directories.is_empty() && self.targets.is_empty() { 0 } else { PLACES }
    }
}

/// The grants as found when the plugin was loaded: files read, directories opened, names resolved.
#[derive(Default)]
pub(crate) struct Granted {
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    directories: Vec<(Dir, String)>,
    network: Option<Arc<Network>>,
    authorities: trust::Authorities,
}

impl Granted {
    /// Resolves all grants. Fails with the first one that cannot be given.
    pub(crate) async fn find(grants: &Grants, plugin: &str) -> Result<Self, Error> {
        // A program expects its own name before the first argument.
        let mut arguments: Vec<String> = grants.arguments.iter().map(|word| word.as_str().to_owned()).collect();
        if !arguments.is_empty() {
            arguments.insert(0, plugin.to_owned());
        }
        Ok(Self {
            environment: read(&grants.environment)?,
            arguments,
            directories: grants.directories.iter().map(Directory::open).collect::<Result<_, _>>()?,
            network: if grants.targets.is_empty() {
                None
            } else {
                Some(Arc::new(Network::find(&grants.targets).await?))
            },
            authorities: trust::Authorities::default(),
        })
    }

    /// Whether a guest may hold descriptors at all.
    pub(crate) fn reaches_out(&self) -> bool {
        !self.directories.is_empty() || self.network.is_some()
    }

    /// The directories, with their paths in the guest.
    pub(crate) fn directories(&self) -> &[(Dir, String)] {
        &self.directories
    }

    /// The variables, in order.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The arguments, if there are any after the plugin's name.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The network targets, if there are any.
    pub(crate) fn network(&self) -> Option<&Arc<Network>> {
        self.network.as_ref()
    }

    /// The authorities that it trusts for `https` requests.
    pub(crate) async fn trust(&self) -> Result<Arc<rustls::ClientConfig>, Trust> {
        self.authorities.get().await
    }

    /// Adds variables, arguments and network rules to a guest's context. `files` adds the
    /// directories.
    pub(crate) fn equip(&self, wasi: &mut WasiCtxBuilder, denials: Denials) {
        wasi.envs(&self.environment).args(&self.arguments).allow_udp(false).allow_ip_name_lookup(false);
        let network = self.network.clone();
        // Also without a grant, so that denials are recorded.
        wasi.allow_tcp(true).socket_addr_check(move |address, purpose| {
            let permitted = network.as_ref().is_some_and(|network| is_permitted(network, address, purpose));
            match purpose {
                SocketAddrUse::TcpConnect if !permitted => {
                    denials.record("connect", address, format_args!("--guest-connect {address}"));
                }
                // Called first when a guest connects, before its target is known.
                SocketAddrUse::TcpBind if network.is_none() => {
                    denials.record("connect", "any address", "--guest-connect HOST:PORT");
                }
                _ => {}
            }
            Box::pin(std::future::ready(permitted))
        });
    }
}

/// Each guest has a copy of the environment.
const LONGEST_ENVIRONMENT: usize = 256 << 10;

fn read(variables: &[Variable]) -> Result<Vec<(String, String)>, Error> {
    let mut environment = Vec::new();
    let mut length = 0;
    for variable in variables {
        let (name, value) = variable.read()?;
        length += name.len() + value.len();
        if length > LONGEST_ENVIRONMENT {
            let problem = format!(
                "makes the environment larger than {} KiB, and each guest has a copy; grant a file with --guest-dir instead",
                LONGEST_ENVIRONMENT >> 10
            );
            return Err(Error::new("--guest-env", name, problem));
        }
        environment.push((name, value));
    }
    Ok(environment)
}

fn is_permitted(network: &Network, address: SocketAddr, purpose: SocketAddrUse) -> bool {
    match purpose {
        SocketAddrUse::TcpConnect => network.permits(address),
        // Permits the implicit bind of a connect, and no other: a guest cannot listen or choose its
        // own port.
        SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
        _ => false,
    }
}
