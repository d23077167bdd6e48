//! `check`: finds out whether the host would start, without disturbing a running one.
//!
//! It reads every file that a start reads, and loads everything that a start loads; it tries
//! listeners without listening. It prints a configuration file that is equivalent to all layers
//! together.

use crate::{
    command,
    config::{self, Config, Layers},
    connection::service::Services,
    handoff::adopt::Predecessor,
    lifecycle::{Error, pidfile, reopen},
    net::{self, SocketFile},
    record::{exit::Exit, log},
    system::privilege::Identity,
};
use std::sync::Arc;
use tracing::{info, warn};

/// Checks a configuration, and prints the result. Call this where blocking is allowed, within a
/// runtime.
///
/// # Errors
///
/// The first problem that would keep the process from serving.
pub(crate) fn run(layers: Layers) -> Result<Exit, Error> {
    let config = Config::resolve(layers, 0)?;
    // Problems are printed here, not among the log records of a serving host.
    let _flush_on_exit = log::start(&log::Options { file: None, ..config.log.clone() })?;
    log::check(&config.log)?;
    for (found, meant) in config::unread_variables() {
        warn!(variable = found, suggestion = meant, "unknown environment variable");
    }
    if let Some(reduced_default) = &config.reduced_default {
        info!(detail = %reduced_default, "max-connections lowered");
    }
    Services::load(&config.plans(), config.max_connections, &Arc::default())?;
    config.pidfile.as_deref().map(pidfile::check).transpose()?;
    for listener in &config.listeners {
        net::check(&listener.bind)?;
    }
    if let Some(socket) = &config.handoff.socket {
        SocketFile::check(socket).map_err(|obstacle| Error::HandoffSocket { path: socket.clone(), obstacle })?;
    }
    // A host that serves there sees a connection and nothing else.
    if let Some(path) = &config.handoff.take_over
        && Predecessor::at(path)?.is_none()
    {
        info!(%path, "no predecessor, starting cold");
    }
    if let Some(address) = &config.admin {
        net::check(address.bind()).map_err(|error| Error::Endpoint { address: address.clone(), error })?;
    }
    // Last, since it cannot be undone: it shows what the next generation will be able to do.
    if config.identity.as_ref().map(Identity::assume).transpose()? == Some(true) {
        reopen::problems(&config).iter().for_each(|problem| warn!(detail = %problem, "next generation may fail"));
    } else if let Some(problem) = reopen::program(&config) {
        warn!(detail = %problem, "next generation may fail");
    }
    let resolved = config.as_file()?;
    Ok(command::say(&resolved))
}
