//! The TLS settings, in types that need no further check. They exist only if the options fit
//! together.

use crate::record::secret::Shown;
use rustls::pki_types::DnsName;
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// The TLS of a listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Not empty. The first is for peers that send no server name, or an unknown one.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is accepted.
    pub min_version: Version,
    /// Application protocols, the preferred one first.
    pub alpn: Vec<Protocol>,
    /// If set, clients must show a certificate of one of these authorities.
    pub client_ca: Option<PathBuf>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Settings {
    /// The files of the settings, with the options that name them.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let pairs = self.certificates.iter().flat_map(|CertificateFiles { certificate, key }| {
            [("--tls-certificate", certificate.as_path()), ("--tls-key", key.as_path())]
        });
        pairs.chain(self.client_ca.iter().map(|path| ("--client-ca", path.as_path())))
    }
}

/// A certificate with its chain, and its key.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM, one private key.
    pub key: PathBuf,
}

/// An accepted version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2, and newer ones.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The name of an application protocol, for ALPN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol(String);

/// The options as given: each parsed, not yet compared.
#[derive(Debug)]
pub struct Options {
    /// `--tls-certificate`.
    pub certificates: Vec<PathBuf>,
    /// `--tls-key`.
    pub keys: Vec<PathBuf>,
    /// `--tls-min-version`.
    pub min_version: Option<Version>,
    /// `--tls-alpn`.
    pub alpn: Vec<Protocol>,
    /// `--client-ca`.
    pub client_ca: Option<PathBuf>,
    /// `--verify-client-certificate`.
    pub verify_client: Option<bool>,
    /// `--handshake-timeout`.
    pub handshake_timeout: Duration,
}

/// Options that contradict each other. Each pair would leave a listener less protected than it
/// looks.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Fewer keys than certificates.
    #[error("--tls-certificate {path}: its --tls-key is missing; give one for each certificate, in the same order", path = Shown::path(.0))]
    NoKey(PathBuf),
    /// Fewer certificates than keys.
    #[error("--tls-key {path}: its --tls-certificate is missing; give one for each key, in the same order", path = Shown::path(.0))]
    NoCertificate(PathBuf),
    /// An option of TLS without TLS.
    #[error(
        "{0} is given without --tls-certificate, and nothing would be encrypted; give a certificate, or leave it out"
    )]
    WithoutCertificate(&'static str),
    /// Verification without an authority.
    #[error("--verify-client-certificate true: needs an authority to trust; name its certificate with --client-ca")]
    NoAuthority,
    /// An authority without verification.
    #[error("--verify-client-certificate false: --client-ca {path} asks for verification; leave out one of the two", path = Shown::path(.0))]
    Contradiction(PathBuf),
    /// The same protocol twice.
    #[error("--tls-alpn {0:?}: is given twice; give each protocol once")]
    Twice(String),
}

impl Options {
    /// The settings that the options mean together; `None` without TLS.
    ///
    /// # Errors
    ///
    /// If they contradict each other.
    pub fn settings(self) -> Result<Option<Settings>, Unusable> {
        if self.certificates.is_empty() {
            return match self.first_tls_option() {
                Some(unusable) => Err(unusable),
                None => Ok(None),
            };
        }
        match (self.verify_client, &self.client_ca) {
            (Some(true), None) => return Err(Unusable::NoAuthority),
            (Some(false), Some(authority)) => return Err(Unusable::Contradiction(authority.clone())),
            _ => {}
        }
        for (index, protocol) in self.alpn.iter().enumerate() {
            if self.alpn.iter().skip(index + 1).any(|other| other == protocol) {
                return Err(Unusable::Twice(protocol.0.clone()));
            }
        }
        if let Some(key) = self.keys.get(self.certificates.len()) {
            return Err(Unusable::NoCertificate(key.clone()));
        }
        let mut keys = self.keys.into_iter();
        let pairs = self.certificates.into_iter().map(|certificate| match keys.next() {
            Some(key) => Ok(CertificateFiles { certificate, key }),
            None => Err(Unusable::NoKey(certificate)),
        });
        Ok(Some(Settings {
            certificates: pairs.collect::<Result<_, _>>()?,
            min_version: self.min_version.unwrap_or(Version::Tls12),
            alpn: self.alpn,
            client_ca: self.client_ca,
            handshake_timeout: self.handshake_timeout,
        }))
    }

    /// The first option that needs TLS, if TLS is off.
    fn first_tls_option(&self) -> Option<Unusable> {
        if let Some(key) = self.keys.first() {
            return Some(Unusable::NoCertificate(key.clone()));
        }
        let asked = [
            ("--client-ca", self.client_ca.is_some()),
            ("--verify-client-certificate", self.verify_client == Some(true)),
            ("--tls-alpn", !self.alpn.is_empty()),
            ("--tls-min-version", self.min_version.is_some()),
        ];
        asked.into_iter().find_map(|(option, asked)| asked.then_some(Unusable::WithoutCertificate(option)))
    }
}

impl FromStr for Version {
    type Err = &'static str;

    /// Accepts the usual spellings, and those of the gem `uninterruptible`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1.2" | "TLSv1.2" | "TLSv1_2" => Ok(Self::Tls12),
            "1.3" | "TLSv1.3" | "TLSv1_3" => Ok(Self::Tls13),
            "1.0" | "1.1" | "TLSv1" | "TLSv1.0" | "TLSv1_0" | "TLSv1.1" | "TLSv1_1" | "SSLv2" | "SSLv3" | "SSLv23" => {
                Err("can be broken, and is obsolete (RFC 8996, RFC 7568); give 1.2 or 1.3")
            }
            _ => Err("is not one of 1.2, 1.3"),
        }
    }
}

impl FromStr for Protocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.len() {
            // One byte holds its length.
            1..=255 => Ok(Self(text.to_owned())),
            0 => Err("does not name a protocol; give a registered name, as in h2 or http/1.1"),
            _ => Err("is longer than the 255 bytes that a protocol's name may have"),
        }
    }
}

impl AsRef<[u8]> for Protocol {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A server name, or all names one label below another, as in `*.example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName {
    /// In lower case, without a final dot.
    name: String,
    below: bool,
}

impl ServerName {
    /// Whether it matches the name `asked`.
    pub fn covers(&self, asked: &str) -> bool {
        let asked = asked.strip_suffix('.').unwrap_or(asked);
        let asked = if self.below { asked.split_once('.').map(|(_label, rest)| rest) } else { Some(asked) };
        asked.is_some_and(|asked| asked.eq_ignore_ascii_case(&self.name))
    }

    /// Whether it covers every name that `other` covers.
    pub fn includes(&self, other: &Self) -> bool {
        if other.below { self == other } else { self.covers(&other.name) }
    }
}

impl FromStr for ServerName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match DnsName::try_from(name.as_str()) {
            Ok(_) => Ok(Self { name, below }),
            Err(_) => Err(
                "is not a server name, as in www.example.org or *.example.org; clients do not send addresses as server names",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            certificates: vec!["a.pem".into(), "b.pem".into()],
            keys: vec!["a.key".into(), "b.key".into()],
            min_version: None,
            alpn: vec![],
            client_ca: None,
            verify_client: None,
            handshake_timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn certificates_and_keys_are_pairs_in_their_order() {
        let settings = options().settings().unwrap().unwrap();
        let pairs: Vec<_> = settings.certificates.iter().map(|pair| (&pair.certificate, &pair.key)).collect();
        assert_eq!(format!("{pairs:?}"), r#"[("a.pem", "a.key"), ("b.pem", "b.key")]"#);
        assert_eq!(settings.min_version, Version::Tls12);
    }

    #[test]
    fn an_error_names_the_file_without_a_partner() {
        let told = |options: Options| options.settings().unwrap_err().to_string();
        assert!(
            told(Options { keys: vec!["a.key".into()], ..options() })
                .contains(r#"--tls-certificate "b.pem": its --tls-key"#)
        );
        let certificates = vec!["a.pem".into()];
        assert!(told(Options { certificates, ..options() }).contains(r#"--tls-key "b.key": its --tls-certificate"#));
        assert!(told(Options { certificates: vec![], ..options() }).contains(r#"--tls-key "a.key""#));
    }

    #[test]
    fn versions_are_read_in_all_their_spellings() {
        for (text, version) in [("1.2", Version::Tls12), ("TLSv1_2", Version::Tls12), ("TLSv1.3", Version::Tls13)] {
            assert_eq!(text.parse(), Ok(version));
        }
        assert!("TLSv1_1".parse::<Version>().unwrap_err().contains("RFC 8996"));
        assert!("tls".parse::<Version>().unwrap_err().contains("not one of 1.2, 1.3"));
    }

    #[test]
    fn a_server_name_covers_itself_or_one_label_below_it() {
        let covers = |name: &str, asked| name.parse::<ServerName>().unwrap().covers(asked);
        assert!(covers("a.example", "a.example") && covers("A.example.", "a.EXAMPLE."));
        assert!(!covers("a.example", "b.a.example") && !covers("a.example", "example"));
        assert!(
            covers("*.example", "a.example") && !covers("*.example", "example") && !covers("*.example", "b.a.example")
        );
        for text in ["", "*", "*.", "a..b", "*.*.a", "192.0.2.1", "[::1]", "a b"] {
            assert!(text.parse::<ServerName>().is_err(), "{text}");
        }
    }
}
