//! The heads of HTTP messages, as far as one request a connection, without a body, needs them. The parser is `httparse`.

use super::stream::Stream;
use std::{io, str};

/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

const MOST_HEADERS: usize = 64;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, Vec<u8>)>,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the connection ended before the request did")]
    Ended,
    #[error("not a request of HTTP/1: {0}")]
    Malformed(httparse::Error),
    #[error("its head is longer than {LONGEST_HEAD} bytes, or has more than {MOST_HEADERS} fields")]
    TooLong,
    #[error(transparent)]
    Stream(#[from] io::Error),
}

impl Request {
    /// Reads the head of one.
    pub(super) async fn read(socket: &Stream) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let mut piece = [0; 2048];
        loop {
            match socket.read(&mut piece).await? {
                0 => return Err(Error::Ended),
                read => bytes.extend_from_slice(&piece[..read]),
            }
            if let Some(request) = Self::parse(&bytes)? {
                return Ok(request);
            }
        }
    }

    /// `None` where there is more to come.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Error> {
        // What is behind the longest head does not count, however much of it came with the last piece.
        let bytes = bytes.get(..LONGEST_HEAD).unwrap_or(bytes);
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(Error::TooLong),
            Err(httparse::Error::TooManyHeaders) => return Err(Error::TooLong),
            Err(error) => return Err(Error::Malformed(error)),
        }
        Ok(Some(Self {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            headers: request.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect(),
        }))
    }

    /// Whether it has such a field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(field, _)| field.eq_ignore_ascii_case(name))
    }

    /// The value of a field that is there once, and is text.
    pub(crate) fn only(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => str::from_utf8(value).ok(),
            _ => None,
        }
    }
}

/// Reads a response to its end, in at most so many bytes: its status and its body.
pub(crate) async fn response(socket: &Stream, longest: usize) -> Result<(u16, Vec<u8>), Error> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    while let read @ 1.. = socket.read(&mut piece).await? {
        if bytes.len() + read > longest {
            return Err(Error::TooLong);
        }
        bytes.extend_from_slice(&piece[..read]);
    }
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(&bytes) else {
        return Err(Error::Ended);
    };
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length: Option<usize> = length.and_then(|field| str::from_utf8(field.value).ok()?.parse().ok());
    let code = response.code.unwrap_or_default();
    let body = bytes.split_off(head);
    // An answer that was cut is none.
    if length == Some(body.len()) { Ok((code, body)) } else { Err(Error::Ended) }
}

/// A response as it is sent; the body is left out where only its head was asked for.
pub(super) fn written(status: (u16, &str), headers: &[(&str, &str)], body: &str, head_only: bool) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.0, status.1);
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
    if !head_only {
        text.push_str(body);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_when_it_is_whole() {
        let text = b"GET /status?x HTTP/1.1\r\nHost: localhost\r\nORIGIN: null\r\nx: 1\r\nX: 2\r\n\r\n";
        for cut in 0..text.len() {
            assert!(Request::parse(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let request = Request::parse(text).unwrap().unwrap();
        assert_eq!((&*request.method, &*request.target), ("GET", "/status?x"));
        assert_eq!(request.only("host"), Some("localhost"));
        assert!(request.has("origin") && !request.has("cookie"));
        assert_eq!(request.only("x"), None);
    }

    #[test]
    fn what_is_no_request_is_told() {
        for wrong in [
            "\0\0\0\0",
            "GET\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.1\r\n: x\r\n\r\n",
            "\x16\x03\x01\x02\x00",
        ] {
            assert!(Request::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(MOST_HEADERS + 1));
        assert!(matches!(Request::parse(many.as_bytes()), Err(Error::TooLong)));
    }

    #[test]
    fn the_longest_head_is_the_same_in_however_many_pieces_it_comes() {
        let head = |length: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(length - 23)).into_bytes();
        assert_eq!(head(LONGEST_HEAD).len(), LONGEST_HEAD);
        assert!(Request::parse(&head(LONGEST_HEAD)).unwrap().is_some());
        let longer = head(LONGEST_HEAD + 1);
        assert!(matches!(Request::parse(&longer), Err(Error::TooLong)), "as one piece");
        assert!(matches!(Request::parse(&longer[..LONGEST_HEAD]), Err(Error::TooLong)), "before its last byte");
        assert!(Request::parse(&longer[..LONGEST_HEAD - 1]).unwrap().is_none());
    }
}
