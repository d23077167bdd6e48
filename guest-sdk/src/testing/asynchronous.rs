//! The stand-in for the host's 0.3 interfaces: streams whose operations complete, or wait, when
//! they are polled.
#![expect(clippy::panic, reason = "a guest that waits for ever is ended by the host, and a panic is what ends a test")]

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(crate) use super::wire::Resource as Connection;
use super::wire::{Received, Wire};

/// No event of a script takes more than one poll. The rest is for a handler that yields.
const PATIENCE: usize = 1000;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..PATIENCE {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
    panic!("the handler waits for something that never comes");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamResult {
    Complete(usize),
    Dropped,
    Cancelled,
}

#[derive(Debug)]
pub(crate) struct StreamReader {
    wire: Rc<RefCell<Wire>>,
    told_end: bool,
}

impl StreamReader {
    pub(super) fn new(wire: Rc<RefCell<Wire>>) -> Self {
        Self { wire, told_end: false }
    }

    pub(crate) fn read(&mut self, buffer: Vec<u8>) -> StreamRead<'_> {
        StreamRead { reader: self, buffer: Some(buffer) }
    }
}

/// A read in progress, which owns its buffer until it is done.
#[derive(Debug)]
pub(crate) struct StreamRead<'a> {
    reader: &'a mut StreamReader,
    buffer: Option<Vec<u8>>,
}

impl StreamRead<'_> {
    /// Loses the race against bytes that have arrived, as may happen in the host.
    pub(crate) fn cancel(mut self: Pin<&mut Self>) -> (StreamResult, Vec<u8>) {
        match self.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => (StreamResult::Cancelled, self.take_buffer()),
        }
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let Some(buffer) = self.buffer.take() else { panic!("a read that is done was used again: the bindings panic") };
        buffer
    }
}

impl Future for StreamRead<'_> {
    type Output = (StreamResult, Vec<u8>);

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.reader.told_end, "a read after the end was told: the host traps");
        let mut buffer = self.take_buffer();
        let room = buffer.capacity() - buffer.len();
        let received = self.reader.wire.borrow_mut().receive(room);
        let result = match received {
            Received::Bytes(bytes) => {
                buffer.extend_from_slice(&bytes);
                StreamResult::Complete(bytes.len())
            }
            // A stream alone cannot tell a failure from an end: `input-end` does.
            Received::Failure(_) | Received::End => {
                self.reader.told_end = true;
                StreamResult::Dropped
            }
            Received::Nothing => {
                self.buffer = Some(buffer);
                return Poll::Pending;
            }
        };
        Poll::Ready((result, buffer))
    }
}

#[derive(Debug)]
pub(crate) struct StreamWriter {
    wire: Rc<RefCell<Wire>>,
}

impl StreamWriter {
    pub(super) fn new(wire: Rc<RefCell<Wire>>) -> Self {
        Self { wire }
    }

    /// Returns the bytes that could not be delivered, as the bindings do; empty if all were.
    pub(crate) async fn write_all(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let mut wire = self.wire.borrow_mut();
        let before = wire.delivered.len();
        wire.deliver(&bytes);
        let delivered = wire.delivered.len() - before;
        bytes.drain(..delivered);
        bytes
    }
}

pub(crate) mod drain {
    use std::future::poll_fn;
    use std::task::Poll;

    use crate::testing::wire;

    pub(crate) async fn wait() {
        let wire = wire::current();
        poll_fn(|_| if wire.borrow().draining { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}
