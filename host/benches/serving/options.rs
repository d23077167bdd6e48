//! The command line of the benchmark, and those of the processes that it starts.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PathBufValueParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::encryption::{Files, Handshake};

/// Built by Cargo before the benchmark, in the same profile.
const BUILT_HOST: &str = env!("CARGO_BIN_EXE_uninterruptible-host");

/// The host against a native server that does the same work. Paths are relative to the root of the
/// repository.
#[derive(Debug, Parser)]
#[command(name = "serving", args_conflicts_with_subcommands = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) options: Options,
    /// `cargo bench` passes it, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

/// The role of a process that the benchmark has started.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The native server.
    #[command(hide = true)]
    Native(NativeOptions),
    /// The lean native server.
    #[command(hide = true)]
    Lean(LeanOptions),
    /// The load.
    #[command(hide = true)]
    Load(LoadOptions),
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Takes a few minutes instead of half an hour: fewer and shorter rounds, and less exact
    /// figures.
    #[arg(long)]
    quick: bool,
    /// Numbers of clients for `hello`: one row of the table each.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64,256,1024", value_parser = clients())]
    pub(crate) clients: Vec<usize>,
    /// The same over TLS.
    #[arg(long, value_delimiter = ',', default_value = "16,64", value_parser = clients())]
    pub(crate) handshake_clients: Vec<usize>,
    /// Numbers of clients for bulk `echo`: one row of the table each.
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_parser = clients())]
    pub(crate) echo_clients: Vec<usize>,
    /// MiB that the clients of one round of `echo` send together.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) echo_mebibytes: u64,
    /// The most connections that wait at once, for memory and restarts.
    #[arg(long, default_value_t = 20_000, value_parser = clients())]
    pub(crate) idle_connections: usize,
    /// How often the servers take turns in each row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long a round of `hello` lasts, in seconds.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Measures these parts only. The report is then printed, and written only where `--output` is
    /// given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Another plugin that answers as `hello` does, to measure starting with a large one.
    #[arg(long, value_name = "PATH", value_parser = from_root())]
    pub(crate) large_plugin: Option<PathBuf>,
    /// The `wasmtime` to compare HTTP with [default: the one in PATH, or in target/wasmtime].
    #[arg(long, value_name = "PATH", value_parser = from_root())]
    pub(crate) wasmtime: Option<PathBuf>,
    /// The host to measure, instead of the one that was built from this source.
    #[arg(long, value_name = "PATH", default_value = BUILT_HOST, hide_default_value = true, value_parser = from_root())]
    pub(crate) host: PathBuf,
    /// Where the report is written, and its pictures beside it [default:
    /// docs/internals/performance.md].
    #[arg(long, value_name = "PATH", value_parser = from_root())]
    output: Option<PathBuf>,
}

impl Options {
    /// The parts to measure, in the order of the report.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let wanted = |part: &Part| self.only.is_empty() || self.only.contains(part);
        Part::value_variants().iter().copied().filter(wanted).collect()
    }

    /// Where to write the report. A partial or quick report replaces the complete one only with
    /// `--output`.
    pub(crate) fn output_path(&self) -> Option<PathBuf> {
        let default = || (self.only.is_empty() && !self.quick).then(|| root().join("docs/internals/performance.md"));
        self.output.clone().or_else(default)
    }

    /// With the values that `--quick` implies.
    pub(crate) fn resolved(mut self) -> Self {
        if self.quick {
            self.clients = vec![1, 64, 1024];
            self.handshake_clients = vec![64];
            self.echo_mebibytes = self.echo_mebibytes.min(128);
            self.rounds = self.rounds.min(2);
            self.seconds = self.seconds.min(Duration::from_millis(500));
            self.idle_connections = self.idle_connections.min(2000);
        }
        self
    }
}

/// A part of the benchmark, measured on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Claim,
    Hello,
    Saturated,
    Syscalls,
    Echo,
    Handshakes,
    Forking,
    Http,
    Memory,
    Start,
    Languages,
    Plugins,
    Succession,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "two loads against two native servers",
            Self::Hello => "hello",
            Self::Saturated => "hello with the server's core saturated",
            Self::Syscalls => "system calls",
            Self::Echo => "echo",
            Self::Handshakes => "handshakes",
            Self::Forking => "servers that start a process for each connection",
            Self::Http => "wasmtime serve",
            Self::Memory => "memory of waiting connections",
            Self::Start => "starting",
            Self::Languages => "plugins in other languages",
            Self::Plugins => "starting with many plugins",
            Self::Succession => "restarts and reloads",
        })
    }
}

/// The work that a server does for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    Hello,
    Echo,
}

impl Work {
    /// The name of the plugin that does it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Echo => "echo",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct NativeOptions {
    pub(crate) work: Work,
    #[arg(long)]
    pub(crate) workers: usize,
    /// Most connections that are open at once; above that the kernel's queue holds them, as with
    /// the host.
    #[arg(long)]
    pub(crate) max_connections: usize,
    #[command(flatten)]
    pub(crate) tls: Option<Files>,
}

#[derive(Debug, Args)]
pub(crate) struct LeanOptions {
    #[arg(long)]
    pub(crate) workers: usize,
}

#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    #[command(subcommand)]
    pub(crate) shape: Shape,
}

/// The behaviour of the clients.
#[derive(Debug, Subcommand)]
pub(crate) enum Shape {
    /// One short connection after the other, for a time.
    Hello {
        server: SocketAddr,
        /// Each client is a thread that blocks, instead of a task of a runtime.
        #[arg(long)]
        threads: bool,
        #[arg(long)]
        clients: usize,
        #[arg(long, value_parser = seconds)]
        seconds: Duration,
    },
    /// The same with HTTP.
    Http {
        server: SocketAddr,
        /// Each client asks all of its requests on one connection.
        #[arg(long)]
        keep_alive: bool,
        #[arg(long)]
        clients: usize,
        #[arg(long, value_parser = seconds)]
        seconds: Duration,
    },
    /// The same over TLS.
    Handshakes {
        server: SocketAddr,
        handshake: Handshake,
        certificate: PathBuf,
        #[arg(long)]
        clients: usize,
        #[arg(long, value_parser = seconds)]
        seconds: Duration,
    },
    /// One connection each, on which much is sent and read back.
    Echo {
        server: SocketAddr,
        #[arg(long)]
        clients: usize,
        #[arg(long)]
        bytes_per_client: u64,
    },
    /// Connections that are open at the same time, and advance when standard input says so.
    Idle { server: SocketAddr },
}

/// The root of the repository. Cargo runs a benchmark in the folder of its package, but users type
/// paths from here.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

fn from_root() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| root().join(path))
}

/// Fewer than the load's source addresses have ports for one server.
fn clients() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=100_000)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}; expected seconds, as in 2 or 0.5"))?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(600);
    if allowed.contains(&duration) { Ok(duration) } else { Err("expected 0.1 to 600 seconds".to_owned()) }
}
