//! A connected socket, unix or tcp alike: read, written, ended.

use crate::system::kernel;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::{io, os::fd::OwnedFd, time::Duration};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time,
};

/// What is discarded of what a peer sends beyond its request, and for how long.
const DISCARDED: usize = 1 << 20;
const DISCARDING: Duration = Duration::from_secs(1);

pub(crate) struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    /// One that does not block. Needs a runtime.
    pub(crate) fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        kernel::watched(socket.into()).map(Self)
    }

    /// Reads what is there, or waits until something is; 0 at the end.
    pub(super) async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(done) = ready.try_io(|socket| Ok(recv(socket, &mut *into, RecvFlags::empty())?.0)) {
                return done;
            }
        }
    }

    /// Writes all of it.
    pub(crate) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.0.async_io(Interest::WRITABLE, |socket| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?));
            bytes = bytes.get(sent.await?..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends it so that what was written arrives: closing it with something unread would break it off.
    pub(super) async fn end(self) {
        // Where the peer is gone there is nobody to tell.
        shutdown(self.0.get_ref(), Shutdown::Write).ok();
        let mut sink = [0; 4096];
        let discard = async {
            let mut discarded = 0;
            while let Ok(read @ 1..) = self.read(&mut sink).await {
                discarded += read;
                if discarded > DISCARDED {
                    break;
                }
            }
        };
        drop(time::timeout(DISCARDING, discard).await);
    }
}
