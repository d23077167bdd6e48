//! The two streams of a connection as the component model's own `stream<u8>`: straight from and to
//! guest memory.

use super::streams::Ownership;
use crate::{
    guest::{late_start::Learner, state::State},
    wire::{CHUNK, Wire},
};
use bytes::Bytes;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;
use wasmtime::{
    StoreContextMut,
    component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult},
};

/// Sends the reason why a stream failed. Dropping it means a regular end.
type Ending = oneshot::Sender<io::ErrorKind>;

/// Resolves when a stream has ended, with the error if it failed.
pub(in crate::guest) type Ended = oneshot::Receiver<io::ErrorKind>;

fn fail(ending: &mut Option<Ending>, error: &io::Error) {
    if let Some(ending) = ending.take() {
        // Fails if there is no receiver, which needs no report.
        ending.send(error.kind()).ok();
    }
}

/// The peer's bytes. Dropping an owned stream discards the rest.
#[derive(Debug)]
pub(in crate::guest) struct Input {
    wire: Arc<Wire>,
    learner: Learner,
    ownership: Ownership,
    ending: Option<Ending>,
}

impl Input {
    /// The producer, and a receiver for its end.
    pub(in crate::guest) fn new(wire: &Arc<Wire>, learner: &Learner, ownership: Ownership) -> (Self, Ended) {
        let (ending, ended) = oneshot::channel();
        (Self { wire: Arc::clone(wire), learner: learner.clone(), ownership, ending: Some(ending) }, ended)
    }
}

impl StreamProducer<State> for Input {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, State>,
        destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            // Waits for readiness; the next read finds data or an end.
            return match self.wire.poll_readable(context) {
                Poll::Pending if finish => {
                    self.learner.observable();
                    Poll::Ready(Ok(StreamResult::Cancelled))
                }
                waited => waited.map(|()| Ok(StreamResult::Completed)),
            };
        }
        let mut destination = destination.as_direct(store, CHUNK);
        loop {
            match self.wire.try_read_into(destination.remaining()) {
                Ok(Some(0)) => {
                    self.learner.wants_input();
                    return Poll::Ready(Ok(StreamResult::Dropped));
                }
                Err(error) => {
                    self.learner.wants_input();
                    fail(&mut self.ending, &error);
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
        if self.ownership == Ownership::Owned {
            self.wire.abandon_input();
        }
    }
}

/// Bytes to the peer. The engine drops it when the guest has closed its end. If it is owned, that
/// closes the sending side.
#[derive(Debug)]
pub(in crate::guest) struct Output {
    wire: Arc<Wire>,
    learner: Learner,
    ownership: Ownership,
    ending: Option<Ending>,
}

impl Output {
    /// The consumer, and a receiver that resolves when the guest has closed the stream.
    pub(in crate::guest) fn new(wire: &Arc<Wire>, learner: &Learner, ownership: Ownership) -> (Self, Ended) {
        let (ending, ended) = oneshot::channel();
        (Self { wire: Arc::clone(wire), learner: learner.clone(), ownership, ending: Some(ending) }, ended)
    }
}

impl StreamConsumer<State> for Output {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<State>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        self.learner.observable();
        let mut source = source.as_direct(store);
        loop {
            if source.remaining().is_empty() {
                return match self.wire.poll_writable(context) {
                    Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
                    waited => waited.map(|()| Ok(StreamResult::Completed)),
                };
            }
            match self.wire.try_write(source.remaining()) {
                Ok(Some(count)) => {
                    source.mark_read(count);
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Err(error) => {
                    fail(&mut self.ending, &error);
                    return Poll::Ready(Ok(StreamResult::Dropped));
                }
                Ok(None) if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Ok(None) => ready!(self.wire.poll_writable(context)),
            }
        }
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
