//! Denials of access to guests: records at debug level that name the missing grant, for operators
//! of a plugin that fails.

use crate::record::{
    connection_id::ConnectionId,
    log::{self, Limiter},
};
use std::{fmt, sync::Arc};
use tracing::debug;

/// The denials of one guest. They count against the rate limit for output of the plugin's guests.
#[derive(Clone, Debug)]
pub(crate) struct Denials {
    plugin: Arc<str>,
    connection: ConnectionId,
    limiter: Arc<Limiter>,
}

impl Denials {
    pub(crate) fn new(plugin: &Arc<str>, connection: ConnectionId, limiter: &Arc<Limiter>) -> Self {
        Self { plugin: Arc::clone(plugin), connection, limiter: Arc::clone(limiter) }
    }

    /// A guest tried to `act` on `target`, which `grant` would allow.
    pub(crate) fn record(&self, act: &'static str, target: impl fmt::Display, grant: impl fmt::Display) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let Some(suppressed) = self.limiter.pass().map(log::counted) else { return };
        let (target, grant) = (log::escaped(&target.to_string()), log::escaped(&grant.to_string()));
        debug!(plugin = %self.plugin, connection = %self.connection, act, target, grant, suppressed, "guest denied");
    }

    /// A guest tried to change something in a directory that is granted for reading.
    pub(crate) fn change(&self, path: impl fmt::Display) {
        self.record("write", path, "--guest-dir HOST::GUEST:rw");
    }
}
