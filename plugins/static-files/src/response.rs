//! A response, and sending it: the head together with the beginning of the content, then the rest
//! in pieces. One piece at a time is in memory. A peer that does not read stops the reading of the
//! file.

use std::collections::hash_map::RandomState;
use std::fmt::{Display, Write as _};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::time::SystemTime;

use uninterruptible_guest::Connection;

use crate::file::File;
use crate::ranges::Part;
use crate::request::Method;
use crate::status::Status;

/// The most bytes that the host takes at once.
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Response {
    status: Status,
    /// Lines of the head, each with its end.
    lines: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// No content, because of the status.
    None,
    Text(String),
    Part(File, Part),
    Whole(File),
    Parts(File, Multipart),
}

impl Response {
    fn new(status: Status, content: Content) -> Self {
        Self { status, lines: String::new(), content }
    }

    /// A response with its status as text for people.
    pub(crate) fn refusal(status: Status) -> Self {
        let content = Content::Text(format!("{}\n", status.text()));
        Self::new(status, content)
            .with("Content-Type", "text/plain; charset=utf-8")
            .with("X-Content-Type-Options", "nosniff")
    }

    pub(crate) fn without_content(status: Status) -> Self {
        let content = match status {
            Status::NotModified => Content::None,
            _ => Content::Text(String::new()),
        };
        Self::new(status, content)
    }

    pub(crate) fn whole(file: File) -> Self {
        let response = Self::new(Status::Ok, Content::None).of(&file).with("Content-Type", file.content_type);
        Self { content: Content::Whole(file), ..response }.with("X-Content-Type-Options", "nosniff")
    }

    /// One part alone, or several with a head each.
    pub(crate) fn parts(file: File, parts: Vec<Part>) -> Self {
        let response =
            Self::new(Status::PartialContent, Content::None).of(&file).with("X-Content-Type-Options", "nosniff");
        if let [part] = *parts.as_slice() {
            let response = response.with("Content-Type", file.content_type).with("Content-Range", part.of(file.length));
            return Self { content: Content::Part(file, part), ..response };
        }
        let parts = Multipart::new(&file, parts);
        let response = response.with("Content-Type", format!("multipart/byteranges; boundary={}", parts.boundary));
        Self { content: Content::Parts(file, parts), ..response }
    }

    /// Adds the headers that identify the version of the file.
    pub(crate) fn of(self, file: &File) -> Self {
        self.with("ETag", file.tag())
            .with("Last-Modified", httpdate::fmt_http_date(file.last_modified(SystemTime::now())))
            .with("Accept-Ranges", "bytes")
    }

    pub(crate) fn with(mut self, name: &str, value: impl Display) -> Self {
        // Writing to a string cannot fail.
        write!(self.lines, "{name}: {value}\r\n").unwrap_or_default();
        self
    }

    /// The connection closes after it.
    pub(crate) fn closing(self) -> Self {
        self.with("Connection", "close")
    }

    /// The connection stays open, which an HTTP/1.0 client does not expect by itself.
    pub(crate) fn staying(self) -> Self {
        self.with("Connection", "keep-alive")
    }

    pub(crate) fn send(self, connection: &mut Connection, method: Method) -> io::Result<()> {
        let length = match &self.content {
            Content::None => None,
            Content::Text(text) => Some(text.len() as u64),
            Content::Whole(file) => Some(file.length),
            Content::Part(_, part) => Some(part.length),
            Content::Parts(_, parts) => Some(parts.length()),
        };
        let response = match length {
            Some(length) => self.with("Content-Length", length),
            None => self,
        }
        .with("Date", httpdate::fmt_http_date(SystemTime::now()));
        let mut pieces = Pieces { connection, gathered: Vec::new() };
        pieces.text(&format!("HTTP/1.1 {}\r\n{}\r\n", response.status.text(), response.lines))?;
        if method != Method::Head {
            match response.content {
                Content::None => {}
                Content::Text(text) => pieces.text(&text)?,
                Content::Whole(mut file) if file.length > 0 => {
                    let whole = Part { first: 0, length: file.length };
                    pieces.part(&mut file, whole)?;
                }
                Content::Whole(_) => {}
                Content::Part(mut file, part) => pieces.part(&mut file, part)?,
                Content::Parts(mut file, parts) => {
                    for (head, part) in &parts.parts {
                        pieces.text(head)?;
                        pieces.part(&mut file, *part)?;
                    }
                    pieces.text(&parts.end)?;
                }
            }
        }
        pieces.pass_on()
    }
}

/// Parts of a file, with a head each.
#[derive(Debug)]
struct Multipart {
    boundary: String,
    parts: Vec<(String, Part)>,
    end: String,
}

impl Multipart {
    fn new(file: &File, parts: Vec<Part>) -> Self {
        // Random, so that no file contains it by chance or on purpose.
        let boundary = format!("{:016x}", RandomState::new().build_hasher().finish());
        let head = |part: Part| {
            let (kind, range) = (file.content_type, part.of(file.length));
            (format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range}\r\n\r\n"), part)
        };
        let parts = parts.into_iter().map(head).collect();
        let end = format!("\r\n--{boundary}--\r\n");
        Self { boundary, parts, end }
    }

    fn length(&self) -> u64 {
        self.parts.iter().map(|(head, part)| head.len() as u64 + part.length).sum::<u64>() + self.end.len() as u64
    }
}

/// Gathers the bytes for the peer into pieces.
struct Pieces<'a> {
    connection: &'a mut Connection,
    gathered: Vec<u8>,
}

impl Pieces<'_> {
    fn text(&mut self, text: &str) -> io::Result<()> {
        self.gathered.extend_from_slice(text.as_bytes());
        if self.gathered.len() < PIECE { Ok(()) } else { self.pass_on() }
    }

    fn part(&mut self, file: &mut File, part: Part) -> io::Result<()> {
        file.open.seek(SeekFrom::Start(part.first))?;
        let mut left = part.length;
        while left > 0 {
            let gathered = self.gathered.len();
            let room = usize::try_from(left).unwrap_or(PIECE).min(PIECE - gathered);
            self.gathered.resize(gathered + room, 0);
            let length = file.open.read(&mut self.gathered[gathered..])?;
            self.gathered.truncate(gathered + length);
            if length == 0 {
                // The length was announced: the early end of the connection tells the peer that
                // content is missing.
                return Err(io::Error::other("a file became shorter while it was sent"));
            }
            left -= length as u64;
            if self.gathered.len() >= PIECE {
                self.pass_on()?;
            }
        }
        Ok(())
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.connection.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}
