//! What a service is made of: read from its files at once, at boot and at each reload, so that it is served wholly or not at all.

use super::Failure;
use crate::{
    config::Limits,
    connection::Service,
    guest::{self, Plugin},
    tls::{self, Acceptor, TicketKeys},
};
use std::sync::Arc;

/// Where it is read from.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) plugin: guest::Source,
    pub(super) tls: Option<tls::Settings>,
    /// Not read from anywhere: what tickets are sealed with goes on through reloads.
    pub(super) ticket_keys: Arc<TicketKeys>,
}

/// What has been read, and found fit to be served.
pub(super) struct Loaded {
    plugin: Plugin,
    tls: Option<Acceptor>,
    limits: Limits,
}

impl Sources {
    /// Reads everything. To be called where it may take its time: a plugin may have to be compiled.
    ///
    /// # Errors
    ///
    /// The first file that cannot be served.
    pub(super) fn load(&self) -> Result<Loaded, Failure> {
        // First what takes no time.
        let tls = self.tls.as_ref().map(|settings| Acceptor::load(settings, &self.ticket_keys)).transpose()?;
        Ok(Loaded { plugin: Plugin::load(&self.plugin)?, tls, limits: self.plugin.limits })
    }
}

impl Loaded {
    pub(super) fn service(self) -> Service {
        Service::new(self.plugin, self.tls, self.limits)
    }
}
