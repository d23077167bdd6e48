//! A connected socket, unix or tcp alike, as the HTTP library reads and writes it.

use crate::system::kernel;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{io::unix::AsyncFd, time};

/// Bytes that are read at a time.
const PIECE: usize = 8 << 10;

/// Surplus bytes of a peer that are discarded, and the time for them.
const DISCARDED: usize = 1 << 20;
const DISCARDING: Duration = Duration::from_secs(1);

/// Cheap to clone: all clones share one socket.
#[derive(Clone)]
pub(crate) struct Stream(Arc<AsyncFd<OwnedFd>>);

impl Stream {
    /// Takes a non-blocking socket. Needs a runtime.
    pub(crate) fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        kernel::watched(socket.into()).map(|socket| Self(Arc::new(socket)))
    }

    /// Closes the sending side and discards unread input. Unread input would reset the connection
    /// before the peer has read the answer.
    pub(super) async fn end(self) {
        // If the peer is gone, the failure does not matter.
        shutdown(self.0.get_ref(), Shutdown::Write).ok();
        let mut sink = [0; PIECE];
        let discard = async {
            let mut discarded = 0;
            while let Ok(mut ready) = self.0.readable().await {
                match ready.try_io(|socket| Ok(recv(socket, &mut sink, RecvFlags::empty())?.0)) {
                    Ok(Ok(read @ 1..)) => discarded += read,
                    Ok(_) => break,
                    Err(_would_block) => {}
                }
                if discarded > DISCARDED {
                    break;
                }
            }
        };
        drop(time::timeout(DISCARDING, discard).await);
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            // On the stack, since the library's buffer is not initialised.
            let mut piece = [0; PIECE];
            let piece = piece.get_mut(..buffer.remaining().min(PIECE)).unwrap_or_default();
            match ready.try_io(|socket| Ok(recv(socket, &mut *piece, RecvFlags::empty())?.0)) {
                Ok(read) => {
                    buffer.put_slice(piece.get(..read?).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                Err(_would_block) => {}
            }
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            if let Ok(sent) = ready.try_io(|socket| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?)) {
                return Poll::Ready(sent);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.0.get_ref(), Shutdown::Write).map_err(io::Error::from))
    }
}
