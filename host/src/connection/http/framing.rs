//! Where HTTP/1 messages end within the bytes of a connection: the library is stricter about line
//! ends than this host.
//!
//! The library takes a trailer section for unfinished if a line ends in LF alone, and swallows the
//! next request with it. RFC 9112 (section 2.2) lets a recipient accept that LF as a line end. So
//! bytes pass through here first, one message at a time. The library gets no byte after a head
//! until it has reported the length of the body, and an LF in the trailer section gets its CR. Bad
//! framing passes unchanged: the library rejects it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// The body that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// This many bytes.
    Known(u64),
    /// Chunks, the last of which is empty, and a trailer section.
    Chunked,
}

/// The state of the head that was passed on last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head(Arc<HeadState>);

#[derive(Debug, Default)]
struct HeadState {
    length: Mutex<Option<Length>>,
    has_fragment: AtomicBool,
}

impl Head {
    /// The library has parsed the head: this body follows.
    pub(crate) fn is_followed_by(&self, length: Length) {
        *self.0.length.lock().unwrap_or_else(PoisonError::into_inner) = Some(length);
    }

    fn take_length(&self) -> Option<Length> {
        self.0.length.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether its target has a fragment. No request may have one (RFC 9112, section 3.2), and the
    /// library drops it.
    pub(crate) fn has_fragment(&self) -> bool {
        self.0.has_fragment.load(Ordering::Relaxed)
    }
}

/// Follows the messages of one connection.
#[derive(Debug)]
pub(crate) struct Framing {
    head: Head,
    place: Place,
}

/// The position of the next byte within a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the head; whether the current line is empty so far. Empty lines before the head do not
    /// count.
    Head { lines: u32, empty: bool },
    /// After the head.
    Behind,
    /// In this many bytes of a body, or of a chunk if more chunks follow.
    Data { left: u64, chunked: bool },
    /// In the line end after a chunk's data.
    DataEnd,
    /// In the digits of a chunk size.
    Size(u64),
    /// In the chunk extension after the size.
    Extension(u64),
    /// In the trailer section.
    Trailers { empty: bool, after_cr: bool },
    /// Where the library rejects the bytes.
    Lost,
}

/// How much of some bytes may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// This many.
    pub(crate) count: usize,
    /// Then a CR, which the next byte lacks.
    pub(crate) lacks_cr: bool,
}

impl Framing {
    pub(crate) fn new(head: &Head) -> Self {
        Self { head: head.clone(), place: Place::Head { lines: 0, empty: true } }
    }

    /// How much of some new bytes the library may have now. The caller passes the rest again when
    /// the library wants more.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Passed {
        let mut count = 0;
        while let Some(byte) = bytes.get(count).copied() {
            self.place = match self.place {
                Place::Behind if count > 0 => return Passed { count, lacks_cr: false },
                Place::Behind => match self.head.take_length() {
                    Some(Length::Known(0)) => Place::Head { lines: 0, empty: true },
                    Some(Length::Known(left)) => Place::Data { left, chunked: false },
                    Some(Length::Chunked) => Place::Size(0),
                    None => Place::Lost,
                },
                Place::Data { left: 0, chunked: false } => Place::Head { lines: 0, empty: true },
                Place::Data { left: 0, chunked: true } => Place::DataEnd,
                Place::Data { left, chunked } => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - count);
                    count += here;
                    Place::Data { left: left - here as u64, chunked }
                }
                Place::Lost => return Passed { count: bytes.len(), lacks_cr: false },
                Place::Trailers { after_cr: false, .. } if byte == b'\n' => return Passed { count, lacks_cr: true },
                place => {
                    count += 1;
                    self.after(place, byte)
                }
            };
        }
        Passed { count, lacks_cr: false }
    }

    /// Whether the last passed head is complete, and its body length is not known yet.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_behind_head(&self) -> bool {
        self.place == Place::Behind
    }

    /// The position after this byte.
    fn after(&mut self, place: Place, byte: u8) -> Place {
        match (place, byte) {
            (Place::Head { lines: 0, empty: true }, b'\n') => place,
            (Place::Head { empty: true, .. }, b'\n') => Place::Behind,
            (Place::Head { lines, .. }, b'\n') => Place::Head { lines: lines.saturating_add(1), empty: true },
            (Place::Head { .. }, b'\r') => place,
            (Place::Head { lines, empty }, byte) => {
                if lines == 0 && (empty || byte == b'#') {
                    self.head.0.has_fragment.store(byte == b'#', Ordering::Relaxed);
                }
                Place::Head { lines, empty: false }
            }
            (Place::DataEnd, b'\n') => Place::Size(0),
            (Place::DataEnd, b'\r') => place,
            (Place::Size(size) | Place::Extension(size), b'\n') => match size {
                0 => Place::Trailers { empty: true, after_cr: false },
                left => Place::Data { left, chunked: true },
            },
            (Place::Size(size), byte) => match (byte as char).to_digit(16) {
                Some(digit) => size.checked_mul(16).map_or(Place::Lost, |size| Place::Size(size + u64::from(digit))),
                None => Place::Extension(size),
            },
            (Place::Extension(_), _) => place,
            (Place::Trailers { empty: true, after_cr: true }, b'\n') => Place::Head { lines: 0, empty: true },
            (Place::Trailers { .. }, b'\n') => Place::Trailers { empty: true, after_cr: false },
            (Place::Trailers { empty, .. }, b'\r') => Place::Trailers { empty, after_cr: true },
            (Place::Trailers { .. }, _) => Place::Trailers { empty: false, after_cr: false },
            (Place::DataEnd | Place::Behind | Place::Data { .. } | Place::Lost, _) => Place::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces that the library gets of a connection's bytes, which arrive in pieces of this
    /// size. It reports the next length at the end of each head.
    fn passed(bytes: &str, piece: usize, lengths: &[Length]) -> Vec<String> {
        let head = Head::default();
        let mut framing = Framing::new(&head);
        let (mut lengths, mut got) = (lengths.iter(), vec![String::new()]);
        let mut waiting = Vec::new();
        for piece in bytes.as_bytes().chunks(piece) {
            waiting.extend_from_slice(piece);
            while !waiting.is_empty() {
                let Passed { count, lacks_cr } = framing.pass(&waiting);
                got.last_mut().unwrap().push_str(std::str::from_utf8(&waiting[..count]).unwrap());
                waiting.drain(..count);
                if lacks_cr {
                    waiting.insert(0, b'\r');
                }
                if framing.place == Place::Behind {
                    head.is_followed_by(*lengths.next().unwrap());
                    got.push(String::new());
                }
            }
        }
        got
    }

    #[test]
    fn the_library_gets_a_head_and_then_its_body() {
        use Length::{Chunked, Known};
        for piece in [1, 2, 3, 1000] {
            let all =
                "\r\nGET / HTTP/1.1\r\na: b\r\n\r\nPOST / HTTP/1.1\n\n12\n\nPOST /\r\n\r\n2;a\r\n0\n\r\n0\r\n\r\nGET /";
            assert_eq!(
                passed(all, piece, &[Known(0), Known(4), Chunked]),
                [
                    "\r\nGET / HTTP/1.1\r\na: b\r\n\r\n",
                    "POST / HTTP/1.1\n\n",
                    "12\n\nPOST /\r\n\r\n",
                    "2;a\r\n0\n\r\n0\r\n\r\nGET /",
                ]
            );
        }
    }

    #[test]
    fn lines_of_the_trailer_section_end_in_crlf() {
        for piece in [1, 2, 3, 1000] {
            for trailers in ["\n", "\r\n", "a: b\n\n", "a: b\r\n\n", "a: b\n\r\n"] {
                let all = format!("POST /\r\n\r\n00\r\n{trailers}GET /\r\n\r\n");
                let got = passed(&all, piece, &[Length::Chunked, Length::Known(0)]);
                assert_eq!(
                    got[1],
                    format!("00\r\n{}GET /\r\n\r\n", trailers.replace("\r\n", "\n").replace('\n', "\r\n"))
                );
            }
        }
    }

    #[test]
    fn bad_framing_passes_unchanged() {
        for body in ["fffffffffffffffff\r\n\n\n\n", "1\r\nab\n\n\n\n"] {
            let got = passed(&format!("POST /\r\n\r\n{body}"), 1, &[Length::Chunked]);
            assert_eq!(got[1], body);
        }
    }

    #[test]
    fn fragments_are_found_only_in_the_target() {
        let has_fragment = |text: &str| {
            let head = Head::default();
            Framing::new(&head).pass(text.as_bytes());
            head.has_fragment()
        };
        assert!(has_fragment("GET /a#b HTTP/1.1\r\n\r\n"));
        assert!(!has_fragment("GET /a HTTP/1.1\r\na: #\r\n\r\n"));
    }
}
