//! What the subcommands were asked for.

use super::project::Project;
use super::{
    cache_dir,
    cli::{NewProject, PluginFile, RunningHost},
    error::Error,
    layers,
    value::{duration, parse, plugin_kind, size},
};
use crate::{
    admin::Address,
    component::{Kind, Wasi03},
};
use std::{fmt, path::PathBuf, time::Duration};

/// What is asked of a host, and where.
#[derive(Debug)]
pub struct Asking {
    /// Where.
    pub address: Address,
    /// What.
    pub what: What,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// How it is, in words.
    Status,
    /// How it is, as it says so itself.
    StatusAsJson,
    /// A restart, and whether the successor serves.
    Restart,
    /// A restart, and whether its window is over.
    RestartUntilSettled,
    /// The predecessor again.
    Rollback,
    /// A reload, and whether it took effect.
    Reload,
    /// The end.
    Stop,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status | Self::StatusAsJson => "status",
            Self::Restart | Self::RestartUntilSettled => "restart",
            Self::Rollback => "rollback",
            Self::Reload => "reload",
            Self::Stop => "stop",
        })
    }
}

/// Where a host that runs is asked: at the address that is given, or that its configuration file has.
///
/// # Errors
///
/// Where neither says where, or the address is none.
pub fn asking(host: RunningHost, what: What) -> Result<Asking, Error> {
    let timeout = duration("--timeout", &host.timeout)?;
    let uri = match (host.admin, &host.config) {
        (Some(uri), _) => Some(uri),
        (None, Some(file)) => layers::word_of("admin", file)?,
        (None, None) => None,
    };
    let address = parse("--admin", &uri.ok_or(Error::NoAdmin)?)?;
    Ok(Asking { address, what, timeout })
}

/// What is to be known for looking at a plugin.
#[derive(Debug)]
pub struct Looking {
    /// The plugin's file.
    pub plugin: PathBuf,
    /// What it is taken for; `None` for the first kind that it is.
    pub plugin_kind: Option<Kind>,
    /// Where compiled plugins are kept; `None` where they are not.
    pub cache_dir: Option<PathBuf>,
    /// Whether plugins of WASI 0.3 would be served.
    pub wasi_0_3: Wasi03,
    /// Bytes of memory a guest would have.
    pub guest_memory: usize,
}

impl Looking {
    /// Turns what was typed into what was meant.
    ///
    /// # Errors
    ///
    /// The first value that has no meaning.
    pub fn resolve(file: PluginFile) -> Result<Self, Error> {
        Ok(Self {
            plugin: file.plugin,
            plugin_kind: plugin_kind(&file.plugin_kind)?,
            cache_dir: cache_dir(file.cache_dir),
            wasi_0_3: if file.disable_wasi_0_3 { Wasi03::Disabled } else { Wasi03::Served },
            guest_memory: size("--guest-memory", &file.guest_memory)?,
        })
    }
}

/// A project that is to be written.
///
/// # Errors
///
/// Where its language or its name is none.
pub fn project(asked: &NewProject) -> Result<Project, Error> {
    Ok(Project { language: parse("--lang", &asked.lang)?, name: parse("new", &asked.name)? })
}
