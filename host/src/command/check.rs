//! `check`: whether serving would begin, found out without disturbing whoever serves already.
//!
//! Everything that booting reads is read, and everything that it loads is loaded; listeners are tried without listening. What is
//! printed is a configuration file that says the same as all the layers together.

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

/// Checks a configuration, and prints what it comes to. To be called where blocking is allowed, within a runtime.
///
/// # Errors
///
/// The first thing that would keep the process from serving.
pub(crate) fn run(layers: Layers) -> Result<Exit, Error> {
    let config = Config::resolve(layers, 0)?;
    // What is found is told here, and not among the records of a host that serves.
    let _flush_on_exit = log::start(&log::Options { file: None, ..config.log.clone() })?;
    log::check(&config.log)?;
    for (found, meant) in config::slips() {
        warn!("{found} is in the environment, and no option has it; did you mean {meant}?");
    }
    if let Some(lowered) = &config.lowered {
        info!("{lowered}");
    }
    Services::load(&config.plans(), config.max_connections, &Arc::default())?;
    config.pidfile.as_deref().map(pidfile::check).transpose()?;
    for listener in &config.listeners {
        net::check(&listener.bind)?;
    }
    if let Some(socket) = &config.handoff.socket {
        SocketFile::check(socket).map_err(|obstacle| Error::Door { path: socket.clone(), obstacle })?;
    }
    // Whoever serves there takes note of a connection, and of nothing else.
    config.handoff.take_over.as_ref().map(Predecessor::at).transpose()?;
    if let Some(address) = &config.admin {
        net::check(address.bind()).map_err(|error| Error::Endpoint { address: address.clone(), error })?;
    }
    // Last, since it is for good: what is left is what the next generation will be able to do.
    if config.identity.as_ref().map(Identity::assume).transpose()? == Some(true) {
        reopen::troubles(&config).iter().for_each(|trouble| warn!("{trouble}"));
    }
    let resolved = config.as_file()?;
    Ok(command::say(&resolved))
}
