//! Client certificates: the authorities that issue accepted ones, and the verification of a peer's
//! chain.

use super::{
    keys::FEWEST_RSA_BITS,
    load::{self, LoadError, Placed, Problem},
    objection::Shown,
    validity::Standing,
    x509::{MaySign, X509},
};
use crate::record::log;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{cell::Cell, fmt, path::Path, sync::Arc};
use tracing::warn;
use webpki::{EndEntityCert, KeyUsage};

/// The authorities whose clients may connect.
pub(super) struct Clients {
    authorities: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    verifier: Arc<Verifier>,
    digest: blake3::Hash,
}

/// The library's verifier. Its objections are kept as sentences.
#[derive(Debug)]
struct Verifier {
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<Vec<u8>>,
}

thread_local! {
    /// The verifier's last objection. The library calls the verifier within the function that
    /// processes received bytes, so that its caller finds the objection on the same thread
    /// afterwards.
    static OBJECTION: Cell<Option<String>> = const { Cell::new(None) };
}

/// The reason why the certificate just processed was rejected, if it was.
pub(super) fn objection() -> Option<String> {
    OBJECTION.take()
}

impl Clients {
    pub(super) fn load(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, LoadError> {
        let loaded = || {
            let certificates = load::certificates(file)?;
            let mut authorities = RootCertStore::empty();
            let mut hasher = blake3::Hasher::new();
            for certificate in &certificates {
                hasher.update(blake3::hash(&certificate.der).as_bytes());
                let added = authorities.add(certificate.der.clone());
                added.map_err(|_about_content| load::unusable(certificate))?;
            }
            let authorities = Arc::new(authorities);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities), Arc::clone(provider))
                .build()
                .map_err(|_about_content| Problem::Refused)?;
            certificates.iter().for_each(|certificate| warn_of_doubts(file, certificate));
            let verifier = Verifier {
                verifier,
                authorities: certificates.into_iter().map(|certificate| certificate.der.to_vec()).collect(),
            };
            let algorithms = provider.signature_verification_algorithms;
            Ok(Self { authorities, algorithms, verifier: Arc::new(verifier), digest: hasher.finalize() })
        };
        loaded().map_err(|problem| LoadError::new("--client-ca", file, problem))
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier) as _
    }

    /// A digest that tells these authorities from others.
    pub(super) fn digest(&self) -> &blake3::Hash {
        &self.digest
    }

    /// The part of a chain that leads from the peer's own certificate to an authority, without the
    /// authority. A peer may send other certificates as well.
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

    /// The reason why a chain that was accepted once is rejected now.
    pub(super) fn objection_to(&self, sent: &[CertificateDer<'_>], at: UnixTime) -> Option<String> {
        let (own, others) = sent.split_first()?;
        self.verifier.verify_client_cert(own, others, at).err()?;
        objection()
    }
}

impl Verifier {
    /// Keeps the sentence for an error, and passes the error on.
    fn kept(
        &self,
        error: Error,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        objection: impl FnOnce(&Shown<'_>, &Error) -> Option<String>,
    ) -> Error {
        let shown = Shown::new(own, others.iter().map(|other| other.as_ref()), &self.authorities);
        OBJECTION.set(objection(&shown, &error));
        error
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(own, others, now);
        verified.map_err(|error| self.kept(error, own, others, |shown, error| shown.objection(error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.verifier.verify_tls12_signature(message, own, signed);
        verified.map_err(|error| self.kept(error, own, &[], |shown, error| shown.objection_to_signature(error)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.verifier.verify_tls13_signature(message, own, signed);
        verified.map_err(|error| self.kept(error, own, &[], |shown, error| shown.objection_to_signature(error)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Warns of certificates that the library accepts as an authority, but that will cause clients to
/// be rejected, here or elsewhere.
fn warn_of_doubts(file: &Path, Placed { line, der, .. }: &Placed) {
    let Some(authority) = X509::of(der) else { return };
    let (file, subject) = (file.display(), log::escaped(&authority.subject()));
    for doubt in doubts(&authority) {
        warn!(%file, line, subject, detail = %doubt, "client CA looks wrong");
    }
}

fn doubts(authority: &X509<'_>) -> Vec<String> {
    let mut doubts = Vec::new();
    match authority.validity.map(|validity| (validity, validity.now())) {
        Some((validity, Standing::Expired)) => doubts.push(format!(
            "the certificate expired on {}; clients that it vouches for are accepted here, but other programs reject them: renew it, then \
             reload",
            validity.to()
        )),
        Some((validity, Standing::NotYet)) => doubts.push(format!(
            "the certificate is not valid before {}; clients that it vouches for are accepted here, but other programs reject them: is the \
             clock right?",
            validity.from()
        )),
        _ => {}
    }
    if let Some(bits) = authority.rsa_bits().filter(|bits| *bits < FEWEST_RSA_BITS) {
        doubts.push(format!(
            "the certificate has an RSA key of {bits} bits, and every client that it vouches for will be rejected; keys must have \
             {FEWEST_RSA_BITS} bits or more: make it again"
        ));
    }
    if authority.version != 3 {
        doubts.push(format!(
            "the certificate is of version {}, and cannot say that it is an authority's; a client that shows it is rejected, and other programs \
             reject those that it vouches for: make one with openssl req -x509",
            authority.version
        ));
    } else if !authority.is_authority() {
        doubts.push(
            "the certificate is not an authority's, since it lacks basicConstraints=CA:TRUE; name the authority that has issued the clients' \
             certificates"
                .into(),
        );
    } else if authority.may_sign() == MaySign::No {
        doubts.push(
            "the keyUsage of the certificate lacks keyCertSign, so that other programs reject the clients that it vouches for; make one that \
             has it"
                .into(),
        );
    } else if authority.may_sign() == MaySign::Unsaid && authority.is_self_issued() {
        doubts.push(
            "the certificate is self-signed and does not say what it is for; it can vouch for clients, but a client that shows this same \
             certificate is rejected: issue each client a certificate of its own (and where they have theirs, make this one with -addext \
             keyUsage=critical,keyCertSign,cRLSign)"
                .into(),
        );
    }
    doubts
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}
