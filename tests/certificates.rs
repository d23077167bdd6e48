//! Certificates for tests, made in the run: an authority, what it issues, and files of both.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SignatureAlgorithm, date_time_ymd,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
    pub der: Vec<u8>,
}

/// A period of validity: its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Now,
    Past,
    /// A period that begins now.
    For(Duration),
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap())
    }

    /// An intermediate authority that this one has issued, and its certificate.
    pub fn intermediate(&self, name: &str) -> (Self, String) {
        let issuer = CertifiedIssuer::signed_by(authority(name), KeyPair::generate().unwrap(), &self.0).unwrap();
        let certificate = issuer.pem();
        (Self(issuer), certificate)
    }

    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// A server's certificate for some names, with a key of the usual kind.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.server_with(names, &rcgen::PKCS_ECDSA_P256_SHA256, Validity::Now)
    }

    pub fn server_with(&self, names: &[&str], kind: &'static SignatureAlgorithm, validity: Validity) -> Identity {
        self.issue(names, kind, validity, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub fn client(&self, name: &str) -> Identity {
        self.client_with(name, Validity::Now)
    }

    pub fn client_with(&self, name: &str, validity: Validity) -> Identity {
        self.issue(&[name], &rcgen::PKCS_ECDSA_P256_SHA256, validity, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        names: &[&str],
        kind: &'static SignatureAlgorithm,
        validity: Validity,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Identity {
        let key = KeyPair::generate_for(kind).unwrap();
        let mut parameters =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, names[0]);
        parameters.extended_key_usages = vec![purpose];
        match validity {
            Validity::Now => {}
            Validity::Past => {
                parameters.not_before = date_time_ymd(2000, 1, 1);
                parameters.not_after = date_time_ymd(2001, 1, 1);
            }
            Validity::For(time) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                parameters.not_after = date_time_ymd(1970, 1, 1) + now + time;
            }
        }
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

impl Identity {
    /// Writes `NAME.pem` and `NAME.key`, and returns their paths.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let place = |extension| directory.join(name).with_extension(extension);
        (write(&place("pem"), &self.certificate), write(&place("key"), &self.key))
    }
}

/// Writes as a deployment does it: the file is complete at any instant.
pub fn write(path: &Path, text: &str) -> PathBuf {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
    path.to_owned()
}

/// The authority that clients of the harness trust.
pub fn trusted() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("tests"))
}

/// The certificate that hosts of the harness present, for `localhost`.
pub fn localhost() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| trusted().server(&["localhost"]))
}
