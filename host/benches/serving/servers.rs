//! The two servers that are compared, started in the same way.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::unistd::Pid;

use crate::cores::Cores;
use crate::encryption::Files;
use crate::options::{Work, root};
use crate::process::Process;

/// A large plugin is compiled in this time, on a slow machine too.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// More than a host waits for connections that do not end.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// The native server of this benchmark.
    Native(Work),
    /// The host, with a plugin and a folder where it keeps what it has compiled.
    Host { binary: &'a Path, plugin: &'a Path, cache: &'a Path },
}

/// A server that listens.
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts a server, over TLS where there are files for it, and returns when it listens.
    pub(crate) fn start(
        kind: Kind<'_>,
        tls: Option<&Files>,
        max_connections: usize,
        cores: &Cores,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let (name, mut command) = match kind {
            Kind::Native(work) => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["native", &work.to_string()]);
                ("native", command)
            }
            Kind::Host { binary, plugin, cache } => {
                let mut command = Command::new(binary);
                command.arg("--plugin").arg(plugin).arg("--cache-dir").arg(cache).args(["--bind", "tcp://127.0.0.1:0"]);
                ("host", command)
            }
        };
        command.arg("--max-connections").arg(max_connections.to_string());
        if let Some(Files { tls_certificate, tls_key }) = tls {
            command.arg("--tls-certificate").arg(tls_certificate).arg("--tls-key").arg(tls_key);
        }
        // What stands in the environment of whoever measures (RUST_LOG, RUST_BACKTRACE, options of the host) would
        // count as the server's work.
        command.env_clear();
        let process = cores.as_server(|| Process::start(name, &mut command, log))??;
        let line = process.line(START_DEADLINE)?;
        let address = line.strip_prefix("listening tcp://").and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| process.failure(&format!("said {line:?} instead of where it listens")))?;
        Ok(Self { process, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Ends it as an operator would; it has to exit with 0.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.process.terminate(STOP_DEADLINE)
    }
}

/// The built plugin of a name.
pub(crate) fn plugin(work: Work) -> anyhow::Result<PathBuf> {
    let path = root().join(format!("target/plugins/{work}.wasm"));
    ensure!(path.is_file(), "{} is missing: build it with `plugins/build {work}`", path.display());
    Ok(path)
}

/// A folder that nobody else can write, as the host wants it for what it has compiled.
pub(crate) fn cache_folder(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;

    let path = parent.join(name);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}
