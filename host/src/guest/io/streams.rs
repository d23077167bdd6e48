//! The two streams of a connection in WASI 0.2.

use crate::{guest::late_start::Learner, wire::Wire};
use bytes::Bytes;
use std::{io, mem, sync::Arc};
use wasmtime_wasi_io::{
    async_trait,
    poll::Pollable,
    streams::{InputStream, OutputStream, StreamError, StreamResult},
};

/// Whether a direction of the connection ends with its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guest) enum Ownership {
    /// It does: a handler has one stream for each direction.
    Owned,
    /// It lasts as long as the guest: a program may reopen its standard streams at any time.
    Lent,
}

/// The peer's bytes. Dropping an owned stream discards the rest.
#[derive(Debug)]
pub(in crate::guest) struct Input {
    wire: Arc<Wire>,
    learner: Learner,
    ownership: Ownership,
    /// Whether the guest has waited for the bytes that it reads next.
    awaited: bool,
}

impl Input {
    pub(in crate::guest) fn new(wire: &Arc<Wire>, learner: &Learner, ownership: Ownership) -> Self {
        Self { wire: Arc::clone(wire), learner: learner.clone(), ownership, awaited: false }
    }

    fn try_read(&self, most: usize) -> StreamResult<Option<Bytes>> {
        match self.wire.try_read(most) {
            Ok(Some(bytes)) if bytes.is_empty() && most > 0 => Err(StreamError::Closed),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.wire.readable().await;
        self.awaited = true;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        // A guest that reads without waiting first may act on the lack of input.
        if mem::take(&mut self.awaited) {
            self.learner.wants_input();
        } else {
            self.learner.observable();
        }
        Ok(self.try_read(size)?.unwrap_or_default())
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size > 0 {
            self.learner.wants_input();
        }
        loop {
            match self.try_read(size)? {
                Some(bytes) => return Ok(bytes),
                None => self.wire.notified().await,
            }
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.ownership == Ownership::Owned {
            self.wire.abandon_input();
        }
    }
}

/// Bytes to the peer. Dropping an owned stream closes the sending side after everything is sent.
#[derive(Debug)]
pub(in crate::guest) struct Output {
    wire: Arc<Wire>,
    learner: Learner,
    ownership: Ownership,
}

impl Output {
    pub(in crate::guest) fn new(wire: &Arc<Wire>, learner: &Learner, ownership: Ownership) -> Self {
        Self { wire: Arc::clone(wire), learner: learner.clone(), ownership }
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.learner.observable();
        self.wire.room().await;
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.learner.observable();
        if bytes.len() > self.wire.take_permit().map_err(failed)? {
            return Err(StreamError::trap("a write of more bytes than check-write had allowed"));
        }
        self.wire.write(bytes).map_err(failed)
    }

    /// Flushing is optional for the guest, but takes effect. `check_write` waits for the bytes that
    /// could not be sent.
    fn flush(&mut self) -> StreamResult<()> {
        self.learner.observable();
        self.wire.release();
        self.wire.try_room().map(drop).map_err(failed)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.learner.observable();
        self.wire.permit().map_err(failed)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.learner.observable();
        self.wire.room().await;
        self.wire.write(bytes).map_err(failed)?;
        self.wire.room().await;
        self.wire.try_room().map(drop).map_err(failed)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.ownership == Ownership::Owned {
            self.learner.observable();
            self.wire.finish_output();
        }
    }
}
