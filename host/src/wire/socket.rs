//! A connection's socket: tried first, and watched by the reactor only when a task has to wait for
//! it.
//!
//! A peer that sends its request before the accept is answered without the reactor, except to wait
//! for the peer's end.

use crate::system::kernel;
use std::{
    future::pending,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{Interest, unix::AsyncFd};

#[derive(Debug)]
pub(super) struct Socket {
    descriptor: Arc<OwnedFd>,
    watched: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    /// The reason why the reactor does not accept the socket.
    refusal: OnceLock<io::Error>,
    /// The last read emptied the socket. Unused once the reactor watches it.
    emptied: AtomicBool,
}

impl Socket {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self {
            descriptor: Arc::new(descriptor),
            watched: OnceLock::new(),
            refusal: OnceLock::new(),
            emptied: AtomicBool::new(false),
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// The reason why the reactor does not accept the socket, if it was asked to.
    pub(super) fn refusal(&self) -> Option<&io::Error> {
        self.refusal.get()
    }

    /// Registers the socket with the runtime's reactor, which watches it from here on.
    fn watched(&self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        if let Some(watched) = self.watched.get() {
            return Ok(watched);
        }
        let watched = kernel::watched(Arc::clone(&self.descriptor)).map_err(|error| {
            let kind = error.kind();
            self.refusal.set(error).ok();
            kind
        })?;
        // A race is impossible: a connection and its guest are one task.
        Ok(self.watched.get_or_init(|| watched))
    }

    /// Reads, unless the socket is known to be empty. `WouldBlock` from `read` marks it as empty,
    /// even after some bytes.
    pub(super) fn try_read<T>(&self, read: impl FnOnce(&OwnedFd) -> io::Result<T>) -> io::Result<T> {
        if self.watched.get().is_some() || self.emptied.load(Ordering::Relaxed) {
            return self.watched()?.try_io(Interest::READABLE, |socket| read(socket));
        }
        read(&self.descriptor).inspect_err(|error| {
            self.emptied.store(error.kind() == io::ErrorKind::WouldBlock, Ordering::Relaxed);
        })
    }

    /// Writes, unless the socket is known to have no room.
    pub(super) fn try_write<T>(&self, write: impl FnOnce(&OwnedFd) -> io::Result<T>) -> io::Result<T> {
        match self.watched.get() {
            Some(watched) => watched.try_io(Interest::WRITABLE, |socket| write(socket)),
            None => write(&self.descriptor),
        }
    }

    /// Waits for readiness to read.
    ///
    /// # Errors
    ///
    /// If the reactor does not accept the socket.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self.watched()?.readable().await {
            Ok(mut ready) => ready.retain_ready(),
            Err(_) => pending().await, // The runtime is shutting down.
        }
        Ok(())
    }

    /// Waits for readiness to write.
    ///
    /// # Errors
    ///
    /// If the reactor does not accept the socket.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self.watched()?.writable().await {
            Ok(mut ready) => ready.retain_ready(),
            Err(_) => pending().await, // The runtime is shutting down.
        }
        Ok(())
    }

    /// [`Self::readable`] for streams that are polled.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.watched()?.poll_read_ready(context)) {
            Ok(mut ready) => ready.retain_ready(),
            Err(_) => return Poll::Pending, // The runtime is shutting down.
        }
        Poll::Ready(Ok(()))
    }

    /// [`Self::writable`] for streams that are polled.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.watched()?.poll_write_ready(context)) {
            Ok(mut ready) => ready.retain_ready(),
            Err(_) => return Poll::Pending, // The runtime is shutting down.
        }
        Poll::Ready(Ok(()))
    }
}
