//! The checks of a request beyond the library's: the form of its target, its host, its transfer
//! codings and its number of fields.

use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Version,
    header::{COOKIE, HOST, TRANSFER_ENCODING},
    uri::Scheme,
};
use std::net::Ipv6Addr;

/// The most fields of a request, as the library limits HTTP/1.
const MOST_FIELDS: usize = 100;

/// The status with which an invalid request is rejected.
pub(crate) fn refusal<B>(request: &Request<B>) -> Option<StatusCode> {
    if request.method() == Method::CONNECT {
        // This host is neither a proxy nor a tunnel.
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    // HTTP/2 requests may have one field for each cookie.
    let cookies = request.headers().get_all(COOKIE).iter().count();
    if request.headers().len() - cookies.saturating_sub(1) > MOST_FIELDS {
        return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    if !has_valid_target(request) || !has_valid_host(request) {
        return Some(StatusCode::BAD_REQUEST);
    }
    codings_refusal(request.headers())
}

/// Joins all cookies into one field. HTTP/2 clients may send them in several (RFC 9113, section
/// 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// A path, a full URI, or the asterisk of OPTIONS (RFC 9112, section 3.2). HTTP/2 sends the parts
/// of a URI separately.
fn has_valid_target<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    let path = uri.path();
    let is_path = path.starts_with('/') || path == "*" && request.method() == Method::OPTIONS;
    match (uri.scheme(), uri.authority()) {
        (None, None) => is_path,
        (Some(scheme), Some(authority)) => {
            (*scheme == Scheme::HTTP || *scheme == Scheme::HTTPS) && is_path && is_host(authority.as_str())
        }
        // Only CONNECT has a target of an authority alone.
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Exactly one field in HTTP/1.1, at most one elsewhere (RFC 9112, section 3.2). In HTTP/2 it must
/// match the URI (RFC 9113, section 8.3.1).
fn has_valid_host<B>(request: &Request<B>) -> bool {
    let authority = request.uri().authority();
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() > Version::HTTP_11 => authority.is_some(),
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(|host| {
            is_host(host)
                && (request.version() <= Version::HTTP_11
                    || authority.is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host)))
        }),
        (Some(_), Some(_)) => false,
    }
}

/// `uri-host [":" port]` (RFC 9110, section 7.2). The host is not empty, and none of its labels is,
/// except for the root's.
fn is_host(text: &str) -> bool {
    let port = if let Some(rest) = text.strip_prefix('[') {
        match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => port,
            _ => return false,
        }
    } else {
        let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        if !is_name(host) {
            return false;
        }
        port
    };
    match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            let value = digits.trim_start_matches('0');
            // An empty port is the default of the scheme.
            digits.bytes().all(|byte| byte.is_ascii_digit()) && (value.is_empty() || value.parse::<u16>().is_ok())
        }
    }
}

/// A registered name (RFC 3986, section 3.2.2), which includes IPv4 addresses.
fn is_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    !labels.is_empty() && labels.split('.').all(|label| !label.is_empty() && is_label(label))
}

fn is_label(label: &str) -> bool {
    let mut bytes = label.bytes();
    while let Some(byte) = bytes.next() {
        let is_valid = match byte {
            b'%' => {
                [bytes.next(), bytes.next()].iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
            }
            byte => byte.is_ascii_alphanumeric() || b"-_~!$&'()*+,;=".contains(&byte),
        };
        if !is_valid {
            return false;
        }
    }
    true
}

/// Accepts the transfer coding `chunked` alone, once (RFC 9112, sections 6.1 and 7). The library
/// has rejected codings that do not end with it.
fn codings_refusal(headers: &HeaderMap) -> Option<StatusCode> {
    let mut chunked = 0;
    for line in headers.get_all(TRANSFER_ENCODING) {
        for coding in
            line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty())
        {
            if !coding.eq_ignore_ascii_case(b"chunked") {
                return Some(StatusCode::NOT_IMPLEMENTED);
            }
            chunked += 1;
        }
    }
    (chunked > 1).then_some(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_ports() {
        for host in [
            "a",
            "a.b",
            "a.b.",
            "A-1_~.x",
            "127.0.0.1",
            "[::1]",
            "[::1]:80",
            "a:",
            "a:0",
            "a:65535",
            "a:00080",
            "a%2Db",
            "a!$&'()*+,;=b",
        ] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "",
            ":80",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            "a:bc",
            "a:65536",
            "a:99999999999",
            "a:8 ",
            "a:-1",
            "a:80:80",
            "u@a",
            "u:p@a",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a%2",
            "a%zz",
            "[::1",
            "::1",
            "[::1]80",
            "[::1]x:80",
            "[]",
            "[a]",
            "[::1%lo]",
            "a\\b",
            "a\"b",
            "<a>",
            "a|b",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn cookies_are_one_field() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2", "c=3; d=4"] {
            headers.append(COOKIE, cookie.parse().unwrap());
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn codings_are_chunked_once() {
        let refusal = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRANSFER_ENCODING, line.parse().unwrap());
            }
            codings_refusal(&headers).map(|status| status.as_u16())
        };
        for fine in [&[][..], &["chunked"], &["Chunked"], &[" , chunked ,"]] {
            assert_eq!(refusal(fine), None, "{fine:?}");
        }
        for unknown in
            [&["gzip, chunked"][..], &["gzip", "chunked"], &["identity, chunked"], &["x"], &["chunked;a=b, chunked"]]
        {
            assert_eq!(refusal(unknown), Some(501), "{unknown:?}");
        }
        assert_eq!(refusal(&["chunked, chunked"]), Some(400));
        assert_eq!(refusal(&["chunked", "chunked"]), Some(400));
    }
}
