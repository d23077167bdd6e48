//! The files of TLS: read and checked. An error has the option that names the file, the fault in
//! words of this module, and the remedy. It never contains a part of the file.

use super::{
    keys,
    pem::{self, Block, Fault, Kind},
    settings::CertificateFiles,
    x509::X509,
};
use crate::record::secret::Shown;
use rustls::{pki_types::CertificateDer, sign::SigningKey};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// Far more than a chain needs, and ten times the size of a system's list of authorities.
const LARGEST: u64 = 4 << 20;

/// A file that cannot be used, as one line that names option, file and remedy.
#[derive(Debug, thiserror::Error)]
#[error("{option} {file}: {problem}", file = Shown::path(file))]
pub struct LoadError {
    option: &'static str,
    file: PathBuf,
    problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The system refuses to open or read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// A directory, a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// Longer than any file of this kind.
    #[error("is larger than {LARGEST} bytes, the most that the host reads of such a file")]
    TooLarge,
    /// It has at most white space.
    #[error("is empty; give a file in PEM")]
    Empty,
    /// Text as some editors and shells of Windows write it.
    #[error("is UTF-16 text, and PEM is ASCII; save it as UTF-8, or write it with Out-File -Encoding ascii")]
    Utf16,
    /// The binary form.
    #[error("is DER, and PEM is needed; convert it: {0}")]
    Der(&'static str),
    /// It is not valid PEM.
    #[error("is damaged: {0}")]
    Damaged(Fault),
    /// It does not contain the block that was looked for.
    #[error("does not contain a {wanted}{}", instead(*.wanted, *.found))]
    Lacks {
        /// The block that was looked for.
        wanted: Wanted,
        /// The other content, and the line where it begins.
        found: Option<Found>,
    },
    /// A block with the label of a certificate.
    #[error("certificate {place}, from line {line} on, cannot be used: {cause}")]
    Certificate {
        /// Counted from 1.
        place: usize,
        /// The line where it begins.
        line: usize,
        /// The fault.
        cause: &'static str,
    },
    /// More than one key.
    #[error("contains {0} private keys, and one is needed; remove the others")]
    Keys(usize),
    /// A key with a passphrase.
    #[error(
        "is encrypted, and the host cannot ask for the passphrase; decrypt it: openssl pkey -in FILE -out NEW-FILE"
    )]
    Encrypted,
    /// A key of an unsafe or unknown kind.
    #[error(transparent)]
    Key(#[from] keys::Unusable),
    /// A key of another certificate.
    #[error(
        "is not the key of the first certificate in {certificate:?}; give the two that belong together, the server's own certificate first"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The certificate's key is of a kind that the library does not support.
    #[error("the key of its first certificate cannot be compared with --tls-key; is the certificate damaged?")]
    Incomparable,
    /// The library rejects the combination of options.
    #[error("cannot be served: the TLS options do not fit together")]
    Refused,
}

/// The content that a file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Certificates.
    Certificate,
    /// A private key.
    Key,
}

/// Other content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    kind: Kind,
    line: usize,
}

/// A certificate, and where it begins.
pub(super) struct Placed {
    /// Among the certificates of its file, from 1.
    pub(super) place: usize,
    pub(super) line: usize,
    pub(super) der: CertificateDer<'static>,
}

impl LoadError {
    pub(super) fn new(option: &'static str, file: &Path, problem: Problem) -> Self {
        Self { option, file: file.to_owned(), problem }
    }

    /// An error that concerns the whole listener names its first certificate.
    pub(super) fn of_certificate(files: &[CertificateFiles], problem: Problem) -> Self {
        let file = files.first().map(|pair| pair.certificate.clone()).unwrap_or_default();
        Self { option: "--tls-certificate", file, problem }
    }
}

/// All certificates of a file, in their order; at least one. Blocks of other kinds may stand beside
/// them.
pub(super) fn certificates(file: &Path) -> Result<Vec<Placed>, Problem> {
    let blocks = blocks(file, Wanted::Certificate)?;
    let lacks = |block: &Block| lacks(Wanted::Certificate, Some(block));
    // These contain certificates too, which must not be left out silently.
    if let Some(block) = blocks.iter().find(|block| matches!(block.kind, Kind::TrustedCertificate | Kind::Bundle)) {
        return Err(lacks(block));
    }
    let found = blocks.iter().filter(|block| block.kind == Kind::Certificate);
    let found: Vec<_> = found
        .enumerate()
        .map(|(index, block)| Placed { place: index + 1, line: block.line, der: block.der.to_vec().into() })
        .collect();
    match found.is_empty() {
        true => Err(blocks.first().map_or_else(|| self::lacks(Wanted::Certificate, None), lacks)),
        false => Ok(found),
    }
}

/// The single private key of a file. Blocks of other kinds may stand beside it.
pub(super) fn key(file: &Path) -> Result<Arc<dyn SigningKey>, Problem> {
    let blocks = blocks(file, Wanted::Key)?;
    let keys: Vec<_> = blocks.iter().filter(|block| block.kind.is_key()).collect();
    match *keys {
        [] => Err(lacks(Wanted::Key, blocks.first())),
        [key] if key.kind == Kind::EncryptedKey || key.encrypted => Err(Problem::Encrypted),
        [key] if key.kind == Kind::OpenSshKey => Err(lacks(Wanted::Key, Some(key))),
        [key] => Ok(keys::load(key.kind, &key.der)?),
        ref keys => Err(Problem::Keys(keys.len())),
    }
}

fn blocks(file: &Path, wanted: Wanted) -> Result<Vec<Block>, Problem> {
    let text = read(file)?;
    if text.trim_ascii().is_empty() {
        return Err(Problem::Empty);
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = text.as_slice() {
        return Err(Problem::Utf16);
    }
    // A DER sequence in the long form of its length. Text does not begin like this.
    if let [0x30, 0x80..=0x84, ..] = text.as_slice() {
        return Err(Problem::Der(conversion(&text, wanted)));
    }
    pem::blocks(&text).map_err(Problem::Damaged)
}

/// The command that converts a DER file to PEM.
fn conversion(der: &[u8], wanted: Wanted) -> &'static str {
    // A container of PKCS #12 begins with its version, 3.
    let is_container =
        super::der::element(der).is_some_and(|(_, content, _)| content.starts_with(&[super::der::INTEGER, 1, 3]));
    match wanted {
        _ if is_container => "openssl pkcs12 -in FILE -out NEW-FILE -nodes",
        Wanted::Certificate => "openssl x509 -inform DER -in FILE -out NEW-FILE",
        Wanted::Key => "openssl pkey -inform DER -in FILE -out NEW-FILE",
    }
}

fn lacks(wanted: Wanted, found: Option<&Block>) -> Problem {
    Problem::Lacks { wanted, found: found.map(|block| Found { kind: block.kind, line: block.line }) }
}

/// The second half of a message: the other content of the file, and the remedy.
fn instead(wanted: Wanted, found: Option<Found>) -> String {
    let Some(Found { kind, line }) = found else {
        let label = if wanted == Wanted::Key { "PRIVATE KEY" } else { "CERTIFICATE" };
        return format!("; give a file in PEM, with a line that says -----BEGIN {label}-----");
    };
    let remedy = match (wanted, kind) {
        (Wanted::Certificate, kind) if kind.is_key() => "give the certificate's file; are two files swapped?",
        (Wanted::Certificate, Kind::Request) => "a request becomes a certificate when an authority signs it",
        (Wanted::Certificate, Kind::TrustedCertificate) => "convert it: openssl x509 -in FILE -out NEW-FILE",
        (Wanted::Certificate, Kind::Bundle) => "convert it: openssl pkcs7 -print_certs -in FILE -out NEW-FILE",
        (Wanted::Key, Kind::Certificate) => "are the files of --tls-certificate and --tls-key swapped?",
        (Wanted::Key, Kind::OpenSshKey) => "convert a copy of it: ssh-keygen -p -m PEM -f COPY",
        (Wanted::Key, Kind::PublicKey) => "the private key is in another file",
        (Wanted::Key, _) => "give the file with the BEGIN PRIVATE KEY line",
        (Wanted::Certificate, _) => "give the file with the BEGIN CERTIFICATE line",
    };
    format!(" that can be used, but {kind} in line {line}; {remedy}")
}

/// The error for a certificate that is not accepted, with the reason.
pub(super) fn unusable(Placed { place, line, der }: &Placed) -> Problem {
    let cause = match X509::of(der) {
        Some(X509 { version: 3, .. }) => "the library does not know one of its extensions, or it is damaged",
        Some(_) => {
            "it is of version 1, as \"openssl x509 -req\" makes it without extensions; sign it again with -extfile, and in that file at \
             least: basicConstraints=CA:FALSE"
        }
        None => "its content is not that of a certificate; copy it again",
    };
    Problem::Certificate { place: *place, line: *line, cause }
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

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
        })
    }
}
