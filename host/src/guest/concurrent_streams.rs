//! The two streams of a connection as the component model's own `stream<u8>`: straight from and to guest memory.

use super::{late_start::Learner, state::State};
use crate::wire::{CHUNK, Wire};
use bytes::Bytes;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;
use wasmtime::{
    StoreContextMut,
    component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult},
};

/// What the peer sends. Why it ended is told by `input-end`; dropping it discards the rest.
#[derive(Debug)]
pub(super) struct Input {
    wire: Arc<Wire>,
    learner: Learner,
}

impl Input {
    pub(super) fn new(wire: &Arc<Wire>, learner: &Learner) -> Self {
        Self { wire: Arc::clone(wire), learner: learner.clone() }
    }
}

impl StreamProducer<State> for Input {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            // A wait for readiness; the read that follows finds out.
            return self.wire.poll_readable(context).map(|()| Ok(StreamResult::Completed));
        }
        let mut destination = destination.as_direct(store, CHUNK);
        loop {
            match self.wire.try_read_into(destination.remaining()) {
                Ok(Some(0)) | Err(_) => {
                    self.learner.wants_input();
                    return Poll::Ready(Ok(StreamResult::Dropped));
                }
                Ok(Some(count)) => {
                    self.learner.wants_input();
                    destination.mark_written(count);
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Ok(None) if finish => {
                    self.learner.observable();
                    return Poll::Ready(Ok(StreamResult::Cancelled));
                }
                Ok(None) => ready!(self.wire.poll_readable(context)),
            }
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.wire.abandon_input();
    }
}

/// What goes to the peer. The engine drops it when the guest has closed its end: that closes the sending side.
#[derive(Debug)]
pub(super) struct Output {
    wire: Arc<Wire>,
    learner: Learner,
    /// Dropped with the rest, which tells that the guest is finished.
    _closed: oneshot::Sender<()>,
}

impl Output {
    /// The consumer, and what resolves when the guest has closed the stream.
    pub(super) fn new(wire: &Arc<Wire>, learner: &Learner) -> (Self, oneshot::Receiver<()>) {
        let (sender, closed) = oneshot::channel();
        (Self { wire: Arc::clone(wire), learner: learner.clone(), _closed: sender }, closed)
    }
}

impl StreamConsumer<State> for Output {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<State>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        self.learner.observable();
        let mut source = source.as_direct(store);
        loop {
            if source.remaining().is_empty() {
                return self.wire.poll_writable(context).map(|()| Ok(StreamResult::Completed));
            }
            match self.wire.try_write(source.remaining()) {
                Ok(Some(count)) => {
                    source.mark_read(count);
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Err(_) => return Poll::Ready(Ok(StreamResult::Dropped)),
                Ok(None) if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Ok(None) => ready!(self.wire.poll_writable(context)),
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.wire.finish_output();
    }
}
