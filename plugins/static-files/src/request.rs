//! The head of a request: read whole, within limits, and checked as far as it decides where the
//! next request begins.

use std::io::{self, ErrorKind};

use uninterruptible_guest::Connection;

use crate::status::Status;

/// In bytes, with the first line.
pub(crate) const LONGEST_HEAD: usize = 16 * 1024;
/// Lines after the first.
pub(crate) const MOST_HEADERS: usize = 100;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// As sent.
    pub(crate) target: String,
    pub(crate) headers: Headers,
    minor_version: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Other,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It can only be answered with this status.
    Refused(Status),
    Broken(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The input ends in the middle. The peer may still read.
            ErrorKind::UnexpectedEof => Self::Refused(Status::BadRequest),
            _ => Self::Broken(error),
        }
    }
}

impl Request {
    /// The next request of the connection; `None` if the input ends between two requests.
    pub(crate) fn read(connection: &mut Connection) -> Result<Option<Self>, Unread> {
        connection.read_frame(LONGEST_HEAD, |bytes| {
            if let Some(found) = Self::parse(bytes)? {
                return Ok(Some(found));
            }
            match bytes.len() {
                LONGEST_HEAD if bytes.contains(&b'\n') => Err(Unread::Refused(Status::HeaderFieldsTooLarge)),
                LONGEST_HEAD => Err(Unread::Refused(Status::UriTooLong)),
                _ => Ok(None),
            }
        })
    }

    /// The request at the beginning of `bytes`, and the length of its head; `None` while it is
    /// incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Unread> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Unread::Refused(Status::HeaderFieldsTooLarge)),
            Err(httparse::Error::Version) => return Err(Unread::Refused(Status::VersionNotSupported)),
            Err(_) => return Err(Unread::Refused(Status::BadRequest)),
        };
        let method = match parsed.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            _ => Method::Other,
        };
        let request = Self {
            method,
            target: parsed.path.unwrap_or_default().to_owned(),
            minor_version: parsed.version.unwrap_or_default(),
            headers: Headers(
                parsed
                    .headers
                    .iter()
                    .map(|header| {
                        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
                    })
                    .collect(),
            ),
        };
        if request.is_sound() { Ok(Some((request, length))) } else { Err(Unread::Refused(Status::BadRequest)) }
    }

    /// Whether every server on the way would parse it alike.
    fn is_sound(&self) -> bool {
        let count = |name| self.headers.all(name).count();
        let hosts = if self.is_old() { 0..=1 } else { 1..=1 };
        let lengths = count("content-length");
        hosts.contains(&count("host"))
            && (lengths == 0 || self.headers.one("content-length").is_some_and(|length| length.parse::<u64>().is_ok()))
            && (count("transfer-encoding") == 0 || (lengths == 0 && !self.is_old()))
    }

    /// Whether it is HTTP/1.0.
    pub(crate) fn is_old(&self) -> bool {
        self.minor_version == 0
    }

    /// Whether another request may follow. A request with content is the last one: the plugin does
    /// not read content.
    pub(crate) fn stays_open(&self) -> bool {
        let says = |word| {
            self.headers
                .all("connection")
                .flat_map(|value| value.split(','))
                .any(|said| said.trim().eq_ignore_ascii_case(word))
        };
        let has_content = self.headers.all("transfer-encoding").next().is_some()
            || self.headers.one("content-length").is_some_and(|length| length.parse() != Ok(0_u64));
        let wanted = if self.is_old() { says("keep-alive") } else { true };
        wanted && !says("close") && !has_content
    }
}

/// The lines after the first, with names in lower case.
#[derive(Debug)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.trim())
    }

    /// The value of a header that must not appear twice.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }
}
