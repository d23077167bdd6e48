//! What the connections of each listener get: loaded as a whole, so that a configuration is served in full or not at all.

use super::{
    admission::{Admission, Policy},
    timeouts::Timeouts,
};
use crate::{
    component::{self, Source},
    guest::Plugin,
    net::Key,
    record::{
        failure::{Fault, Reason},
        log::{self, Limiter},
    },
    wire::tls::{self, Acceptor, Session, TicketKeys},
};
use std::{collections::HashMap, num::NonZeroU32, sync::Arc};
use tracing::warn;

/// Records of failed guests at once, and a second after that: a hostile peer must not be able to flood the log.
const FAULT_BURST: u32 = 100;
const FAULT_RATE: u32 = 10;

/// Records of clients without a good certificate, a second: they come from outside, and most say the same.
const CLIENT_RATE: u32 = 1;

/// What is agreed upon under TLS where nothing was said and every plugin answers requests, the preferred one first.
const HTTP: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// What the connections of one listener are to get.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The listener.
    pub listener: Key,
    /// Who may connect.
    pub policy: Policy,
    /// How connections are encrypted, where they are.
    pub tls: Option<tls::Settings>,
    /// How long each may last.
    pub timeouts: Timeouts,
    /// The plugin that serves those for which there is no route.
    pub source: Source,
    /// The plugins that serve some of them instead: the first that is for a connection.
    pub routes: Vec<Route>,
}

/// A plugin for the connections that ask for it in their TLS handshake.
#[derive(Clone, Debug)]
pub struct Route {
    /// The server name that they ask for, where that matters.
    pub server_name: Option<tls::ServerName>,
    /// The application protocol that was agreed upon, where that matters.
    pub alpn: Option<tls::Protocol>,
    /// The plugin.
    pub source: Source,
}

/// What all connections of one listener share.
pub struct Service {
    /// What serves those for which there is no route.
    pub plugin: Arc<Plugin>,
    routes: Vec<(Route, Arc<Plugin>)>,
    /// What connections go through first, where they are encrypted.
    pub tls: Option<Acceptor>,
    /// Who may connect.
    pub admission: Admission,
    /// How long each may last.
    pub timeouts: Timeouts,
    /// For the records of failed guests.
    faults: Limiter,
    /// For those of this host's own failures, of which there is one for each connection where the system has run out of something.
    own_faults: Limiter,
    /// For those of clients whose certificates are rejected.
    client_faults: Limiter,
}

impl Service {
    /// What serves a connection that has told this in its handshake.
    pub fn plugin_for(&self, told: &Session) -> &Arc<Plugin> {
        let chosen = self.routes.iter().find(|(route, _)| {
            route.server_name.as_ref().is_none_or(|name| told.server_name().is_some_and(|asked| name.covers(asked)))
                && route.alpn.as_ref().is_none_or(|protocol| told.alpn() == Some(protocol.as_ref()))
        });
        chosen.map_or(&self.plugin, |(_, plugin)| plugin)
    }

    /// Everything that serves connections here.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        [&self.plugin].into_iter().chain(self.routes.iter().map(|(_, plugin)| plugin))
    }

    /// Whether a failure is to be told to whoever reads the log: `Some` with how many were not.
    pub fn to_be_told(&self, reason: Reason) -> Option<Option<u64>> {
        match reason.fault() {
            Fault::Plugin => self.faults.pass().map(log::counted),
            Fault::Host => self.own_faults.pass().map(log::counted),
            Fault::Client => self.client_faults.pass().map(log::counted),
            Fault::Expected => None,
        }
    }
}

/// The services of a configuration, by their listeners.
pub struct Services(HashMap<Key, Arc<Service>>);

/// A configuration that resolves, and cannot be served all the same.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A plugin cannot be served.
    #[error(transparent)]
    Plugin(#[from] component::LoadError),
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::LoadError),
}

impl LoadError {
    /// Whether what was configured may be fine.
    pub fn is_refusal_of_the_system(&self) -> bool {
        match self {
            Self::Plugin(error) => error.is_refusal_of_the_system(),
            Self::Tls(_) => false,
        }
    }
}

impl Services {
    /// Reads everything that the listeners need, each plugin once. Tickets are sealed with keys that outlive
    /// what is loaded. To be called where blocking is allowed, within a runtime.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be served.
    pub fn load(plans: &[Plan], max_connections: NonZeroU32, ticket_keys: &Arc<TicketKeys>) -> Result<Self, LoadError> {
        let mut plugins: Vec<(&Source, Arc<Plugin>)> = Vec::new();
        let mut plugin_of = |source| {
            if let Some((_, plugin)) = plugins.iter().find(|(loaded, _)| *loaded == source) {
                return Ok(Arc::clone(plugin));
            }
            let plugin = Arc::new(Plugin::load(source)?);
            plugins.push((source, Arc::clone(&plugin)));
            Ok::<_, LoadError>(plugin)
        };
        let mut services = HashMap::new();
        for plan in plans {
            // First what takes no time.
            let mut tls = plan.tls.as_ref().map(|settings| Acceptor::load(settings, ticket_keys)).transpose()?;
            let routes = plan.routes.iter().map(|route| Ok((route.clone(), plugin_of(&route.source)?)));
            let routes = routes.collect::<Result<Vec<_>, LoadError>>()?;
            let plugin = plugin_of(&plan.source)?;
            if routes.iter().map(|(_, plugin)| plugin).chain([&plugin]).all(|plugin| plugin.speaks_http()) {
                tls.iter_mut().for_each(|tls| tls.agree_upon(&HTTP));
            }
            let limiter = || Limiter::new(FAULT_BURST, FAULT_RATE);
            let service = Service {
                plugin,
                routes,
                tls,
                admission: Admission::new(plan.policy.clone()),
                timeouts: plan.timeouts,
                faults: limiter(),
                own_faults: limiter(),
                client_faults: Limiter::new(FAULT_BURST, CLIENT_RATE),
            };
            services.insert(plan.listener.clone(), Arc::new(service));
        }
        if let Some(shortage) = Plugin::shortage(plugins.iter().map(|(_, plugin)| plugin), max_connections) {
            warn!(detail = %shortage, "memory mappings insufficient");
        }
        Ok(Self(services))
    }

    /// That of a listener.
    pub fn of(&self, listener: &Key) -> Option<&Arc<Service>> {
        self.0.get(listener)
    }

    /// Whose they are.
    pub fn listeners(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }
}
