//! How a connection of HTTP/2 ends without the loss of a request.
//!
//! RFC 9113 (section 6.8) has two GOAWAY frames, a round trip apart: one that rules out no request,
//! so that the client stops, and one that names the last request. The library does that. Some
//! clients take the first one for the end, and fail the request that they send when they read it:
//! those that read only while they wait for a response. So the host sends a PING first.
//!
//! * A client that answers before it sends a request reads all the time, and gets the two frames.
//! * A client that sends a request before it answers gets its response, and then another PING.
//! * A silent client reads nothing. It gets both frames at once, and then the end: a request that
//!   meets these it sends again.
//!
//! The library has no such PING, so this module follows the bytes in both directions, up to the
//! ends of frames.

use super::traffic::Traffic;
use crate::wire::Wire;
use bytes::{Buf, BytesMut};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time};

/// How long a client may take to answer, and then to have no request open. A client that reads all
/// the time answers within a round trip.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause after a response, so that a client that reads only its response does not find the PING
/// behind it.
const PAUSE: Duration = Duration::from_millis(100);

/// The length of the preface that each client begins with, which is not a frame.
const PREFACE_LENGTH: usize = 24;

const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Not the library's own payload, whose answers the library handles.
const PAYLOAD: [u8; 8] = *b"farewell";

/// The last stream in the first GOAWAY: it rules out no request.
const ANY_STREAM: u32 = u32::MAX >> 1;

/// How the host tells a client that its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the library, with a round trip between the frames.
    RoundTrip,
    /// At once: the client has no request open.
    AtOnce,
}

/// The frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    state: Mutex<State>,
    answered: Notify,
}

#[derive(Debug)]
struct State {
    incoming: Cursor,
    outgoing: Cursor,
    /// Whether a response head has been sent in part: its frames must follow each other (RFC 9113,
    /// section 6.10).
    in_outgoing_head: bool,
    /// The last stream whose head has arrived completely.
    last_stream: u32,
    /// Frames of this host, to be sent between two of the library's.
    own: BytesMut,
    /// Whether the library has bytes that the wire does not accept.
    is_blocked: bool,
}

/// The position of the next byte within a frame.
#[derive(Debug, Default)]
struct Cursor {
    /// Before the first frame.
    skipped: usize,
    /// The frame's head, and as much of its payload as a PING has.
    start: Vec<u8>,
    /// Bytes of its payload that are still to come.
    left: usize,
}

impl Cursor {
    fn is_between(&self) -> bool {
        self.start.is_empty()
    }

    /// How many bytes are certain to belong to this frame.
    fn certain(&self) -> usize {
        if self.start.len() < FRAME_HEAD { FRAME_HEAD - self.start.len() } else { self.left }
    }

    /// Advances over these bytes, and reports each frame at its end: kind, flags, stream, and the
    /// payload of a PING.
    fn advance(&mut self, mut bytes: &[u8], mut tell: impl FnMut(u8, u8, u32, &[u8])) {
        while !bytes.is_empty() {
            let most = if self.skipped > 0 { self.skipped } else { self.certain() };
            let (here, rest) = bytes.split_at(most.min(bytes.len()));
            bytes = rest;
            if self.skipped > 0 {
                self.skipped -= here.len();
                continue;
            }
            if self.start.len() < FRAME_HEAD {
                self.start.extend_from_slice(here);
                let [a, b, c, _, _, _, _, _, _] = *self.start else { continue };
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            } else {
                self.left -= here.len();
                let wanted = (FRAME_HEAD + PAYLOAD.len()).saturating_sub(self.start.len());
                self.start.extend_from_slice(here.get(..wanted).unwrap_or(here));
            }
            if self.left == 0 {
                if let [_, _, _, kind, flags, a, b, c, d, ref payload @ ..] = *self.start {
                    tell(kind, flags, u32::from_be_bytes([a, b, c, d]) & ANY_STREAM, payload);
                }
                self.start.clear();
            }
        }
    }
}

impl Frames {
    pub(super) fn new() -> Arc<Self> {
        let incoming = Cursor { skipped: PREFACE_LENGTH, ..Cursor::default() };
        let state = State {
            incoming,
            outgoing: Cursor::default(),
            in_outgoing_head: false,
            last_stream: 0,
            own: BytesMut::new(),
            is_blocked: false,
        };
        Arc::new(Self { state: Mutex::new(state), answered: Notify::new() })
    }

    /// The client has sent these bytes.
    pub(super) fn received(&self, bytes: &[u8]) {
        let State { incoming, last_stream, .. } = &mut *self.state();
        incoming.advance(bytes, |kind, flags, stream, payload| match kind {
            HEADERS | CONTINUATION if flags & END_HEADERS != 0 => *last_stream = stream.max(*last_stream),
            PING if flags & ACK != 0 && payload == PAYLOAD => self.answered.notify_one(),
            _ => {}
        });
    }

    /// Writes the library's bytes, with this host's own frames between its frames.
    pub(super) fn try_write(&self, wire: &Wire, bytes: &[u8]) -> io::Result<Option<usize>> {
        let mut state = self.state();
        state.is_blocked = true;
        if !state.try_flush(wire)? {
            return Ok(None);
        }
        // If own frames are queued, this frame ends first.
        let most = if state.own.is_empty() { bytes.len() } else { bytes.len().min(state.outgoing.certain()) };
        let bytes = bytes.get(..most).unwrap_or(bytes);
        let written = wire.try_write(bytes)?;
        if let Some(count) = written {
            state.is_blocked = false;
            state.sent(bytes.get(..count).unwrap_or(bytes));
        }
        Ok(written)
    }

    /// Sends a frame of this host: now, if the library is between two frames and the wire accepts
    /// it, otherwise with its next write.
    fn send(&self, wire: &Wire, kind: u8, payload: &[u8]) {
        let mut state = self.state();
        // The payloads are a few bytes long.
        let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
        state.own.extend_from_slice(&[0, 0, length, kind, 0, 0, 0, 0, 0]);
        state.own.extend_from_slice(payload);
        // If the wire is broken, the library notices.
        state.try_flush(wire).ok();
    }

    /// Finds out which way suits the client. The library's future must be polled meanwhile.
    pub(super) async fn way(&self, wire: &Wire, traffic: &Traffic) -> Way {
        // A client that reads a response answers a PING whether or not it reads at other times.
        let asked = async {
            loop {
                traffic.quiet_for(PAUSE).await;
                let before = self.last_stream();
                self.send(wire, PING, &PAYLOAD);
                self.answered.notified().await;
                if self.last_stream() == before {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = asked => return Way::RoundTrip,
            () = time::sleep(PATIENCE) => {}
        }
        tokio::select! {
            biased;
            () = traffic.quiet() => {
                // The end of the last response is queued, perhaps just now by another thread. The
                // library sends it in its next poll, before this task goes on.
                tokio::task::yield_now().await;
                let is_free = traffic.is_quiet() && !self.state().is_blocked;
                if is_free { Way::AtOnce } else { Way::RoundTrip }
            }
            () = time::sleep(PATIENCE) => Way::RoundTrip,
        }
    }

    /// Tells the client that the connection ends, and which request was the last.
    pub(super) fn send_goaway(&self, wire: &Wire) {
        for last in [ANY_STREAM, self.last_stream()] {
            let no_error = 0_u32;
            self.send(wire, GOAWAY, &[last.to_be_bytes(), no_error.to_be_bytes()].concat());
        }
    }

    fn last_stream(&self) -> u32 {
        self.state().last_stream
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The library has sent these bytes.
    fn sent(&mut self, bytes: &[u8]) {
        let in_head = &mut self.in_outgoing_head;
        self.outgoing.advance(bytes, |kind, flags, _, _| {
            *in_head = matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) && flags & END_HEADERS == 0;
        });
    }

    /// Whether a frame of this host may go now.
    fn has_gap(&self) -> bool {
        self.outgoing.is_between() && !self.in_outgoing_head
    }

    /// Whether the library may write: own frames that can go first have gone.
    fn try_flush(&mut self, wire: &Wire) -> io::Result<bool> {
        while self.has_gap() && !self.own.is_empty() {
            match wire.try_write(&self.own)? {
                Some(count) => self.own.advance(count),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";

    #[test]
    fn frames_are_followed_in_pieces_of_any_size() {
        let preface = [0; PREFACE_LENGTH];
        let ping = [&b"\0\0\x08\x06\x01\0\0\0\0"[..], &PAYLOAD].concat();
        let request = |flags, stream| [0, 0, 3, HEADERS, flags, 0, 0, 0, stream, 0x82, 0x84, 0x86];
        let rest = [0, 0, 0, CONTINUATION, END_HEADERS, 0, 0, 0, 5];
        let all =
            [&preface, SETTINGS, &request(4, 1), &request(0, 5), &rest, &ping, &request(4, 3), &request(0, 7)].concat();
        for piece in [1, 2, 5, 9, 1000] {
            let mut cursor = Cursor { skipped: PREFACE_LENGTH, ..Cursor::default() };
            let mut kinds = Vec::new();
            let frames = Frames::new();
            for piece in all.chunks(piece) {
                cursor.advance(piece, |kind, _, _, _| kinds.push(kind));
                frames.received(piece);
            }
            assert_eq!(kinds, [4, HEADERS, HEADERS, CONTINUATION, PING, HEADERS, HEADERS]);
            assert!(cursor.is_between());
            assert_eq!(frames.last_stream(), 5, "the head of 7 has not come in full");
        }
    }

    #[test]
    fn no_own_frame_interrupts_a_response_head() {
        let frames = Frames::new();
        let mut state = frames.state();
        let head = |kind, flags| [0, 0, 1, kind, flags, 0, 0, 0, 1, 0x88];
        for (sent, has_gap) in [
            (SETTINGS, true),
            (&head(HEADERS, 0)[..5], false),
            (&head(HEADERS, 0)[5..], false),
            (&head(CONTINUATION, 0), false),
            (&head(CONTINUATION, END_HEADERS), true),
            (&head(HEADERS, END_HEADERS), true),
        ] {
            state.sent(sent);
            assert_eq!(state.has_gap(), has_gap, "{sent:?}");
        }
    }
}
