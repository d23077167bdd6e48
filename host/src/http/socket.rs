//! The wire as the HTTP library reads and writes it: tried first, awaited only where that would block, never closed from here.

use super::traffic::Traffic;
use crate::wire::Wire;
use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// What is read at a time. The library has room for half of it at first, and asks for more where more comes.
const PIECE: usize = 16 << 10;

/// One connection's wire, for the library.
#[derive(Debug)]
pub(super) struct Socket {
    wire: Arc<Wire>,
    traffic: Arc<Traffic>,
    /// Was read to find out which version is spoken.
    begun: Bytes,
}

impl Socket {
    pub(super) fn new(wire: &Arc<Wire>, traffic: &Arc<Traffic>, begun: Bytes) -> Self {
        Self { wire: Arc::clone(wire), traffic: Arc::clone(traffic), begun }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(PIECE);
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.begun.has_remaining() {
            let count = self.begun.len().min(room);
            buffer.put_slice(&self.begun.split_to(count));
            return Poll::Ready(Ok(()));
        }
        loop {
            // On the stack, since the library's buffer is not initialised.
            let mut piece = [0; PIECE];
            let piece = piece.get_mut(..room).unwrap_or_default();
            match self.wire.try_read_into(piece)? {
                Some(count) => {
                    if count > 0 {
                        self.traffic.heard();
                    }
                    buffer.put_slice(piece.get(..count).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                None => ready!(self.wire.poll_readable(context)),
            }
        }
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.wire.try_write(bytes)? {
                Some(count) => return Poll::Ready(Ok(count)),
                None => ready!(self.wire.poll_writable(context)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.wire.try_room()? {
            ready!(self.wire.poll_writable(context));
        }
        Poll::Ready(Ok(()))
    }

    /// The connection is concluded by whoever has made the wire, when this is gone.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
