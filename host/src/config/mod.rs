//! The resolved configuration: every option as a type that needs no further check. Only this room
//! reads the environment: clap reads the variables that `cli` names, this module reads the rest.

pub mod cli;
mod descriptors;
mod environment;
mod error;
mod file;
mod layers;
mod listener;
mod mistake;
mod paths;
mod printed;
mod program;
pub mod project;
mod subcommand;
mod supervision;
mod unread_variables;
mod value;

pub use descriptors::ReducedDefault;
pub use environment::{ANCHORED_VARIABLE, Launch, activation, anchor, fault_orders, handoff_channel, starting};
pub use error::Error;
pub use file::{FileError, Place};
pub use layers::Layers;
pub use listener::{Handler, Listener, Route};
pub use subcommand::{Asking, Looking, What, asking, project};
pub use supervision::Supervision;
pub use unread_variables::unread_variables;

use self::{
    environment::{Anchored, is_anchored, supervision},
    program::{boot_directory, start_command},
    value::{Count, duration, optional_duration, parse},
};
use crate::{
    admin,
    component::{ComponentLayer, Source, Wasi03},
    connection::service::{self, Plan},
    handoff::start::StartCommand,
    net::{Bind, SocketPath},
    record::log,
    system::privilege::Identity,
};
use std::{
    env,
    ffi::OsString,
    num::NonZeroU32,
    path::{self, Path, PathBuf},
    thread,
    time::Duration,
};

/// More threads than any supported machine has processors.
const MOST_WORKERS: u32 = 1024;

/// The resolved configuration.
#[derive(Debug)]
pub struct Config {
    /// The layers it was resolved from, for a reload.
    pub layers: Layers,
    /// The listeners with their services; never empty.
    pub listeners: Vec<Listener>,
    /// The number of sockets that a service manager has passed.
    pub passed: usize,
    /// The directory of compiled plugins; `None` to keep none.
    pub cache_dir: Option<PathBuf>,
    /// Whether plugins of WASI 0.3 are served.
    pub wasi_0_3: Wasi03,
    /// Whether plugins may be served without the engine's component layer.
    pub component_layer: ComponentLayer,
    /// Whether a plugin is reloaded when its file changes.
    pub watch: bool,
    /// The listen queue of each listener.
    pub backlog: u32,
    /// Most connections at once.
    pub max_connections: NonZeroU32,
    /// The reduced default of that, if descriptors allow fewer and no value was given.
    pub reduced_default: Option<ReducedDefault>,
    /// Threads that serve connections.
    pub workers: NonZeroU32,
    /// How long a graceful shutdown waits.
    pub drain_timeout: Duration,
    /// The options of a hot restart.
    pub handoff: Handoff,
    /// The user to change to once everything is bound.
    pub identity: Option<Identity>,
    /// The admin endpoint.
    pub admin: Option<admin::Address>,
    /// The absolute path of the pidfile.
    pub pidfile: Option<PathBuf>,
    /// The notification socket of the supervisor.
    pub notify_socket: Option<OsString>,
    /// A supervision that would end the service with this process, so that it cannot be restarted
    /// hot.
    pub supervision: Option<Supervision>,
    /// Whether an anchor needs to know the exit code of this process.
    pub anchored: bool,
    /// The log settings.
    pub log: log::Options,
}

/// The options of a hot restart.
#[derive(Clone, Debug)]
pub struct Handoff {
    /// The command that starts a successor.
    pub start: StartCommand,
    /// How long a successor may take to get ready.
    pub ready_timeout: Duration,
    /// How long the predecessor can serve again; zero disables the window.
    pub rollback_window: Duration,
    /// How long a predecessor may serve its open connections.
    pub drain_timeout: Option<Duration>,
    /// Most earlier generations that may drain at once.
    pub max_draining: NonZeroU32,
    /// The socket for successors that this process did not start.
    pub socket: Option<SocketPath>,
    /// The socket of the process to take over from.
    pub take_over: Option<SocketPath>,
}

impl Config {
    /// Resolves the layers, if a service manager has `passed` this many sockets.
    ///
    /// Raises the soft limit of descriptors to the hard one, since the usual default of 1,024 is
    /// too low for a server.
    ///
    /// # Errors
    ///
    /// The first value that is not valid.
    pub fn resolve(layers: Layers, passed: usize) -> Result<Self, Error> {
        if env::var_os("FILE_DESCRIPTOR_SERVER_PATH").is_some() {
            return Err(Error::Gem);
        }
        let config = Self::of(&layers, passed).map_err(|error| error.located(&layers.origins))?;
        paths::check(&config)?;
        Ok(config)
    }

    fn of(layers: &Layers, passed: usize) -> Result<Self, Error> {
        let listeners = listener::listeners(layers)?;
        let admin: Option<admin::Address> =
            layers.options.admin.as_deref().map(|uri| parse("--admin", uri)).transpose()?;
        if let Some(admin) = &admin {
            apart_from(admin, &listeners)?;
        }
        parse::<Anchored>("--anchor", &layers.options.anchor)?;
        let options = layers.options.clone();
        let identity = identity(options.user.as_deref(), options.group.as_deref())?;
        let handoff_socket = socket_path("--handoff-socket", options.handoff_socket)?;
        let of_clients = |path: &SocketPath| {
            listeners.iter().any(|listener| matches!(&listener.bind, Bind::Unix(bound, _) if bound == path))
        };
        if let Some(path) = handoff_socket.as_ref().filter(|path| of_clients(path)) {
            return Err(Error::value(
                "--handoff-socket",
                path,
                "is where a --bind listens, too; give it a path of its own",
            ));
        }
        if let (Some(path), Some(admin)) = (&handoff_socket, &admin)
            && matches!(admin.bind(), Bind::Unix(bound, _) if bound == path)
        {
            return Err(Error::value("--admin", admin, "is the --handoff-socket, too; give each a path of its own"));
        }
        let max_draining = parse::<Count>("--max-draining", &options.max_draining)?.0;
        let granted = listeners
            .iter()
            .flat_map(Listener::handlers)
            .map(|handler| handler.grants.descriptors())
            .max()
            .unwrap_or_default();
        let reserved = descriptors::reserved(listeners.len() + passed, max_draining, options.admin.is_some());
        let (max_connections, reduced_default) =
            descriptors::max_connections(options.max_connections.as_deref(), reserved, granted)?;
        Ok(Self {
            layers: layers.clone(),
            listeners,
            passed,
            cache_dir: cache_dir(options.cache_dir),
            component_layer: parse("--component-layer", &options.component_layer)?,
            wasi_0_3: if options.disable_wasi_0_3 { Wasi03::Disabled } else { Wasi03::Served },
            watch: options.watch,
            backlog: parse::<Count>("--backlog", &options.backlog)?.0.get(),
            max_connections,
            reduced_default,
            workers: match options.workers {
                Some(count) => match parse::<Count>("--workers", &count)?.0 {
                    workers if workers.get() <= MOST_WORKERS => workers,
                    _ => {
                        return Err(Error::value("--workers", count, "is more than 1024; one per processor is best"));
                    }
                },
                None => thread::available_parallelism()
                    .ok()
                    .and_then(|n| u32::try_from(n.get()).ok())
                    .and_then(NonZeroU32::new)
                    .unwrap_or(NonZeroU32::MIN),
            },
            drain_timeout: duration("--drain-timeout", &options.drain_timeout)?,
            handoff: Handoff {
                start: start_command(options.start_command.as_deref())?,
                ready_timeout: duration("--ready-timeout", &options.ready_timeout)?,
                rollback_window: match options.rollback_window.as_str() {
                    "0" | "0s" => Duration::ZERO,
                    window => duration("--rollback-window", window).map_err(|error| match error {
                        Error::Value { option, value, remedy, .. } => {
                            Error::value(option, value, format!("{remedy}; 0s disables it"))
                        }
                        error => error,
                    })?,
                },
                drain_timeout: optional_duration("--handoff-drain-timeout", &options.handoff_drain_timeout)?,
                max_draining,
                socket: handoff_socket,
                take_over: socket_path("--take-over", options.take_over)?,
            },
            admin,
            pidfile: file("--pidfile", options.pidfile, "/run/uninterruptible-host.pid")?,
            notify_socket: env::var_os("NOTIFY_SOCKET"),
            supervision: supervision(),
            anchored: is_anchored(),
            log: log::Options {
                level: parse("--log-level", &options.log_level)?,
                format: parse("--log-format", &options.log_format)?,
                file: file("--log-file", options.log_file, "/var/log/uninterruptible-host.log")?,
                owner: identity.as_ref().and_then(Identity::owner),
            },
            identity,
        })
    }
}

impl Config {
    /// The configuration file.
    pub fn file(&self) -> Option<&Path> {
        self.layers.options.config.as_deref()
    }

    /// The files of all plugins, some of them more than once.
    pub fn plugins(&self) -> impl Iterator<Item = &Path> {
        self.listeners.iter().flat_map(Listener::handlers).map(|handler| handler.plugin.as_path())
    }

    /// The plan of each listener.
    pub fn plans(&self) -> Vec<Plan> {
        let route = |route: &Route| service::Route {
            server_name: route.server_name.clone(),
            alpn: route.alpn.clone(),
            source: self.source(&route.handler),
        };
        let plan = |listener: &Listener| Plan {
            listener: listener.key.clone(),
            policy: listener.policy.clone(),
            tls: listener.tls.clone(),
            timeouts: listener.timeouts,
            source: self.source(&listener.handler),
            routes: listener.routes.iter().map(route).collect(),
        };
        self.listeners.iter().map(plan).collect()
    }

    /// The source of a handler's plugin.
    fn source(&self, handler: &Handler) -> Source {
        Source {
            path: handler.plugin.clone(),
            digest: handler.plugin_sha256,
            kind: handler.plugin_kind,
            grants: handler.grants.clone(),
            cache_dir: self.cache_dir.clone(),
            start: handler.guest_start,
            wasi_0_3: self.wasi_0_3,
            component_layer: self.component_layer,
            limits: handler.limits,
            max_connections: self.max_connections,
        }
    }

    /// The listeners by the current file, and the names of the process options that differ in it.
    /// Only a restart changes those.
    ///
    /// # Errors
    ///
    /// As [`Self::resolve`].
    pub fn again(&self) -> Result<(Self, Vec<String>), Error> {
        let (mut layers, differing) = self.layers.again()?;
        // The plugins must support as many connections as this process accepts.
        layers.options.max_connections = Some(self.max_connections.to_string());
        Ok((Self::resolve(layers, self.passed)?, differing))
    }

    /// The configuration as an equivalent file.
    ///
    /// # Errors
    ///
    /// If a word is not text.
    pub fn as_file(&self) -> Result<String, Error> {
        let cache = self.cache_dir.as_ref().map_or_else(|| "none".into(), |path| path.to_string_lossy().into_owned());
        let binds: Vec<String> = self.listeners.iter().map(|listener| listener.bind.to_string()).collect();
        self.layers.as_file([
            ("bind", binds.into()),
            ("cache-dir", cache.into()),
            ("max-connections", self.max_connections.to_string().into()),
            ("workers", self.workers.to_string().into()),
        ])
    }
}

/// The endpoint and the listeners need different addresses. The system would report that another
/// process listens there.
fn apart_from(admin: &admin::Address, listeners: &[Listener]) -> Result<(), Error> {
    let Some(key) = admin.key() else { return Ok(()) };
    match listeners.iter().find(|listener| listener.key == key || listener.key.contradicts(&key)) {
        Some(listener) => {
            let remedy = format!(
                "is where --bind {} of this same host listens, too; give one of the two another port or path",
                listener.bind
            );
            Err(Error::value("--admin", admin, remedy))
        }
        None => Ok(()),
    }
}

fn identity(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, Error> {
    let user = user.map(|user| parse("--user", user)).transpose()?;
    let group = group.map(|group| parse("--group", group)).transpose()?;
    Identity::new(user, group).map_err(|(user, remedy)| Error::value("--user", user, remedy))
}

fn socket_path(option: &'static str, path: Option<String>) -> Result<Option<SocketPath>, Error> {
    path.map(|path| parse(option, &path)).transpose()
}

/// The absolute path, since a successor may start in another directory.
fn file(option: &'static str, path: Option<PathBuf>, example: &str) -> Result<Option<PathBuf>, Error> {
    match path {
        Some(path) if path.is_relative() && !path.as_os_str().is_empty() => {
            Ok(Some(boot_directory().map_err(Error::Directory)?.join(path)))
        }
        Some(path) => {
            let remedy = |_error| {
                Error::value(option, path.display(), format!("is not the name of a file: give one, as in {example}"))
            };
            path::absolute(&path).map(Some).map_err(remedy)
        }
        None => Ok(None),
    }
}

fn cache_dir(asked: Option<PathBuf>) -> Option<PathBuf> {
    match asked {
        Some(none) if none.as_os_str() == "none" => None,
        Some(dir) => Some(dir),
        None => default_cache_dir(),
    }
}

fn default_cache_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("uninterruptible-host"))
}
