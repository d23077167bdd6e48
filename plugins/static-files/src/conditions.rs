//! Conditional requests: RFC 9110, section 13.

use std::time::SystemTime;

use crate::file::File;
use crate::request::Request;
use crate::status::Status;

/// The status if the conditions decide it without the file's content, in the order of the standard.
pub(crate) fn decide(request: &Request, file: &File) -> Option<Status> {
    let tag = file.tag();
    let modified = file.last_modified(SystemTime::now());
    let date = |name| request.headers.one(name).and_then(|date| httpdate::parse_http_date(date).ok());

    let failed = match has(request, "if-match") {
        true => !names(request, "if-match", |named| named == tag),
        false => date("if-unmodified-since").is_some_and(|date| modified > date),
    };
    if failed {
        return Some(Status::PreconditionFailed);
    }
    let known = match has(request, "if-none-match") {
        // For an unchanged file a weak tag is as good as a strong one.
        true => names(request, "if-none-match", |named| named.strip_prefix("W/").unwrap_or(named) == tag),
        false => date("if-modified-since").is_some_and(|date| modified <= date),
    };
    known.then_some(Status::NotModified)
}

/// Whether the requested part belongs to the version that the client has.
pub(crate) fn range_applies(request: &Request, file: &File) -> bool {
    if !has(request, "if-range") {
        return true;
    }
    request.headers.one("if-range").is_some_and(|named| {
        named == file.tag()
            || httpdate::parse_http_date(named).is_ok_and(|date| date == file.last_modified(SystemTime::now()))
    })
}

fn has(request: &Request, name: &str) -> bool {
    request.headers.all(name).next().is_some()
}

fn names(request: &Request, name: &str, is_it: impl Fn(&str) -> bool) -> bool {
    let mut tags = request.headers.all(name).flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|named| named == "*" || is_it(named))
}
