//! The TLS of a listener: its settings, and the files that they name, loaded.
//!
//! Every fault of a file is found here, at start and at each reload, never at a connection. This
//! room has no sockets and does not wait: a [`Session`] takes bytes and returns bytes, and `wire`
//! moves them.

mod certificates;
mod clients;
mod der;
mod keys;
mod load;
mod objection;
pub(crate) mod pem;
mod session;
mod settings;
mod tickets;
mod validity;
mod x509;

pub use load::{LoadError, Problem};
pub use session::{HandshakeError, Session, Step};
pub use settings::{CertificateFiles, Options, Protocol, ServerName, Settings, Unusable, Version};
pub use tickets::{KeysError, TicketKeys};

use self::{certificates::Certificates, clients::Clients, tickets::Ticketer};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use std::{sync::Arc, time::Duration};

/// Performs the TLS handshakes of a listener.
#[derive(Clone, Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    clients: Option<Arc<Clients>>,
    handshake_timeout: Duration,
}

impl Acceptor {
    /// Loads the files of the settings. Tickets use the keys of the process, which outlive this
    /// acceptor.
    ///
    /// # Errors
    ///
    /// The first file that cannot be used.
    pub fn load(settings: &Settings, keys: &Arc<TicketKeys>) -> Result<Self, LoadError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Certificates::load(&settings.certificates)?;
        let clients =
            settings.client_ca.as_deref().map(|file| Clients::load(file, &provider)).transpose()?.map(Arc::new);
        let ticketer = Ticketer::new(Arc::clone(keys), clients.as_deref().map(Clients::digest));
        let config = config(settings, provider, certificates, clients.as_deref(), ticketer)
            .map_err(|_about_content| LoadError::of_certificate(&settings.certificates, Problem::Refused))?;
        Ok(Self { config: Arc::new(config), clients, handshake_timeout: settings.handshake_timeout })
    }

    /// Sets the ALPN protocols, the preferred one first, unless the settings have some.
    pub fn agree_upon(&mut self, protocols: &[&[u8]]) {
        let config = Arc::make_mut(&mut self.config);
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        }
    }

    /// The TLS session of a new connection.
    ///
    /// # Errors
    ///
    /// If the library cannot begin one.
    pub fn session(&self) -> Result<Session, HandshakeError> {
        let connection = ServerConnection::new(Arc::clone(&self.config))?;
        Ok(Session::new(connection, self.clients.clone()))
    }

    /// How long a handshake may take.
    pub fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }
}

fn config(
    settings: &Settings,
    provider: Arc<CryptoProvider>,
    certificates: Certificates,
    clients: Option<&Clients>,
    ticketer: Ticketer,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match settings.min_version {
        Version::Tls12 => &[&TLS13, &TLS12],
        Version::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = settings.alpn.iter().map(|protocol| protocol.as_ref().to_vec()).collect();
    config.ticketer = Arc::new(ticketer);
    // Only tickets resume sessions. A session cache would be lost at a restart, and would not
    // notice a new client CA.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
