//! The certificates of a listener, and the choice of the one that a peer is shown.

use super::{
    load::{self, LoadError, Placed, Problem},
    settings::CertificateFiles,
    validity::Standing,
    x509::X509,
};
use rustls::{
    Error, InconsistentKeys,
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{path::Path, sync::Arc};
use tracing::warn;
use webpki::EndEntityCert;

/// The certificates of a listener, in the order of the options.
#[derive(Debug)]
pub(super) struct Certificates(Vec<Certificate>);

#[derive(Debug)]
struct Certificate {
    /// The names that it was issued for, in lower case.
    names: Vec<String>,
    certified: Arc<CertifiedKey>,
}

/// How well a certificate matches a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Exactly,
    ByWildcard,
    Not,
}

impl Certificates {
    pub(super) fn load(pairs: &[CertificateFiles]) -> Result<Self, LoadError> {
        pairs.iter().map(Certificate::load).collect::<Result<_, _>>().map(Self)
    }
}

impl Certificate {
    fn load(pair: &CertificateFiles) -> Result<Self, LoadError> {
        let of_certificate = |problem| LoadError::new("--tls-certificate", &pair.certificate, problem);
        let of_key = |problem| LoadError::new("--tls-key", &pair.key, problem);
        let chain = load::certificates(&pair.certificate).map_err(of_certificate)?;
        let names = names(&chain).map_err(of_certificate)?;
        let key = load::key(&pair.key).map_err(of_key)?;
        let chain: Vec<_> = chain.into_iter().map(|certificate| certificate.der).collect();
        warn_of_expiry(&pair.certificate, &chain);
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(Self { names, certified: Arc::new(certified) }),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(of_key(Problem::Mismatch { certificate: pair.certificate.clone() }))
            }
            Err(_about_content) => Err(of_certificate(Problem::Incomparable)),
        }
    }

    fn answers_to(&self, name: &str) -> Answer {
        if self.names.iter().any(|own| own == name) {
            return Answer::Exactly;
        }
        // A wildcard stands for one label, the first.
        let below = name.split_once('.').map(|(_, domain)| domain);
        let by_wildcard =
            self.names.iter().any(|own| own.strip_prefix("*.").is_some_and(|domain| Some(domain) == below));
        if by_wildcard { Answer::ByWildcard } else { Answer::Not }
    }
}

impl ResolvesServerCert for Certificates {
    /// Among the best matches for the name, the first certificate whose key the peer can check.
    /// Without a server name, or with an unknown one, the peer gets the first certificate and can
    /// decide itself.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Self(all) = self;
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let answer =
            |certificate: &Certificate| name.as_deref().map_or(Answer::Not, |name| certificate.answers_to(name));
        let can_be_checked =
            |certificate: &&Certificate| certificate.certified.key.choose_scheme(hello.signature_schemes()).is_some();
        let best = [Answer::Exactly, Answer::ByWildcard, Answer::Not]
            .into_iter()
            .find_map(|wanted| all.iter().filter(|certificate| answer(certificate) == wanted).find(can_be_checked));
        // With a certificate that it cannot check, the peer at least learns the reason.
        best.or(all.first()).map(|certificate| Arc::clone(&certificate.certified))
    }
}

/// The names in the first certificate of a chain. Each must be readable.
fn names(chain: &[Placed]) -> Result<Vec<String>, Problem> {
    let mut names = Vec::new();
    for placed in chain {
        let certificate = EndEntityCert::try_from(&placed.der).map_err(|_about_content| load::unusable(placed))?;
        if placed.place == 1 {
            names = certificate.valid_dns_names().map(str::to_ascii_lowercase).collect();
        }
    }
    Ok(names)
}

/// Clients will reject the certificate, but the operator may have to serve it until it is renewed.
fn warn_of_expiry(file: &Path, chain: &[CertificateDer<'static>]) {
    let Some(validity) = chain.first().and_then(|certificate| X509::of(certificate)?.validity) else { return };
    let file = file.display();
    match validity.now() {
        Standing::Valid => {}
        Standing::Expired => {
            warn!(%file, remedy = "renew it, then reload", "TLS certificate has expired")
        }
        Standing::NotYet => {
            warn!(%file, remedy = "check the clock of this machine", "TLS certificate not yet valid");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs::default_provider;

    fn certificate(names: &[&str]) -> Certificate {
        let made =
            rcgen::generate_simple_self_signed(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let key = default_provider().key_provider.load_private_key(key).unwrap();
        let chain = vec![made.cert.der().clone()];
        let names = super::names(&[Placed { place: 1, line: 1, der: chain[0].clone() }]).unwrap();
        Certificate { names, certified: Arc::new(CertifiedKey::new(chain, key)) }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let certificate = certificate(&["example.org", "*.Example.net"]);
        assert_eq!(certificate.answers_to("example.org"), Answer::Exactly);
        assert_eq!(certificate.answers_to("www.example.net"), Answer::ByWildcard);
        for other in ["www.example.org", "example.net", "a.b.example.net", "org", ""] {
            assert_eq!(certificate.answers_to(other), Answer::Not, "{other}");
        }
    }
}
