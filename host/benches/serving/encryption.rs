//! TLS for both servers and their clients: one certificate, made for the run, and the same settings
//! on either side.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "localhost";

/// The options of a server that encrypts; the host has the same.
#[derive(Debug, Clone, Args)]
pub(crate) struct Files {
    #[arg(long, required = false, requires = "tls_key")]
    pub(crate) tls_certificate: PathBuf,
    #[arg(long, required = false, requires = "tls_certificate")]
    pub(crate) tls_key: PathBuf,
}

/// Whether a handshake resumes an earlier session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Handshake {
    Full,
    Resumed,
}

impl Files {
    /// A certificate that vouches for itself, with a key on P-256, as most servers have.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
        let files = Self { tls_certificate: folder.join("certificate.pem"), tls_key: folder.join("key.pem") };
        for (path, text) in [(&files.tls_certificate, certificate.pem()), (&files.tls_key, key.serialize_pem())] {
            std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(files)
    }

    /// For the native server.
    pub(crate) fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let certificate = CertificateDer::from_pem_file(&self.tls_certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.tls_key)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.ticketer = Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// For one client. A client that resumes has sessions of its own.
pub(crate) fn connector(
    certificate: &Path,
    handshake: Handshake,
) -> anyhow::Result<(TlsConnector, ServerName<'static>)> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(certificate)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    if handshake == Handshake::Full {
        config.resumption = Resumption::disabled();
    }
    Ok((TlsConnector::from(Arc::new(config)), NAME.try_into()?))
}
