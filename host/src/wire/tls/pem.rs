//! PEM, the format of certificate and key files. All parsing of it is here.
//!
//! The parser is as strict as OpenSSL, and stricter where OpenSSL skips a line that was meant as a
//! boundary: a certificate that is left out silently fails at clients, long after the operator has
//! gone. A fault is a line number and a sentence of this file. It never contains a part of the
//! file, because the file may be a private key.

use std::fmt;
use zeroize::Zeroizing;

/// The data between a BEGIN and an END line.
pub(crate) struct Block {
    pub(crate) kind: Kind,
    /// The line of its BEGIN, from 1.
    pub(crate) line: usize,
    /// Whether a passphrase protects it, according to a header.
    pub(crate) encrypted: bool,
    /// The decoded base64; empty for kinds that the host does not read.
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// The kind of a block, by its BEGIN line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Certificate,
    /// OpenSSL's own format, with trust settings after the certificate.
    TrustedCertificate,
    Request,
    RevocationList,
    Bundle,
    Pkcs8Key,
    Pkcs1Key,
    Sec1Key,
    EncryptedKey,
    OpenSshKey,
    DsaKey,
    PublicKey,
    Parameters,
    /// A kind without an entry in `LABELS`. Its label is not kept, because it is content.
    Other,
}

/// Kinds by label. The first label of each kind is the usual one.
const LABELS: [(&str, Kind); 20] = [
    ("CERTIFICATE", Kind::Certificate),
    ("X509 CERTIFICATE", Kind::Certificate),
    ("TRUSTED CERTIFICATE", Kind::TrustedCertificate),
    ("CERTIFICATE REQUEST", Kind::Request),
    ("NEW CERTIFICATE REQUEST", Kind::Request),
    ("X509 CRL", Kind::RevocationList),
    ("PKCS7", Kind::Bundle),
    ("PKCS #7 SIGNED DATA", Kind::Bundle),
    ("CMS", Kind::Bundle),
    ("PRIVATE KEY", Kind::Pkcs8Key),
    ("RSA PRIVATE KEY", Kind::Pkcs1Key),
    ("EC PRIVATE KEY", Kind::Sec1Key),
    ("ENCRYPTED PRIVATE KEY", Kind::EncryptedKey),
    ("OPENSSH PRIVATE KEY", Kind::OpenSshKey),
    ("DSA PRIVATE KEY", Kind::DsaKey),
    ("PUBLIC KEY", Kind::PublicKey),
    ("RSA PUBLIC KEY", Kind::PublicKey),
    ("EC PARAMETERS", Kind::Parameters),
    ("DH PARAMETERS", Kind::Parameters),
    ("DSA PARAMETERS", Kind::Parameters),
];

/// The line where a file is not valid PEM, and the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    line: usize,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Glued,
    Joined,
    Escaped,
    Indented,
    Dashes,
    Capitals,
    NoEnd { begin: usize },
    OtherEnd { begin: usize },
    NoBegin,
    Bare,
    Misspelt,
    NotBase64,
    Spaces,
    Cut { begin: usize },
    Empty { begin: usize },
}

/// The kind of a line.
enum Line<'f> {
    Begin(&'f [u8]),
    End(&'f [u8]),
    /// Meant as a boundary, but malformed.
    Broken(Form),
    Other,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const DASHES: &[u8] = b"-----";

/// All blocks of a file, in their order. Other text may stand before, between and after them.
pub(crate) fn blocks(file: &[u8]) -> Result<Vec<Block>, Fault> {
    let mut blocks = Vec::new();
    let mut open: Option<Open<'_>> = None;
    let mut lines = 0;
    let mut rest = file;
    for (index, line) in file.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        rest = rest.get(line.len() + 1..).unwrap_or_default();
        let line = without_marks(line).trim_ascii_end();
        let fault = |form| Fault { line: number, form };
        if !line.is_empty() {
            lines = number;
        }
        match (&mut open, parse(line)) {
            (None, Line::Other) if is_bare(line) => return Err(fault(Form::Bare)),
            (None, Line::Other) => {}
            (None, Line::Begin(label)) if is_misspelt(label) => return Err(fault(Form::Misspelt)),
            (None, Line::Begin(label)) => open = Some(Open::new(number, label, until_end(rest))),
            (None, Line::End(_)) => return Err(fault(Form::NoBegin)),
            (Some(block), Line::Begin(_)) => return Err(fault(Form::NoEnd { begin: block.line })),
            (Some(block), Line::End(label)) if label != block.label => {
                return Err(fault(Form::OtherEnd { begin: block.line }));
            }
            (Some(_), Line::End(_)) => blocks.extend(open.take().map(|block| block.close(number)).transpose()?),
            (Some(block), Line::Other) => block.push(line).map_err(fault)?,
            (_, Line::Broken(form)) => return Err(fault(form)),
        }
    }
    match open {
        Some(block) => Err(Fault { line: lines, form: Form::NoEnd { begin: block.line } }),
        None => Ok(blocks),
    }
}

/// A line without leading byte order marks. Joined files may have them in the middle.
fn without_marks(mut line: &[u8]) -> &[u8] {
    while let Some(rest) = line.strip_prefix(BYTE_ORDER_MARK) {
        line = rest;
    }
    line
}

/// Whether a line outside of all blocks looks like the first line of a certificate or key in
/// base64: its BEGIN line is lost.
fn is_bare(line: &[u8]) -> bool {
    const FULL: usize = 64;
    line.len() >= FULL && line.starts_with(b"MI") && line.iter().all(|&byte| sextet(byte).is_some())
}

/// Whether a label differs from a known one by a letter or by capitals: the block would be left out
/// silently.
fn is_misspelt(label: &[u8]) -> bool {
    const LONGEST: usize = 40;
    let Ok(label) = str::from_utf8(label) else { return false };
    let capitals = label.trim().to_ascii_uppercase();
    label.len() <= LONGEST
        && LABELS.iter().all(|(known, _)| *known != label)
        && LABELS.iter().any(|(known, _)| strsim::osa_distance(known, &capitals) <= 1)
}

/// The most bytes that the data of a block from here on can take. Not the whole rest: a file may
/// have thousands of blocks, and the buffer of each is wiped.
fn until_end(rest: &[u8]) -> usize {
    const END: &[u8] = b"-----END";
    rest.windows(END.len()).position(|window| window == END).unwrap_or(rest.len())
}

fn parse(line: &[u8]) -> Line<'_> {
    for (word, boundary) in [(b"BEGIN ".as_slice(), Line::Begin as fn(_) -> _), (b"END ", Line::End)] {
        let label = line.strip_prefix(DASHES).and_then(|line| line.strip_prefix(word)?.strip_suffix(DASHES));
        if let Some(label) = label.filter(|label| !label.is_empty() && !label.contains(&b'-')) {
            return boundary(label);
        }
    }
    broken(line).map_or(Line::Other, Line::Broken)
}

/// The way in which a line that was meant as a boundary is malformed.
fn broken(line: &[u8]) -> Option<Form> {
    let capitals = line.to_ascii_uppercase();
    let marks = [b"-----BEGIN".as_slice(), b"-----END"];
    let found = marks.iter().filter_map(|mark| capitals.windows(mark.len()).position(|window| window == *mark)).min();
    let Some(start) = found else {
        // Wrong dashes, or too few of them.
        let start = capitals.iter().position(u8::is_ascii_uppercase)?;
        let word = &capitals[start..];
        let label = word.strip_prefix(b"BEGIN ").or_else(|| word.strip_prefix(b"END "))?;
        let known = LABELS.iter().any(|(known, _)| label.starts_with(known.as_bytes()));
        let begins = line.first().is_some_and(|&byte| byte == b'-' || byte >= 0x80);
        return (known && begins).then_some(Form::Dashes);
    };
    if count(line, b"\\n") > 0 {
        return Some(Form::Escaped);
    }
    if count(&capitals, b"----------BEGIN") > 0 && count(&capitals, b"-----END") > 0 {
        return Some(Form::Glued);
    }
    let (before, boundary) = capitals.split_at(start);
    let dashes_at_end = boundary.iter().rev().take_while(|&&byte| byte == b'-').count();
    let words = &boundary[DASHES.len()..boundary.len() - dashes_at_end.min(boundary.len() - DASHES.len())];
    Some(if !words.iter().all(|byte| byte.is_ascii_alphanumeric() || b" #.".contains(byte)) {
        Form::Joined
    } else if before.iter().any(|&byte| byte != b'-') {
        Form::Indented
    } else if !before.is_empty() || dashes_at_end != DASHES.len() || words.ends_with(b"BEGIN") {
        Form::Dashes
    } else {
        Form::Capitals
    })
}

fn count(text: &[u8], what: &[u8]) -> usize {
    text.windows(what.len()).filter(|window| *window == what).count()
}

/// A block whose END line has not come yet.
struct Open<'f> {
    line: usize,
    label: &'f [u8],
    kind: Kind,
    encrypted: bool,
    in_headers: bool,
    padding: usize,
    base64: Zeroizing<Vec<u8>>,
}

impl<'f> Open<'f> {
    /// `room` is enough for all data, so that no reallocation leaves a copy behind.
    fn new(line: usize, label: &'f [u8], room: usize) -> Self {
        let kind = LABELS.iter().find(|(known, _)| known.as_bytes() == label).map_or(Kind::Other, |(_, kind)| *kind);
        let base64 = Zeroizing::new(Vec::with_capacity(room));
        Self { line, label, kind, encrypted: false, in_headers: true, padding: 0, base64 }
    }

    fn push(&mut self, line: &[u8]) -> Result<(), Form> {
        if self.in_headers {
            if line.contains(&b':') {
                self.encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
                return Ok(());
            }
            // A header may continue on an indented line.
            self.in_headers = self.encrypted && line.starts_with(b" ");
        }
        if self.kind == Kind::Other || self.in_headers {
            return Ok(());
        }
        let line = line.trim_ascii_start();
        let data = line.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
        let (data, padding) = line.split_at(data);
        match data.iter().find(|&&byte| sextet(byte).is_none()) {
            Some(byte) if byte.is_ascii_whitespace() => return Err(Form::Spaces),
            Some(b'\\') => return Err(Form::Escaped),
            Some(_) => return Err(Form::NotBase64),
            // Data after the padding is not valid.
            None if self.padding > 0 && !data.is_empty() => return Err(Form::NotBase64),
            None => {}
        }
        self.padding += padding.len();
        self.base64.extend_from_slice(data);
        Ok(())
    }

    fn close(self, line: usize) -> Result<Block, Fault> {
        let Self { line: begin, kind, encrypted, padding, base64, .. } = self;
        if kind != Kind::Other && base64.is_empty() {
            return Err(Fault { line, form: Form::Empty { begin } });
        }
        let lacking = (4 - base64.len() % 4) % 4;
        if lacking == 3 || padding != lacking {
            return Err(Fault { line, form: Form::Cut { begin } });
        }
        Ok(Block { kind, line: begin, encrypted, der: decode(&base64) })
    }
}

fn decode(base64: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut der = Zeroizing::new(Vec::with_capacity(base64.len()));
    for group in base64.chunks(4) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 6 | u32::from(sextet(byte).unwrap_or_default()));
        let [_, bytes @ ..] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        der.extend_from_slice(&bytes[..group.len() - 1]);
    }
    der
}

/// The six bits of a character, in constant time.
fn sextet(byte: u8) -> Option<u8> {
    let byte = i32::from(byte);
    // The value plus one within the range, else 0.
    let of = |low: u8, high: u8, value: i32| {
        let (low, high) = (i32::from(low), i32::from(high));
        !((byte - low) >> 8 | (high - byte) >> 8) & (byte - low + value + 1)
    };
    let value = of(b'A', b'Z', 0) | of(b'a', b'z', 26) | of(b'0', b'9', 52) | of(b'+', b'+', 62) | of(b'/', b'/', 63);
    u8::try_from(value - 1).ok()
}

impl Kind {
    /// Whether it is a private key, usable or not.
    pub(crate) fn is_key(self) -> bool {
        matches!(
            self,
            Self::Pkcs8Key | Self::Pkcs1Key | Self::Sec1Key | Self::EncryptedKey | Self::OpenSshKey | Self::DsaKey
        )
    }
}

#[cfg(any(test, fuzzing))]
impl Kind {
    /// The usual label of this kind.
    pub(crate) fn label(self) -> Option<&'static str> {
        LABELS.iter().find(|(_, kind)| *kind == self).map(|(label, _)| *label)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "a certificate",
            Self::TrustedCertificate => "a TRUSTED CERTIFICATE",
            Self::Request => "a certificate request",
            Self::RevocationList => "a revocation list",
            Self::Bundle => "a PKCS #7 bundle",
            Self::Pkcs8Key | Self::Pkcs1Key | Self::Sec1Key => "a private key",
            Self::EncryptedKey => "an encrypted private key",
            Self::OpenSshKey => "an OpenSSH private key",
            Self::DsaKey => "a DSA private key",
            Self::PublicKey => "a public key",
            Self::Parameters => "parameters of keys",
            Self::Other => "a block of an unknown kind",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.form)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glued => f.write_str(
                "an END line and a BEGIN line are on one line, as when files are joined and the first does not end with a \
                 line break; put one between them",
            ),
            Self::Joined => f.write_str(
                "a BEGIN or END line has other text on the same line, as when a shell joins all lines with spaces; \
                 put the shell's variable in quotes, as in \"$KEY\", and write the file again",
            ),
            Self::Escaped => f.write_str(
                "has \\n as two characters where a line break belongs, as in JSON; write line breaks, as printf %b does",
            ),
            Self::Indented => f.write_str("a BEGIN or END line has something before it; it must begin the line"),
            Self::Dashes => f.write_str("a BEGIN or END line does not have exactly five dashes on each side"),
            Self::Capitals => f.write_str("a BEGIN or END line must be in capital letters"),
            Self::NoEnd { begin } => {
                write!(f, "the END line is missing for the BEGIN in line {begin}; was the file cut short?")
            }
            Self::OtherEnd { begin } => {
                write!(f, "the END line names another kind than the BEGIN in line {begin}")
            }
            Self::NoBegin => f.write_str("an END line has no BEGIN line before it"),
            Self::Bare => f.write_str("is base64 without a BEGIN line before it; was that line lost? Copy the file again"),
            Self::Misspelt => f.write_str(
                "the BEGIN line is malformed; write it as in -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----, and \
                 the END line accordingly",
            ),
            Self::NotBase64 => f.write_str("is not base64, between a BEGIN and an END line"),
            Self::Spaces => f.write_str("has spaces within base64, as when a shell joins lines with spaces; write the file \
                                         again"),
            Self::Cut { begin } => {
                write!(f, "the base64 since the BEGIN in line {begin} is incomplete; copy the file again")
            }
            Self::Empty { begin } => write!(f, "the block since the BEGIN in line {begin} is empty"),
        }
    }
}

#[cfg(test)]
mod tests;
