//! The servers of the comparison: how each is started, and how the benchmark knows that it listens.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::Pid;

use crate::cores::Cores;
use crate::encryption::Files;
use crate::native::BACKLOG;
use crate::options::{Work, root};
use crate::process::{Process, wait_for};

/// A large plugin, or very many, are compiled in this time, on a slow machine too.
const START_DEADLINE: Duration = Duration::from_secs(600);
/// More than a host waits for connections that do not end.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A server to start.
pub(crate) struct Launch {
    name: &'static str,
    command: Command,
    ready: Ready,
}

/// How the benchmark knows that a server listens.
enum Ready {
    /// It says so in so many lines, one for each listener.
    Says(usize),
    /// It says nothing: it listens when a connection is accepted there.
    Accepts(SocketAddr),
}

impl Launch {
    /// The native server of this benchmark.
    pub(crate) fn native(workers: usize, work: Work, max_connections: usize) -> anyhow::Result<Self> {
        let launch = Self::this_program("native", &["native", work.name()], workers)?;
        Ok(launch.option("--max-connections", max_connections.to_string()))
    }

    /// The lean native server of this benchmark.
    pub(crate) fn lean(workers: usize) -> anyhow::Result<Self> {
        Self::this_program("lean native", &["lean"], workers)
    }

    fn this_program(name: &'static str, arguments: &[&str], workers: usize) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(arguments).args(["--workers", &workers.to_string()]);
        Ok(Self { name, command, ready: Ready::Says(1) })
    }

    /// The host, with a folder for its cache, and still without listener and plugin.
    pub(crate) fn host(binary: &Path, cache: &Path) -> Self {
        let mut command = Command::new(binary);
        command.arg("--cache-dir").arg(cache).args(["--backlog", &BACKLOG.to_string()]);
        Self { name: "host", command, ready: Ready::Says(1) }
    }

    /// Another tool, with a command that makes it listen at `address`.
    pub(crate) fn foreign(name: &'static str, command: Command, address: SocketAddr) -> Self {
        Self { name, command, ready: Ready::Accepts(address) }
    }

    /// With one plugin, at so many ports that the system chooses.
    pub(crate) fn plugin(mut self, plugin: &Path, listeners: usize) -> Self {
        self.command.arg("--plugin").arg(plugin);
        for _ in 0..listeners {
            self.command.args(["--bind", "tcp://127.0.0.1:0"]);
        }
        self.ready = Ready::Says(listeners);
        self
    }

    /// With a configuration file that names so many listeners.
    pub(crate) fn configured(mut self, file: &Path, listeners: usize) -> Self {
        self.command.arg("--config").arg(file);
        self.ready = Ready::Says(listeners);
        self
    }

    /// Over TLS.
    pub(crate) fn encrypted(self, files: &Files) -> Self {
        self.option("--tls-certificate", &files.tls_certificate).option("--tls-key", &files.tls_key)
    }

    pub(crate) fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.arg(name).arg(value);
        self
    }
}

/// A server that listens.
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
    /// Whether it must exit with 0 on TERM.
    ours: bool,
}

impl Server {
    /// Starts a server and returns when it listens.
    pub(crate) fn start(launch: Launch, cores: &Cores, log: PathBuf) -> anyhow::Result<Self> {
        let Launch { name, mut command, ready } = launch;
        // RUST_LOG, RUST_BACKTRACE or options of the host in the environment would change the
        // server's work.
        command.env_clear();
        let process = cores.as_server(|| Process::start(name, &mut command, log))??;
        let address = match ready {
            Ready::Accepts(address) => {
                let accepts = || Ok(TcpStream::connect(address).ok().map(|_| address));
                wait_for(&format!("{name} to listen"), START_DEADLINE, accepts)
                    .map_err(|error| process.failure(&format!("does not serve: {error:#}")))?
            }
            Ready::Says(lines) => {
                let mut first = None;
                for _ in 0..lines {
                    let line = process.line(START_DEADLINE)?;
                    let address = line.strip_prefix("listening tcp://").and_then(|address| address.parse().ok());
                    let address = address
                        .ok_or_else(|| process.failure(&format!("said {line:?} instead of where it listens")))?;
                    first.get_or_insert(address);
                }
                first.context("a server has a listener at least")?
            }
        };
        Ok(Self { process, address, ours: matches!(ready, Ready::Says(_)) })
    }

    /// Where it listens first.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Ends it as an operator would. Our own servers must exit with 0.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        if self.ours { self.process.terminate(STOP_DEADLINE) } else { Ok(()) }
    }

    /// Waits until it has ended by itself, well, and left the service to a successor.
    pub(crate) fn succeeded(self) -> anyhow::Result<()> {
        self.process.succeeded(STOP_DEADLINE)
    }
}

/// The built plugin or test guest of a name.
pub(crate) fn plugin(name: &str) -> anyhow::Result<PathBuf> {
    let places = ["plugins", "test-guests"].map(|folder| root().join(format!("target/{folder}/{name}.wasm")));
    let found = places.into_iter().find(|path| path.is_file());
    found.with_context(|| {
        format!("there is no {name}.wasm in target/plugins or target/test-guests: run `plugins/build`")
    })
}

/// A folder that no other user can write, as the host requires for its cache.
pub(crate) fn private_folder(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;

    let path = parent.join(name);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// An address that was free a moment ago, for servers that cannot choose one themselves.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
