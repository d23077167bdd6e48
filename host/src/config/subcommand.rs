//! The resolved subcommands.

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
    component::{ComponentLayer, Kind, Wasi03},
};
use std::{fmt, path::PathBuf, time::Duration};

/// A request to a running host.
#[derive(Debug)]
pub struct Asking {
    /// The admin endpoint.
    pub address: Address,
    /// The request.
    pub what: What,
    /// The timeout of the answer.
    pub timeout: Duration,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The status, as text.
    Status,
    /// The status, as JSON.
    StatusAsJson,
    /// A restart, until the successor serves.
    Restart,
    /// A restart, until its window is over.
    RestartUntilSettled,
    /// A rollback to the predecessor.
    Rollback,
    /// A reload, with its outcome.
    Reload,
    /// A graceful stop.
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

/// The request to a running host, at the given address or the one in its configuration file.
///
/// # Errors
///
/// If neither names an address, or the address is not valid.
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

/// The options for inspecting or compiling a plugin.
#[derive(Debug)]
pub struct Looking {
    /// The plugin's file.
    pub plugin: PathBuf,
    /// Its kind; `None` for the first kind that matches.
    pub plugin_kind: Option<Kind>,
    /// The directory of compiled plugins; `None` to keep none.
    pub cache_dir: Option<PathBuf>,
    /// Whether plugins of WASI 0.3 would be served.
    pub wasi_0_3: Wasi03,
    /// Whether it would be served without the engine's component layer, if it can be.
    pub component_layer: ComponentLayer,
    /// The memory of a guest, in bytes.
    pub guest_memory: usize,
}

impl Looking {
    /// Resolves the typed options.
    ///
    /// # Errors
    ///
    /// The first value that is not valid.
    pub fn resolve(file: PluginFile) -> Result<Self, Error> {
        Ok(Self {
            plugin: file.plugin,
            plugin_kind: plugin_kind(&file.plugin_kind)?,
            cache_dir: cache_dir(file.cache_dir),
            wasi_0_3: if file.disable_wasi_0_3 { Wasi03::Disabled } else { Wasi03::Served },
            component_layer: parse("--component-layer", &file.component_layer)?,
            guest_memory: size("--guest-memory", &file.guest_memory)?,
        })
    }
}

/// The project to create.
///
/// # Errors
///
/// If its language or its name is not valid.
pub fn project(asked: &NewProject) -> Result<Project, Error> {
    Ok(Project { language: parse("--lang", &asked.lang)?, name: parse("new", &asked.name)? })
}
