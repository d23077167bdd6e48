//! The services of the connections of each listener. They load as a whole, so that the host serves
//! a configuration completely or not at all.

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

/// Records of failed guests: a burst, then a rate per second. A hostile peer must not be able to
/// flood the log.
const FAULT_BURST: u32 = 100;
const FAULT_RATE: u32 = 10;

/// Records of clients without a valid certificate, a second: they come from outside, and most are
/// alike.
const CLIENT_RATE: u32 = 1;

/// The ALPN protocols under TLS if none are configured and every plugin answers requests, preferred
/// ones first.
const HTTP: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// The plan of one listener.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The listener.
    pub listener: Key,
    /// The rules for its peers.
    pub policy: Policy,
    /// Its TLS settings, if connections are encrypted.
    pub tls: Option<tls::Settings>,
    /// The timeouts of a connection.
    pub timeouts: Timeouts,
    /// The plugin of connections without a route.
    pub source: Source,
    /// The routes: the first that matches a connection serves it.
    pub routes: Vec<Route>,
}

/// A plugin for the connections that match its server name and protocol.
#[derive(Clone, Debug)]
pub struct Route {
    /// The server name from the TLS handshake, if it matters.
    pub server_name: Option<tls::ServerName>,
    /// The negotiated application protocol, if it matters.
    pub alpn: Option<tls::Protocol>,
    /// The plugin.
    pub source: Source,
}

/// The shared state of all connections of one listener.
pub struct Service {
    /// The plugin of connections without a route.
    pub plugin: Arc<Plugin>,
    routes: Vec<(Route, Arc<Plugin>)>,
    /// The TLS acceptor, if connections are encrypted.
    pub tls: Option<Acceptor>,
    /// The rules for its peers.
    pub admission: Admission,
    /// The timeouts of a connection.
    pub timeouts: Timeouts,
    /// Limits the records of failed guests.
    faults: Limiter,
    /// Limits the records of this host's own failures. Every connection has one if the system has
    /// run out of something.
    own_faults: Limiter,
    /// Limits the records of rejected client certificates.
    client_faults: Limiter,
}

impl Service {
    /// The plugin for a connection with this TLS session.
    pub fn plugin_for(&self, session: &Session) -> &Arc<Plugin> {
        let chosen = self.routes.iter().find(|(route, _)| {
            route.server_name.as_ref().is_none_or(|name| session.server_name().is_some_and(|asked| name.covers(asked)))
                && route.alpn.as_ref().is_none_or(|protocol| session.alpn() == Some(protocol.as_ref()))
        });
        chosen.map_or(&self.plugin, |(_, plugin)| plugin)
    }

    /// Every plugin that serves connections here.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        [&self.plugin].into_iter().chain(self.routes.iter().map(|(_, plugin)| plugin))
    }

    /// Whether a failure is to be logged: `Some` with the number of those that were not.
    pub fn should_log(&self, reason: Reason) -> Option<Option<u64>> {
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

/// Why a valid configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A plugin cannot be served.
    #[error(transparent)]
    Plugin(#[from] component::LoadError),
    /// A TLS file cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::LoadError),
}

impl LoadError {
    /// Whether the system refused, so that the configuration may be right.
    pub fn is_refusal_of_the_system(&self) -> bool {
        match self {
            Self::Plugin(error) => error.is_refusal_of_the_system(),
            Self::Tls(_) => false,
        }
    }
}

impl Services {
    /// Loads everything that the listeners need, each plugin once. Tickets are encrypted with keys
    /// that outlive the services. Call this where blocking is allowed, within a runtime.
    ///
    /// # Errors
    ///
    /// The first plugin or file that cannot be served.
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
            // First the steps that take no time.
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

    /// The service of a listener.
    pub fn of(&self, listener: &Key) -> Option<&Arc<Service>> {
        self.0.get(listener)
    }

    /// The listeners that have a service.
    pub fn listeners(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }
}
