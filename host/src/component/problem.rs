//! Why a plugin cannot be served: one line that names the problem and the remedy.

use super::{cache, contract, grants};
use crate::record::{digest::Digest, log};
use std::{io, path::PathBuf};

/// The largest plugin in bytes: ten times an interpreter with its library.
pub(super) const LARGEST: u64 = 256 << 20;

/// Why a plugin cannot be served: one line that names the problem and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not usable.
    #[error("--plugin {}: {problem}", crate::record::secret::Shown::bare(.path))]
    Plugin {
        /// Its path.
        path: PathBuf,
        /// The problem.
        problem: Problem,
    },
    /// A grant cannot be given.
    #[error(transparent)]
    Grant(#[from] grants::Error),
}

/// The problem with a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is a directory, a pipe, a device.
    #[error("is not a regular file: name the component itself, as in target/plugins/hello.wasm")]
    NotAFile,
    /// Reading it would take memory from other connections.
    #[error("is {0} bytes, and a plugin has at most {LARGEST}: is it the right file?")]
    TooLarge(u64),
    /// Its content may be a mix of the old file and the new one.
    #[error("is open for writing: replace it by a rename instead")]
    Changing,
    /// Another file than the operator asked for.
    #[error("has the SHA-256 {found}, and --plugin-sha256 is {wanted}: correct the file or the digest")]
    Digest {
        /// The digest of the file.
        found: Digest,
        /// The digest in the option.
        wanted: Digest,
    },
    /// It is not a plugin.
    #[error(transparent)]
    Contract(#[from] contract::Error),
    /// It uses WASI 0.3, which is disabled.
    #[error(
        "uses WASI 0.3 or its concurrency, and --disable-wasi-0-3 is given: build it for 0.2 alone, or leave that option out"
    )]
    Wasi03Disabled,
    /// It does not compile.
    #[error("does not compile: {0}")]
    Compile(String),
    /// Its compiled form cannot be stored.
    #[error(transparent)]
    Keep(#[from] cache::KeepError),
    /// It cannot be linked: an interface that it needs differs from the host's.
    #[error(
        "was built for {built_for}, and cannot be linked with this host's interfaces (uninterruptible:server@0.2.0 and @0.3.0, WASI 0.1, \
         0.2.12 and 0.3.0): {cause}"
    )]
    Link {
        /// The package of its export.
        built_for: String,
        /// The difference.
        cause: String,
    },
    /// A guest needs more memory than it may have.
    #[error("needs {needed} bytes of memory to start, --guest-memory gives {given}: raise it")]
    Memory {
        /// The initial size of its memories.
        needed: u64,
        /// The limit.
        given: usize,
    },
    /// Its first guest cannot be made.
    #[error("cannot be instantiated: {0}")]
    Instantiate(String),
    /// The host cannot reserve room.
    #[error(
        "no room for {connections} guests ({cause}): lower --max-connections, or raise vm.max_map_count (guests of this \
         plugin alone need {mappings}: sysctl -w vm.max_map_count={mappings}) and ulimit -v"
    )]
    Room {
        /// The number of guests.
        connections: u32,
        /// The setting of vm.max_map_count for this plugin alone.
        mappings: u64,
        /// The error of the system.
        cause: String,
    },
}

impl Problem {
    /// An error of the compiler.
    pub(crate) fn of_compiler(error: wasmtime::Error) -> Self {
        Self::Compile(one_line(&error))
    }

    /// Whether the system refused, rather than the plugin being wrong.
    pub fn is_refusal_of_the_system(&self) -> bool {
        matches!(self, Self::Room { .. } | Self::Keep(cache::KeepError::Unwritten { .. }))
    }
}

impl LoadError {
    /// Whether the system refused, rather than the plugin being wrong.
    pub fn is_refusal_of_the_system(&self) -> bool {
        match self {
            Self::Plugin { problem, .. } => problem.is_refusal_of_the_system(),
            Self::Grant(error) => error.is_refusal_of_the_system,
        }
    }
}

/// The chain of an engine's error, which may be a paragraph, as one line.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    log::escaped(&format!("{error:#}").replace('\n', " "))
}
