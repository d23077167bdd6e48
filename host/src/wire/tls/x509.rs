//! The fields of a certificate that the host reads itself, to tell an operator in openssl's words
//! what is wrong. The library alone decides which certificates are accepted. A field that cannot be
//! read is left out of messages.

use super::{
    der::{self, BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET},
    validity::Validity,
};
use std::fmt::Write;

const BOOLEAN: u8 = 0x01;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
/// The extensions that may be critical.
const USUAL: [&[u8]; 5] =
    [KEY_USAGE, SUBJECT_ALTERNATIVE_NAME, BASIC_CONSTRAINTS, NAME_CONSTRAINTS, EXTENDED_KEY_USAGE];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// `keyCertSign` in the first byte of a key usage.
const SIGNS_CERTIFICATES: u8 = 0x04;

/// The longest name in a message, in characters: clients choose theirs.
const LONGEST_NAME: usize = 100;

/// A certificate in DER, as far as it is read.
pub(super) struct X509<'c> {
    /// 1 to 3.
    pub(super) version: u8,
    pub(super) validity: Option<Validity>,
    algorithm: &'c [u8],
    issuer: &'c [u8],
    subject: &'c [u8],
    key: &'c [u8],
    extensions: &'c [u8],
}

/// Whether a certificate's key may sign certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MaySign {
    Yes,
    No,
    /// It does not have a key usage.
    Unsaid,
}

impl<'c> X509<'c> {
    pub(super) fn of(certificate: &'c [u8]) -> Option<Self> {
        let (certificate, _) = der::expect(SEQUENCE, certificate)?;
        let (mut fields, _) = der::expect(SEQUENCE, certificate)?;
        let mut version = 1;
        if let Some((number, rest)) = der::expect(VERSION, fields) {
            version = der::expect(INTEGER, number)?.0.last()?.saturating_add(1);
            fields = rest;
        }
        let mut elements = der::elements(fields).skip_while(|(tag, _)| *tag == INTEGER);
        let mut sequence = || elements.next().filter(|(tag, _)| *tag == SEQUENCE).map(|(_, content)| content);
        let (algorithm, issuer, validity, subject, key) =
            (sequence()?, sequence()?, sequence()?, sequence()?, sequence()?);
        let extensions = elements.find(|(tag, _)| *tag == EXTENSIONS);
        let extensions = extensions.and_then(|(_, content)| der::expect(SEQUENCE, content));
        let extensions = extensions.map(|(content, _)| content).unwrap_or_default();
        Some(Self { version, validity: Validity::of(validity), algorithm, issuer, subject, key, extensions })
    }

    /// Its subject, as openssl writes it.
    pub(super) fn subject(&self) -> String {
        name(self.subject)
    }

    /// Its issuer, as openssl writes it.
    pub(super) fn issuer(&self) -> String {
        name(self.issuer)
    }

    /// Whether it names itself as its issuer.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether it says that it is an authority.
    pub(super) fn is_authority(&self) -> bool {
        let constraints = self.extension(BASIC_CONSTRAINTS).and_then(|value| der::expect(SEQUENCE, value));
        constraints.and_then(|(content, _)| der::expect(BOOLEAN, content)).is_some_and(|(value, _)| value != [0])
    }

    pub(super) fn may_sign(&self) -> MaySign {
        let Some(usage) = self.extension(KEY_USAGE) else { return MaySign::Unsaid };
        // The first byte is the number of unused bits at the end.
        let signs = der::expect(BIT_STRING, usage).and_then(|(bits, _)| bits.get(1));
        if signs.is_some_and(|bits| bits & SIGNS_CERTIFICATES != 0) { MaySign::Yes } else { MaySign::No }
    }

    /// Whether its subject is `name`, in DER.
    pub(super) fn subject_is(&self, name: &[u8]) -> bool {
        self.subject == name
    }

    pub(super) fn raw_subject(&self) -> &'c [u8] {
        self.subject
    }

    pub(super) fn raw_issuer(&self) -> &'c [u8] {
        self.issuer
    }

    /// Whether it is signed with this algorithm.
    pub(super) fn is_signed_by(&self, algorithm: &[u8]) -> bool {
        self.algorithm == algorithm
    }

    /// The object identifiers of its extended key usage, if it has one.
    pub(super) fn purposes(&self) -> Option<Vec<&'c [u8]>> {
        let (purposes, _) = der::expect(SEQUENCE, self.extension(EXTENDED_KEY_USAGE)?)?;
        Some(der::elements(purposes).map(|(_, identifier)| identifier).collect())
    }

    /// Whether it has a critical extension other than the usual ones.
    pub(super) fn has_unknown_critical(&self) -> bool {
        der::elements(self.extensions).any(|(_, extension)| {
            let Some((identifier, rest)) = der::expect(OBJECT_IDENTIFIER, extension) else { return false };
            let is_critical = der::expect(BOOLEAN, rest).is_some_and(|(value, _)| value != [0]);
            is_critical && !USUAL.contains(&identifier)
        })
    }

    /// The bits of its RSA key, if it has one.
    pub(super) fn rsa_bits(&self) -> Option<usize> {
        let (algorithm, rest) = der::expect(SEQUENCE, self.key)?;
        der::expect(OBJECT_IDENTIFIER, algorithm).filter(|(identifier, _)| *identifier == RSA)?;
        let (key, _) = der::expect(BIT_STRING, rest)?;
        let (numbers, _) = der::expect(SEQUENCE, key.get(1..)?)?;
        Some(der::bits(der::expect(INTEGER, numbers)?.0))
    }

    fn extension(&self, identifier: &[u8]) -> Option<&'c [u8]> {
        let mut extensions = der::elements(self.extensions).filter(|(tag, _)| *tag == SEQUENCE);
        let value = extensions.find_map(|(_, extension)| {
            let (found, rest) = der::expect(OBJECT_IDENTIFIER, extension)?;
            // The flag for critical may stand between.
            (found == identifier).then(|| der::elements(rest).find(|(tag, _)| *tag == OCTET_STRING)).flatten()
        });
        value.map(|(_, content)| content)
    }
}

/// A distinguished name as one line: `CN = alice, O = Example`.
fn name(name: &[u8]) -> String {
    const ATTRIBUTES: [(u8, &str); 7] =
        [(3, "CN"), (5, "serialNumber"), (6, "C"), (7, "L"), (8, "ST"), (10, "O"), (11, "OU")];
    let mut text = String::new();
    for (_, attributes) in der::elements(name).filter(|(tag, _)| *tag == SET) {
        for (_, attribute) in der::elements(attributes) {
            let Some((&[0x55, 0x04, kind], rest)) = der::expect(OBJECT_IDENTIFIER, attribute) else { continue };
            let known = ATTRIBUTES.iter().find(|(known, _)| *known == kind);
            let (Some((_, kind)), Some((_, value, _))) = (known, der::element(rest)) else { continue };
            let separator = if text.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            write!(text, "{separator}{kind} = {}", String::from_utf8_lossy(value)).ok();
        }
    }
    match text.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => text.replace_range(end.., "…"),
        None if text.is_empty() => text.push_str("without a name"),
        None => {}
    }
    text
}
