//! The wire as the HTTP library reads and writes it: it tries first, waits only if that would
//! block, and never closes the wire.

use super::{
    framing::{Framing, Passed},
    goaway::Frames,
    traffic::Traffic,
};
use crate::wire::Wire;
use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Bytes that are read at a time. The library has room for half of it at first, and asks for more
/// as more arrives.
const PIECE: usize = 16 << 10;

/// One connection's wire, for the library.
#[derive(Debug)]
pub(super) struct Transport {
    wire: Arc<Wire>,
    traffic: Arc<Traffic>,
    /// Bytes that were read already: to find out the version, or together with earlier bytes.
    ahead: BytesMut,
    /// HTTP/1 only.
    framing: Option<Framing>,
    /// HTTP/2 only.
    frames: Option<Arc<Frames>>,
}

impl Transport {
    pub(super) fn new(wire: &Arc<Wire>, traffic: &Arc<Traffic>, begun: Bytes) -> Self {
        Self { wire: Arc::clone(wire), traffic: Arc::clone(traffic), ahead: begun.into(), framing: None, frames: None }
    }

    /// Passes one message at a time to the library.
    pub(super) fn framed(self, framing: Framing) -> Self {
        Self { framing: Some(framing), ..self }
    }

    /// Follows the frames of HTTP/2.
    pub(super) fn followed(self, frames: &Arc<Frames>) -> Self {
        Self { frames: Some(Arc::clone(frames)), ..self }
    }

    /// How many of some bytes the library may have now. The rest is kept.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        if let Some(frames) = &self.frames {
            frames.received(bytes);
        }
        let Some(framing) = &mut self.framing else { return bytes.len() };
        let Passed { count, lacks_cr } = framing.pass(bytes);
        let rest = bytes.get(count..).unwrap_or_default();
        if !rest.is_empty() {
            let behind = self.ahead.split();
            if lacks_cr {
                self.ahead.extend_from_slice(b"\r");
            }
            self.ahead.extend_from_slice(rest);
            self.ahead.unsplit(behind);
        }
        count
    }
}

impl Read for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(PIECE);
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        while self.ahead.has_remaining() {
            let count = self.ahead.len().min(room);
            let piece = self.ahead.split_to(count);
            // Bytes before a missing CR wait until the CR is added.
            let count = self.pass(&piece);
            if count > 0 {
                buffer.put_slice(piece.get(..count).unwrap_or_default());
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            // On the stack, since the library's buffer is not initialised.
            let mut piece = [0; PIECE];
            let piece = piece.get_mut(..room).unwrap_or_default();
            match self.wire.try_read_into(piece)? {
                Some(0) => return Poll::Ready(Ok(())),
                Some(count) => {
                    self.traffic.received();
                    let count = self.pass(piece.get(..count).unwrap_or_default());
                    if count == 0 {
                        // A CR is missing, which is now in `ahead`.
                        return self.poll_read(context, buffer);
                    }
                    buffer.put_slice(piece.get(..count).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                None => ready!(self.wire.poll_readable(context)),
            }
        }
    }
}

impl Write for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let written = match &self.frames {
                Some(frames) => frames.try_write(&self.wire, bytes)?,
                None => self.wire.try_write(bytes)?,
            };
            match written {
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

    /// The creator of the wire concludes the connection after this is gone.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
