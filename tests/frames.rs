//! HTTP/2 frames as bytes, for cases that no installed client produces.

use crate::harness::Stream;
use std::io::{Read, Write};

/// The first bytes of an HTTP/2 client: the preface, and settings that change nothing.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

/// The flags END_STREAM of DATA and HEADERS, and ACK of PING.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The last stream that the first GOAWAY of a graceful end names.
pub const ANY_STREAM: u32 = i32::MAX as u32;

/// An HTTP/2 frame, its length first.
pub fn write_frame(stream: &mut Stream, kind: u8, flags: u8, on: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, on];
    stream.write_all(&[&head, payload].concat()).unwrap();
}

/// A request's head in HPACK's plainest form. The method is an index of its static table: 2 is GET,
/// 3 is POST.
pub fn head(method: u8, path: &str) -> Vec<u8> {
    [&[0x80 | method, 0x86, 0x04, u8::try_from(path.len()).unwrap()], path.as_bytes(), b"\x01\x01a"].concat()
}

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub on: u32,
    pub payload: Vec<u8>,
}

pub fn read_frame(stream: &mut Stream) -> Frame {
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).unwrap();
    Frame { kind: head[3], flags: head[4], on: u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload }
}

/// The next frame of this kind.
pub fn await_frame(stream: &mut Stream, kind: u8) -> Frame {
    loop {
        let frame = read_frame(stream);
        if frame.kind == kind {
            return frame;
        }
    }
}

/// The last stream that a GOAWAY names.
pub fn last_stream(goaway: &Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[..4].try_into().unwrap())
}
