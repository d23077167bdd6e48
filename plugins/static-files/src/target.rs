//! Maps a request target to a path beneath the root. Each segment is a plain name, so the path
//! cannot leave the root. The host keeps guests in the granted directory in any case; this module
//! makes a target mean exactly one file.

use std::path::{Path, PathBuf};

use crate::status::Status;

/// The file that is served for a directory.
pub(crate) const INDEX: &str = "index.html";

/// The only name with a leading dot that is served, since clients look for it.
const WELL_KNOWN: &str = ".well-known";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    relative: PathBuf,
    is_directory: bool,
    /// As sent, without the origin.
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    pub(crate) fn parse(sent: &'a str) -> Result<Self, Status> {
        let local = after_origin(sent).ok_or(Status::BadRequest)?;
        let (path, query) = match local.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (local, None),
        };
        let within = path.strip_prefix('/').ok_or(Status::BadRequest)?;
        let mut relative = PathBuf::new();
        let (segments, is_directory) = match within.strip_suffix('/') {
            Some(segments) => (segments, true),
            None => (within, within.is_empty()),
        };
        if !within.is_empty() {
            for segment in segments.split('/') {
                relative.push(name(segment)?);
            }
        }
        if is_directory {
            relative.push(INDEX);
        }
        Ok(Self { relative, is_directory, path, query })
    }

    /// The path beneath the root, made of plain names only.
    pub(crate) fn path(&self) -> &Path {
        &self.relative
    }

    /// Whether it names a directory, so that the directory's index is served.
    pub(crate) fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// The target with a slash at its end, for a redirect to a directory.
    pub(crate) fn as_directory(&self) -> String {
        let Self { path, query, .. } = self;
        // Its second character cannot begin a host, because no segment is empty.
        query.map_or_else(|| format!("{path}/"), |query| format!("{path}/?{query}"))
    }
}

/// Clients of a proxy also send the origin: `http://example.org/path`.
fn after_origin(sent: &str) -> Option<&str> {
    if sent.starts_with('/') {
        return Some(sent);
    }
    let (scheme, rest) = sent.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    Some(rest.find('/').map_or("/", |start| &rest[start..]))
}

/// The name that a segment stands for.
fn name(segment: &str) -> Result<String, Status> {
    let name = decoded(segment).ok_or(Status::BadRequest)?;
    // Clients resolve these before they send a target.
    if name == "." || name == ".." {
        return Err(Status::BadRequest);
    }
    // A name contains neither separators nor control characters. The separator of Windows is
    // excluded for programs that read the files elsewhere.
    if name.chars().any(|character| matches!(character, '/' | '\\') || character.is_control()) {
        return Err(Status::BadRequest);
    }
    // Names with a leading dot are hidden, such as `.git`.
    if name.is_empty() || (name.starts_with('.') && name != WELL_KNOWN) {
        return Err(Status::NotFound);
    }
    Ok(name)
}

fn decoded(segment: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(segment.len()), segment.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            let [high, low] =
                digits.map(|digit| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
            bytes.push(high? * 16 + low?);
            rest = after;
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::Target;
    use crate::status::Status;
    use std::path::Path;

    #[test]
    fn a_target_is_a_path() {
        for (target, path) in [
            ("/", "index.html"),
            ("/a", "a"),
            ("/a/", "a/index.html"),
            ("/a/b.css?v=1/../2", "a/b.css"),
            ("/%41%2e%c3%A9", "A.é"),
            ("/a%20b+c", "a b+c"),
            ("/.well-known/x", ".well-known/x"),
            ("http://example.org", "index.html"),
            ("HTTPS://example.org:8080/a/?q", "a/index.html"),
        ] {
            assert_eq!(Target::parse(target).unwrap().path(), Path::new(path), "{target}");
        }
    }

    #[test]
    fn a_target_cannot_leave_the_root() {
        for target in [
            "",
            "*",
            "a",
            "/..",
            "/../etc/passwd",
            "/a/../../b",
            "/./a",
            "/%2e%2e/a",
            "/.%2E/a",
            "/a%2fb",
            "/a%2F..%2Fb",
            "/..%5cb",
            "/a\\..\\b",
            "/a%00.html",
            "/a%0d%0aX:y",
            "/%7f",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
            "/%c0%ae%c0%ae/",
            "ftp://h/a",
            "//../a",
        ] {
            let refused = Target::parse(target).unwrap_err();
            assert!(refused == Status::BadRequest || target.starts_with("//"), "{target}");
        }
        for target in ["//etc/passwd", "/a//b", "//", "/.git/config", "/...", "/a/.env", "/.well-known/.x", "/%2egit"] {
            assert_eq!(Target::parse(target), Err(Status::NotFound), "{target}");
        }
    }

    #[test]
    fn a_directory_is_redirected() {
        assert_eq!(Target::parse("/a%20b/c?q=1").unwrap().as_directory(), "/a%20b/c/?q=1");
        assert_eq!(Target::parse("http://example.org/a").unwrap().as_directory(), "/a/");
    }
}
