//! The authorities that guests trust for `https` requests: those that this machine trusts.

use crate::record::secret::Shown;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_native_certs::ErrorKind;
use std::sync::Arc;
use tokio::{sync::OnceCell, task::spawn_blocking};

/// Loaded at the first use, since most guests make no requests.
#[derive(Debug, Default)]
pub(super) struct Authorities(OnceCell<Arc<ClientConfig>>);

/// There are no trusted authorities.
#[derive(Debug)]
pub(crate) enum Trust {
    /// The reason.
    Missing(String),
}

impl Authorities {
    pub(super) async fn get(&self) -> Result<Arc<ClientConfig>, Trust> {
        let read = async {
            match spawn_blocking(read).await {
                Ok(config) => config,
                Err(error) => Err(Trust::Missing(error.to_string())),
            }
        };
        self.0.get_or_try_init(|| read).await.map(Arc::clone)
    }
}

fn read() -> Result<Arc<ClientConfig>, Trust> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _unusable) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), |error| told(&error.kind));
        return Err(Trust::Missing(format!("the authorities that this machine trusts cannot be loaded: {why}")));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| Trust::Missing(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The library's text about a file's content is not repeated: the variable may name any file.
fn told(error: &ErrorKind) -> String {
    match error {
        ErrorKind::Io { inner, path } => format!("{} cannot be read: {inner}", Shown::path(path)),
        _ => "one of their files is not valid PEM; check SSL_CERT_FILE and SSL_CERT_DIR if they are set".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem;

    #[test]
    fn messages_do_not_contain_file_content() {
        let error = ErrorKind::Pem(pem::Error::MissingSectionEnd { end_marker: b"PRIVATE KEY".to_vec() });
        assert!(!told(&error).contains("80") && told(&error).contains("SSL_CERT_FILE"), "{}", told(&error));
    }
}
