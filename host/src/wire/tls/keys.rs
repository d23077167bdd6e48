//! Private keys: loaded by the library; if it rejects one, the kind of key. Messages do not contain
//! any byte of a key.

use super::{
    der::{self, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE},
    pem::Kind,
};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer},
    sign::SigningKey,
};
use std::{fmt, sync::Arc};

/// The library and most clients reject shorter keys.
pub(super) const FEWEST_RSA_BITS: usize = 2048;
const MOST_RSA_BITS: usize = 8192;

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// An RSA key of this many bits.
    Rsa(usize),
    /// A key for this curve, or of this algorithm.
    Named(&'static str),
    /// A key of an algorithm that this module does not know.
    Unknown,
    /// The content is not a key, or not of the kind in the BEGIN line.
    Damaged,
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// P-256, P-384, P-521, Ed25519: if a key of one of these is rejected, it is damaged.
const USABLE: [&[u8]; 4] = [
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    &[0x2b, 0x81, 0x04, 0x00, 0x22],
    &[0x2b, 0x81, 0x04, 0x00, 0x23],
    &[0x2b, 0x65, 0x70],
];
const UNUSABLE: [(&[u8], &str); 12] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01], "an elliptic curve key for prime192v1"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x21], "an elliptic curve key for secp224r1"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x0a], "an elliptic curve key for secp256k1"),
    (&[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07], "an elliptic curve key for brainpoolP256r1"),
    (&[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0b], "an elliptic curve key for brainpoolP384r1"),
    (&[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0d], "an elliptic curve key for brainpoolP512r1"),
    (&[0x2b, 0x65, 0x71], "an Ed448 key"),
    (&[0x2b, 0x65, 0x6e], "an X25519 key, which cannot sign"),
    (&[0x2b, 0x65, 0x6f], "an X448 key, which cannot sign"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01], "a DSA key"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a], "an RSA key that is restricted to RSA-PSS"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x03, 0x01], "a Diffie-Hellman key, which cannot sign"),
];

/// Loads a key, and leaves no copy of it behind.
pub(super) fn load(kind: Kind, key: &[u8]) -> Result<Arc<dyn SigningKey>, Unusable> {
    let borrowed = match kind {
        Kind::Pkcs8Key => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
        Kind::Pkcs1Key => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(key)),
        Kind::Sec1Key => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(key)),
        Kind::DsaKey => return Err(Unusable::Named("a DSA key")),
        _ => return Err(Unusable::Unknown),
    };
    // The library's text is not repeated, because it is about the content.
    any_supported_type(&borrowed).map_err(|_about_content| unusable(kind, key).unwrap_or(Unusable::Damaged))
}

fn unusable(kind: Kind, key: &[u8]) -> Option<Unusable> {
    let (content, _) = der::expect(SEQUENCE, key)?;
    let (_version, rest) = der::expect(INTEGER, content)?;
    match kind {
        Kind::Pkcs1Key => rsa(rest),
        Kind::Sec1Key => {
            let (_key, rest) = der::expect(OCTET_STRING, rest)?;
            let (curve, _) = der::expect(0xa0, rest)?;
            named(der::expect(OBJECT_IDENTIFIER, curve)?.0)
        }
        _ => {
            let (algorithm, rest) = der::expect(SEQUENCE, rest)?;
            let (identifier, parameters) = der::expect(OBJECT_IDENTIFIER, algorithm)?;
            match identifier {
                RSA => {
                    let (key, _) = der::expect(SEQUENCE, der::expect(OCTET_STRING, rest)?.0)?;
                    rsa(der::expect(INTEGER, key)?.1)
                }
                ELLIPTIC => named(der::expect(OBJECT_IDENTIFIER, parameters)?.0),
                other => named(other),
            }
        }
    }
}

fn rsa(numbers: &[u8]) -> Option<Unusable> {
    let bits = der::bits(der::expect(INTEGER, numbers)?.0);
    (!(FEWEST_RSA_BITS..=MOST_RSA_BITS).contains(&bits)).then_some(Unusable::Rsa(bits))
}

fn named(identifier: &[u8]) -> Option<Unusable> {
    let known = UNUSABLE.iter().find(|(known, _)| *known == identifier).map(|(_, name)| Unusable::Named(name));
    known.or_else(|| (!USABLE.contains(&identifier)).then_some(Unusable::Unknown))
}

impl std::error::Error for Unusable {}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const INSTEAD: &str = "make one of RSA with 2048 bits or more, of ECDSA for P-256, P-384 or P-521, or of Ed25519, and a certificate for it";
        match self {
            Self::Rsa(bits) if *bits < FEWEST_RSA_BITS => {
                write!(
                    f,
                    "has a key that cannot be used: an RSA key of {bits} bits, and keys below {FEWEST_RSA_BITS} bits are rejected; {INSTEAD}"
                )
            }
            Self::Rsa(bits) => {
                write!(
                    f,
                    "has a key that cannot be used: an RSA key of {bits} bits, and keys above {MOST_RSA_BITS} bits are rejected; {INSTEAD}"
                )
            }
            Self::Named(what) => write!(f, "has a key that cannot be used: {what}, which is not supported; {INSTEAD}"),
            Self::Unknown => write!(f, "has a key that cannot be used: its kind is not supported; {INSTEAD}"),
            Self::Damaged => f.write_str(
                "has a key that cannot be used: it is damaged, or is not of the kind that its BEGIN line names; \
                 see whether openssl can read it: openssl pkey -noout -in FILE",
            ),
        }
    }
}
