//! The files that TLS needs, read and judged: what is wrong with one is told with the option that names it, and how to mend it.

use super::CertificateFiles;
use crate::log;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{PemObject, SectionKind},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Far more than any chain has, and ten times what a system's own list of authorities takes.
const LARGEST: u64 = 4 << 20;

/// A file that cannot be used, as one line that names option, file and remedy.
#[derive(Debug, thiserror::Error)]
#[error("{option} {file:?}: {problem}")]
pub struct LoadError {
    option: &'static str,
    file: PathBuf,
    problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system does not give it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// A directory, a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// No such file is that long.
    #[error("is larger than the {LARGEST} bytes that are read of such a file")]
    TooLarge,
    /// It begins like PEM and does not go on so.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// No certificate.
    #[error("has no certificate in it; give a file in PEM, with lines that say BEGIN CERTIFICATE")]
    NoCertificate,
    /// One that is none.
    #[error("has something else than a certificate in place {place}: {cause}")]
    Certificate {
        /// Counted from 1.
        place: usize,
        /// What the parser says.
        cause: String,
    },
    /// No key.
    #[error("has no private key in it; give a file in PEM, with a line that says BEGIN PRIVATE KEY")]
    NoKey,
    /// More than one key.
    #[error("has {0} private keys in it, and one is needed; remove the others")]
    Keys(usize),
    /// A key with a passphrase.
    #[error(
        "is encrypted, and a host that starts by itself can ask nobody; decrypt it: openssl pkey -in FILE -out NEW-FILE"
    )]
    Encrypted,
    /// A key of a kind that nobody should use, or none.
    #[error(
        "has a key that cannot be used ({0}); RSA from 2048 bits on, ECDSA on P-256, P-384 or P-521, and Ed25519 can"
    )]
    Key(String),
    /// A key of another certificate.
    #[error(
        "is not the key of the first certificate in {certificate:?}; give the two that belong together, the server's own certificate first"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The library does not want it.
    #[error("cannot be served: {0}")]
    Refused(rustls::Error),
}

impl LoadError {
    pub(super) fn new(option: &'static str, file: &Path, problem: Problem) -> Self {
        Self { option, file: file.to_owned(), problem }
    }

    /// What concerns all of a listener is told of its first certificate.
    pub(super) fn of_certificate(files: &[CertificateFiles], problem: Problem) -> Self {
        let file = files.first().map(|pair| pair.certificate.clone()).unwrap_or_default();
        Self { option: "--tls-certificate", file, problem }
    }
}

/// All certificates in a file, in their order; never none.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let text = read(file)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = found.map_err(|error| Problem::Damaged(log::escaped(&error.to_string())))?;
    if certificates.is_empty() { Err(Problem::NoCertificate) } else { Ok(certificates) }
}

/// The one private key in a file.
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let text = read(file)?;
    // PKCS #8 has a label of its own for what is encrypted, the older formats a header.
    if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Problem::Encrypted);
    }
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        let (kind, der) = section.map_err(|error| Problem::Damaged(log::escaped(&error.to_string())))?;
        keys.extend(PrivateKeyDer::from_pem(kind, der));
    }
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), others) => Err(Problem::Keys(others + 1)),
        (None, _) => Err(Problem::NoKey),
    }
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // Opening a pipe would wait for its writer.
    let found = fs::metadata(file).map_err(Problem::Unreadable)?;
    if !found.is_file() {
        return Err(Problem::NotAFile);
    }
    if found.len() > LARGEST {
        return Err(Problem::TooLarge);
    }
    fs::read(file).map(Zeroizing::new).map_err(Problem::Unreadable)
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}
