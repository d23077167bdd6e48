//! The command line.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, ValueEnum};

/// Built by Cargo before the benchmark, in the same profile.
const BUILT_HOST: &str = env!("CARGO_BIN_EXE_uninterruptible-host");

/// What the outside sees of hot restarts. Paths are relative to the root of the repository.
#[derive(Debug, Parser)]
#[command(name = "restart")]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) options: Options,
    /// What `cargo bench` passes, and `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many restarts follow each other, for each transport and number of clients.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) restarts: u32,
    /// How many clients ask at once: one row of the tables each.
    #[arg(long, value_delimiter = ',', default_value = "16,256", value_parser = clients())]
    pub(crate) clients: Vec<usize>,
    /// What they ask over.
    #[arg(long, value_delimiter = ',', default_value = "tcp,unix")]
    pub(crate) transport: Vec<Transport>,
    /// How many rounds the longest waits and the answers to signals are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// The host to measure, instead of the one that was built from this source.
    #[arg(long, value_name = "PATH", default_value = BUILT_HOST, hide_default_value = true, value_parser = from_root())]
    pub(crate) host: PathBuf,
    /// A plugin that answers as `hello` does.
    #[arg(long, value_name = "PATH", default_value = "target/plugins/hello.wasm", value_parser = from_root())]
    pub(crate) plugin: PathBuf,
    /// Another one, to measure how long the succession takes with a large plugin.
    #[arg(long, value_name = "PATH", value_parser = from_root())]
    pub(crate) large_plugin: Option<PathBuf>,
    /// Where the report is written.
    #[arg(long, value_name = "PATH", default_value = "docs/internals/restarts.md", value_parser = from_root())]
    pub(crate) output: PathBuf,
}

/// What connections are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        })
    }
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

/// Fewer than a host serves at once by default: a client that waits for a place would be taken for
/// one that waits for a restart.
fn clients() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=2048)
}
