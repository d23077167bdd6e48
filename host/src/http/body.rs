//! The bodies of a request and its response, on their way between the connection and the guest.

use super::traffic::Underway;
use crate::{guest::Verdict, wire::Movement};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{sync::oneshot, task::AbortHandle};
use wasmtime_wasi_http::{Error, WasiBody};

/// The most that a guest may write of a body that nobody gets.
const MOST_DISCARDED: usize = 1 << 20;

/// What a client sends.
pub(super) struct Question {
    body: Incoming,
    movement: Arc<Movement>,
    verdict: Arc<Verdict>,
}

impl Question {
    pub(super) fn new(body: Incoming, movement: &Arc<Movement>, verdict: &Arc<Verdict>) -> Self {
        Self { body, movement: Arc::clone(movement), verdict: Arc::clone(verdict) }
    }
}

impl Body for Question {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.movement.note();
        Poll::Ready(match frame {
            Some(Err(error)) => {
                self.verdict.abandon();
                Some(Err(Error::Hyper(error)))
            }
            Some(Ok(frame)) => Some(Ok(frame)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A guest, which ends with this.
#[derive(Debug)]
pub(super) struct Answering {
    task: Option<AbortHandle>,
    verdict: Arc<Verdict>,
}

impl Answering {
    pub(super) fn new(task: AbortHandle, verdict: Arc<Verdict>) -> Self {
        Self { task: Some(task), verdict }
    }

    /// It may go on to its own end.
    fn let_go(&mut self) {
        self.task = None;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            self.verdict.abandon();
            task.abort();
        }
    }
}

/// What a client gets.
pub(super) enum Answer {
    /// Nothing, by this host's own word.
    Empty,
    /// What a guest writes.
    Written(Box<Written>),
}

/// What a guest writes. Where it fails, this breaks off, so that nobody takes a part for the whole.
pub(super) struct Written {
    body: WasiBody,
    guest: Answering,
    movement: Arc<Movement>,
    /// Bytes that are still to come, where the response's head says so.
    left: Option<u64>,
    /// What was written before the guest failed is sent before this breaks off.
    flushing: bool,
    /// Dropped with the rest.
    _taken: oneshot::Sender<()>,
    _underway: Underway,
}

/// Why a response broke off.
#[derive(Debug, thiserror::Error)]
#[error("the guest failed in the middle of its response")]
pub(super) struct BrokenOff;

impl Answer {
    /// Has the guest write what its client does not get, as in a response to HEAD: it may not know. Only so much, after which it is
    /// ended.
    pub(super) async fn discard(mut self) {
        let mut discarded = 0;
        while let Some(Ok(frame)) = self.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > MOST_DISCARDED {
                break;
            }
        }
    }

    /// `left` is how many bytes will come, where that is known.
    pub(super) fn written(
        body: WasiBody,
        guest: Answering,
        movement: Arc<Movement>,
        left: Option<u64>,
        taken: oneshot::Sender<()>,
        underway: Underway,
    ) -> Self {
        let mut written = Written { body, guest, movement, left, flushing: false, _taken: taken, _underway: underway };
        if left == Some(0) {
            // The library may not ask for its end.
            written.guest.let_go();
        }
        Self::Written(Box::new(written))
    }
}

impl Written {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match frame {
            Some(Ok(frame)) => {
                self.movement.note();
                if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                if frame.is_trailers() || self.left == Some(0) {
                    self.guest.let_go();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            None if !self.guest.verdict.has_failed() => {
                self.guest.let_go();
                Poll::Ready(None)
            }
            None | Some(Err(_)) if self.flushing => Poll::Ready(Some(Err(BrokenOff))),
            None | Some(Err(_)) => {
                self.flushing = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Written(written) => written.poll_frame(context),
        }
    }

    /// That of a guest is not known before it was asked for: it may have failed.
    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Written(written) => written.body.size_hint(),
        }
    }
}
