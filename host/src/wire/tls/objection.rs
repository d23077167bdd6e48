//! Why a client's certificate is rejected: a sentence for operators, in openssl's words, with the
//! remedy.
//!
//! The library has decided already. This module turns its verdict and the certificates into a
//! sentence. The client chooses the names in it: the code that logs the sentence escapes it.

use super::{
    keys::FEWEST_RSA_BITS,
    validity::{Moment, Standing},
    x509::X509,
};
use rustls::{CertificateError, ExtendedKeyPurpose};
use webpki::Error as Verdict;

/// How to issue a client certificate, to follow the sentence that says why.
const ISSUE: &str = "issue one for the client: openssl x509 -req -CA ca.pem -CAkey ca.key -extfile FILE, with basicConstraints=CA:FALSE \
                     and extendedKeyUsage=clientAuth in that file";

/// The objection to a client that did not show a certificate.
pub(super) const NONE_SHOWN: &str = "the client showed no certificate, and --client-ca asks for one; give the client its certificate and \
                                     key, as curl --cert and --key do (openssl clients show none, too, if their key is of a kind that is \
                                     not accepted here)";

/// The certificates that a client has shown, as far as they can be read, and the candidate
/// authorities.
pub(super) struct Shown<'c> {
    /// The client's own first.
    chain: Vec<X509<'c>>,
    authorities: Vec<X509<'c>>,
    is_authority_itself: bool,
}

impl<'c> Shown<'c> {
    pub(super) fn new(own: &'c [u8], others: impl Iterator<Item = &'c [u8]>, authorities: &'c [Vec<u8>]) -> Self {
        Self {
            chain: [own].into_iter().chain(others).map_while(X509::of).collect(),
            is_authority_itself: authorities.iter().any(|authority| authority == own),
            authorities: authorities.iter().filter_map(|authority| X509::of(authority)).collect(),
        }
    }

    /// The reason why a chain is rejected.
    pub(super) fn objection(&self, error: &rustls::Error) -> Option<String> {
        let rustls::Error::InvalidCertificate(error) = error else { return None };
        let verdict = match error {
            CertificateError::Other(other) => other.0.downcast_ref::<Verdict>(),
            _ => None,
        };
        let (at_fault, why) = match verdict {
            Some(verdict) => self.of_verdict(verdict),
            None => self.of_error(error),
        };
        let whose = match (self.chain.get(at_fault), at_fault) {
            (Some(own), 0) => format!("the client's certificate {:?} ", own.subject()),
            (Some(other), _) => format!("the intermediate certificate {:?} of the client ", other.subject()),
            (None, _) => "the client's certificate ".to_owned(),
        };
        Some(whose + &why)
    }

    /// The reason why the client has not proven that it owns the certificate.
    pub(super) fn objection_to_signature(&self, error: &rustls::Error) -> Option<String> {
        let own = self.chain.first()?;
        let why = match (own.rsa_bits(), error) {
            (Some(bits), _) if bits < FEWEST_RSA_BITS => too_few(bits),
            (_, rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => {
                "does not belong to the key that the client signs with; have it use the two that belong together".into()
            }
            (_, rustls::Error::InvalidCertificate(_)) => {
                "has a key of a kind that is not accepted; use RSA with 2048 bits or more, ECDSA for P-256, P-384 or P-521, or Ed25519".into()
            }
            _ => return None,
        };
        Some(format!("the client's certificate {:?} {why}", own.subject()))
    }

    fn of_error(&self, error: &CertificateError) -> (usize, String) {
        match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                let on = moment(not_after.as_secs());
                (self.standing(Standing::Expired), format!("expired on {on}; issue a new one"))
            }
            CertificateError::Expired => self.of_dates(),
            CertificateError::NotValidYetContext { not_before, .. } => {
                let from = moment(not_before.as_secs());
                let why = format!(
                    "is not valid before {from}; compare the clocks of this machine and of the one that issued it, or wait"
                );
                (self.standing(Standing::NotYet), why)
            }
            CertificateError::UnknownIssuer => (0, self.of_unknown_issuer()),
            CertificateError::BadSignature => self.of_signature(),
            CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { signature_algorithm_id, .. } => {
                let why = format!(
                    "is signed with {}, which is not accepted; sign it again with -sha256",
                    algorithm(signature_algorithm_id)
                );
                (self.first(|shown| shown.is_signed_by(signature_algorithm_id)), why)
            }
            CertificateError::InvalidPurposeContext { presented, .. } => {
                let listed: Vec<_> = presented.iter().map(purpose).collect();
                let at_fault = self.first(|shown| shown.purposes().is_some_and(|found| !found.contains(&CLIENT_AUTH)));
                let why = format!(
                    "has the extendedKeyUsage {}, and clients need clientAuth; {ISSUE}",
                    if listed.is_empty() { "without a purpose".to_owned() } else { listed.join(", ") }
                );
                (at_fault, why)
            }
            CertificateError::BadEncoding => (0, "is damaged; issue it again".into()),
            _ => (0, format!("is rejected; {ISSUE}")),
        }
    }

    fn of_verdict(&self, verdict: &Verdict) -> (usize, String) {
        let own = |why: String| (0, why);
        match verdict {
            Verdict::UnsupportedCertVersion => {
                let at_fault = self.first(|shown| shown.version != 3);
                let version = self.chain.get(at_fault).map_or(1, |shown| shown.version);
                let remedy = if at_fault == 0 {
                    "sign it again with -extfile, and in that file at least: basicConstraints=CA:FALSE"
                } else {
                    "sign it again with -extfile, and in that file: basicConstraints=critical,CA:TRUE"
                };
                let why = format!(
                    "is of version {version}, as \"openssl x509 -req\" makes it without extensions, and only version 3 is accepted; {remedy}"
                );
                (at_fault, why)
            }
            Verdict::CaUsedAsEndEntity if self.is_authority_itself => own(format!(
                "is the authority in --client-ca itself, and an authority (basicConstraints CA:TRUE) cannot be a client; {ISSUE}"
            )),
            Verdict::CaUsedAsEndEntity => own(format!(
                "is an authority's (basicConstraints CA:TRUE, which \"openssl req -x509\" puts into each), and an authority cannot be a \
                 client; {ISSUE}"
            )),
            Verdict::EndEntityUsedAsCa => (
                self.first_issuer(|shown| !shown.is_authority()),
                "is not an authority's, and the client's was issued by it; issue the client's by one with basicConstraints=CA:TRUE".into(),
            ),
            Verdict::UnsupportedCriticalExtension => (
                self.first(X509::has_unknown_critical),
                "has an extension that is marked critical and that this host does not know; sign it again without the extension, or without \
                 \"critical\""
                    .into(),
            ),
            Verdict::NameConstraintViolation => own(
                "has a name that the nameConstraints of its authority do not permit; issue one for a name that they permit".into(),
            ),
            Verdict::PathLenConstraintViolated | Verdict::MaximumPathDepthExceeded => own(
                "has more intermediate certificates above it than pathlen of an authority permits; issue it from an authority \
                 closer to the root, or reissue that one without pathlen"
                    .into(),
            ),
            Verdict::EmptyEkuExtension => own(format!("has an extendedKeyUsage without any purpose; {ISSUE}")),
            Verdict::InvalidCertValidity => self.of_dates(),
            Verdict::SignatureAlgorithmMismatch => {
                own("is damaged: it names two signature algorithms; issue it again".into())
            }
            Verdict::MaximumSignatureChecksExceeded
            | Verdict::MaximumPathBuildCallsExceeded
            | Verdict::MaximumNameConstraintComparisonsExceeded => {
                own("came with so many others that its issuer was not found; have the client send only the chain".into())
            }
            _ => own(format!("has an extension that is damaged or not supported; {ISSUE}")),
        }
    }

    /// A certificate that ends before it begins, as with `-days -1`.
    fn of_dates(&self) -> (usize, String) {
        let at_fault = self.standing(Standing::Expired);
        let dates = self.chain.get(at_fault).and_then(|shown| shown.validity);
        let on = dates.map(|validity| format!(" on {}", validity.to())).unwrap_or_default();
        (at_fault, format!("expired{on}, before it begins to be valid; issue a new one"))
    }

    /// A chain that ends at an unknown issuer.
    fn of_unknown_issuer(&self) -> String {
        let Some(own) = self.chain.first() else { return "cannot be read; issue it again".into() };
        if own.is_self_issued() {
            return format!("is self-signed, and must be issued by an authority in --client-ca; {ISSUE}");
        }
        let mut top = own;
        // Visits each certificate once, even if they name each other.
        for _ in &self.chain {
            let above = self.chain.iter().find(|shown| shown.subject_is(top.raw_issuer()) && !shown.is_self_issued());
            top = above.unwrap_or(top);
        }
        let by = top.issuer();
        let through = if top.subject_is(own.raw_subject()) { "" } else { ", by way of intermediate certificates" };
        format!(
            "was issued by {by:?}{through}, which is not in --client-ca; add that authority's certificate to the file, or have the client \
             send the intermediate certificates that lead to one in it"
        )
    }

    /// A chain whose issuer is known by name, but has not signed it.
    fn of_signature(&self) -> (usize, String) {
        let issuers = || self.chain.iter().skip(1).chain(&self.authorities);
        for (index, shown) in self.chain.iter().enumerate() {
            let weak = issuers().filter(|issuer| issuer.subject_is(shown.raw_issuer())).find_map(X509::rsa_bits);
            if let Some(bits) = weak.filter(|bits| *bits < FEWEST_RSA_BITS) {
                let why = format!(
                    "was issued by {:?}, whose RSA key has {bits} bits; keys below {FEWEST_RSA_BITS} bits are rejected: make the authority and \
                     what it has issued again",
                    shown.issuer()
                );
                return (index, why);
            }
        }
        let own = self.chain.first();
        let by = own.map(X509::issuer).unwrap_or_default();
        let why = format!(
            "is not signed by the key of {by:?}, which has the name of its issuer; if that authority was created again, \
             reissue the client's certificate too"
        );
        (0, why)
    }

    fn standing(&self, standing: Standing) -> usize {
        self.first(|shown| shown.validity.is_some_and(|validity| validity.now() == standing))
    }

    /// The first certificate for which `holds` is true, else the client's own.
    fn first(&self, holds: impl Fn(&X509<'c>) -> bool) -> usize {
        self.chain.iter().position(holds).unwrap_or(0)
    }

    fn first_issuer(&self, holds: impl Fn(&X509<'c>) -> bool) -> usize {
        self.chain.iter().skip(1).position(holds).map_or(0, |index| index + 1)
    }
}

fn moment(seconds: u64) -> Moment {
    Moment(i64::try_from(seconds).unwrap_or(i64::MAX).min(LAST_MOMENT))
}

/// The end of the year 9999, the last that a certificate can name.
const LAST_MOMENT: i64 = 253_402_300_799;

fn too_few(bits: usize) -> String {
    format!(
        "has an RSA key of {bits} bits, and keys below {FEWEST_RSA_BITS} bits are rejected; make a new key and certificate"
    )
}

const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// The name of a purpose in openssl's configuration files.
fn purpose(purpose: &ExtendedKeyPurpose) -> String {
    match purpose {
        ExtendedKeyPurpose::ClientAuth => "clientAuth".into(),
        ExtendedKeyPurpose::ServerAuth => "serverAuth".into(),
        ExtendedKeyPurpose::Other(numbers) => match numbers.as_slice() {
            [1, 3, 6, 1, 5, 5, 7, 3, 3] => "codeSigning".into(),
            [1, 3, 6, 1, 5, 5, 7, 3, 4] => "emailProtection".into(),
            numbers => numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join("."),
        },
    }
}

/// The name of an algorithm by its identifier: those that used to be common.
fn algorithm(identifier: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 4] = [
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], "MD5"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "SHA-1"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "SHA-1"),
        (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x02], "DSA"),
    ];
    let contains = |known: &[u8]| identifier.windows(known.len()).any(|window| window == known);
    KNOWN.iter().find(|(known, _)| contains(known)).map_or("an algorithm", |(_, name)| name)
}
