//! Client certificates: who issues those that are accepted, and what of a peer's chain is verified.

use super::files::{self, LoadError, Problem};
use crate::log;
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{fmt, path::Path, sync::Arc};
use webpki::{EndEntityCert, KeyUsage};

/// The authorities whose clients may connect.
pub(super) struct Clients {
    authorities: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    verifier: Arc<dyn ClientCertVerifier>,
    digest: blake3::Hash,
}

impl Clients {
    pub(super) fn load(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, LoadError> {
        let loaded = || {
            let certificates = files::certificates(file)?;
            let mut authorities = RootCertStore::empty();
            let mut hasher = blake3::Hasher::new();
            for (index, certificate) in certificates.into_iter().enumerate() {
                hasher.update(blake3::hash(&certificate).as_bytes());
                authorities.add(certificate).map_err(|error| Problem::Certificate {
                    place: index + 1,
                    cause: log::escaped(&error.to_string()),
                })?;
            }
            let authorities = Arc::new(authorities);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities), Arc::clone(provider))
                .build()
                .map_err(|error| Problem::Damaged(log::escaped(&error.to_string())))?;
            let algorithms = provider.signature_verification_algorithms;
            Ok(Self { authorities, algorithms, verifier, digest: hasher.finalize() })
        };
        loaded().map_err(|problem| LoadError::new("--client-ca", file, problem))
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// What tells these authorities from any others.
    pub(super) fn digest(&self) -> &blake3::Hash {
        &self.digest
    }

    /// What of a chain leads from the peer's own certificate to an authority, that one left out: a peer may send others beside.
    pub(super) fn verified(&self, sent: &[CertificateDer<'_>], at: UnixTime) -> Result<Vec<Vec<u8>>, webpki::Error> {
        let Some((own, others)) = sent.split_first() else { return Err(webpki::Error::UnknownIssuer) };
        let own_certificate = EndEntityCert::try_from(own)?;
        let path = own_certificate.verify_for_usage(
            self.algorithms.all,
            &self.authorities.roots,
            others,
            at,
            KeyUsage::client_auth(),
            None,
            None,
        )?;
        let issuers = path.intermediate_certificates().map(|certificate| certificate.der().to_vec());
        Ok([own.to_vec()].into_iter().chain(issuers).collect())
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}
