//! Why a plugin cannot be served: one line that names what is wrong and the remedy.

use super::{cache, contract, grants};
use crate::record::{digest::Digest, log};
use std::{io, path::PathBuf};

/// The largest plugin, in bytes: ten times what an interpreter with its library takes.
pub(super) const LARGEST: u64 = 256 << 20;

/// Why a plugin cannot be served: one line that names what is wrong and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file.
    #[error("--plugin {}: {problem}", crate::record::secret::Shown::bare(.path))]
    Plugin {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
    /// What its guests are granted.
    #[error(transparent)]
    Grant(#[from] grants::Error),
}

/// What is wrong with a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is a directory, a pipe, a device.
    #[error("is not a regular file: name the component itself, as in target/plugins/hello.wasm")]
    NotAFile,
    /// Reading it would take memory from those who are served.
    #[error("is {0} bytes, and a plugin has at most {LARGEST}: is it the right file?")]
    TooLarge(u64),
    /// What was read of it may be the old file and the new one in one.
    #[error("is being written to: put a new file in its place by a rename")]
    Changing,
    /// It is another one than was asked for.
    #[error(
        "has the SHA-256 {found}, and --plugin-sha256 asks for {wanted}: put the right file there, or the right digest"
    )]
    Digest {
        /// That of the file.
        found: Digest,
        /// That of the option.
        wanted: Digest,
    },
    /// It is not a plugin.
    #[error(transparent)]
    Contract(#[from] contract::Error),
    /// It is one of WASI 0.3, which was switched off.
    #[error(
        "uses WASI 0.3 or its concurrency, and --disable-wasi-0-3 is given: build it for 0.2 alone, or leave that option out"
    )]
    Wasi03Disabled,
    /// It does not compile.
    #[error("does not compile: {0}")]
    Compile(String),
    /// Its compiled form was to be kept.
    #[error(transparent)]
    Keep(#[from] cache::KeepError),
    /// It cannot be linked: something that it needs differs from what the host has.
    #[error(
        "was built for {built_for}, and cannot be linked with what this host has (uninterruptible:server@0.2.0 and @0.3.0, WASI 0.1, \
         0.2.12 and 0.3.0): {cause}"
    )]
    Link {
        /// The package of what it exports.
        built_for: String,
        /// What differs.
        cause: String,
    },
    /// A guest of it needs more memory than it may have.
    #[error("needs {needed} bytes of memory to start, --guest-memory gives {given}: raise it")]
    Memory {
        /// What its memories take at the start.
        needed: u64,
        /// What they may.
        given: usize,
    },
    /// A first guest of it could not be made.
    #[error("cannot be instantiated: {0}")]
    Instantiate(String),
    /// The host could not make room.
    #[error(
        "no room for {connections} guests ({cause}): lower --max-connections, or raise vm.max_map_count (guests of this plugin alone want \
         {mappings}: sysctl -w vm.max_map_count={mappings}) and ulimit -v"
    )]
    Room {
        /// How many were asked for.
        connections: u32,
        /// What their setting should be for this plugin alone.
        mappings: u64,
        /// What the system said.
        cause: String,
    },
}

impl Problem {
    /// What the compiler said.
    pub(crate) fn of_compiler(error: wasmtime::Error) -> Self {
        Self::Compile(one_line(&error))
    }

    /// Whether the plugin itself may be fine.
    pub fn is_refusal_of_the_system(&self) -> bool {
        matches!(self, Self::Room { .. } | Self::Keep(cache::KeepError::Unwritten { .. }))
    }
}

impl LoadError {
    /// Whether the plugin itself may be fine.
    pub fn is_refusal_of_the_system(&self) -> bool {
        match self {
            Self::Plugin { problem, .. } => problem.is_refusal_of_the_system(),
            Self::Grant(error) => error.is_refusal_of_the_system,
        }
    }
}

/// The chain of an error from the engine, which may be a paragraph, as one line.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    log::escaped(&format!("{error:#}").replace('\n', " "))
}
