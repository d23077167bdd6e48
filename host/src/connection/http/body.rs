//! The bodies of a request and its response, on their way between the connection and the guest.

use super::traffic::Underway;
use crate::{guest::Verdict, wire::Movement};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    future::poll_fn,
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
    /// Answered when it does not come as it should.
    is_broken: Option<oneshot::Sender<()>>,
}

impl Question {
    pub(super) fn new(
        body: Incoming,
        movement: &Arc<Movement>,
        verdict: &Arc<Verdict>,
        is_broken: oneshot::Sender<()>,
    ) -> Self {
        Self { body, movement: Arc::clone(movement), verdict: Arc::clone(verdict), is_broken: Some(is_broken) }
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
                if let Some(is_broken) = self.is_broken.take() {
                    // Nobody waits where the response has begun.
                    is_broken.send(()).ok();
                }
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

/// The body of a response.
pub(super) struct Answer {
    content: Content,
    /// Dropped when the library has queued the response's end, and not before: a connection that looks quiet may be closed.
    _underway: Underway,
}

/// What a client gets.
pub(super) enum Content {
    /// Nothing, by this host's own word.
    Empty,
    /// What a guest writes.
    Written(Box<Written>),
}

impl Answer {
    pub(super) fn new(content: Content, underway: Underway) -> Self {
        Self { content, _underway: underway }
    }
}

/// The body of a guest's response. It ends well only if the guest has finished it; otherwise it breaks off, so that no client takes a
/// part for the whole.
pub(super) struct Written {
    body: WasiBody,
    stage: Stage,
    guest: Answering,
    movement: Arc<Movement>,
    /// Bytes of it in all, where the response's head says so.
    length: Option<u64>,
    /// Those of them that are still to come.
    left: Option<u64>,
    /// The piece that completes a response of known length. The client gets it when the guest has finished the body: from then on
    /// nothing could tell the client that the response is not whole.
    held: Option<Bytes>,
    /// Dropped with the rest.
    _taken: oneshot::Sender<()>,
}

/// How far a body is.
enum Stage {
    Open,
    /// The guest has finished it; these trailers are left.
    Finished(Option<HeaderMap>),
    /// It is not whole. What was written before is sent first, and then the error.
    Flushing,
    BrokenOff,
}

/// Why a response broke off.
#[derive(Debug, thiserror::Error)]
#[error("the guest did not finish its response")]
pub(super) struct BrokenOff;

impl Written {
    /// `length` is how many bytes will come, where that is known.
    pub(super) fn new(
        body: WasiBody,
        guest: Answering,
        movement: Arc<Movement>,
        length: Option<u64>,
        taken: oneshot::Sender<()>,
    ) -> Self {
        Self { body, stage: Stage::Open, guest, movement, length, left: length, held: None, _taken: taken }
    }

    /// Has the guest write what its client does not get, as in a response to HEAD: it may not know. Only so much, after which it is
    /// ended. Dropping this ends it too.
    pub(super) async fn discard(mut self) {
        let mut discarded = 0;
        while let Some(Ok(frame)) = poll_fn(|context| self.poll_frame(context)).await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > MOST_DISCARDED {
                break;
            }
        }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            match &mut self.stage {
                Stage::Open => {}
                Stage::Finished(trailers) => {
                    let rest = self.held.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                    return Poll::Ready(rest.map(Ok));
                }
                Stage::Flushing => {
                    self.stage = Stage::BrokenOff;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Stage::BrokenOff => return Poll::Ready(Some(Err(BrokenOff))),
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.break_off(&error);
                    continue;
                }
                None => {
                    self.finish(None);
                    continue;
                }
            };
            self.movement.note();
            match frame.into_data() {
                Ok(data) => {
                    if let Some(data) = self.pass(data) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                // There are no other kinds of frames.
                Err(trailers) => self.finish(trailers.into_trailers().ok()),
            }
        }
    }

    /// What of a piece the client gets now.
    fn pass(&mut self, data: Bytes) -> Option<Bytes> {
        let Some(left) = &mut self.left else { return Some(data) };
        let length = data.len() as u64;
        match left.checked_sub(length) {
            None => {
                self.misses_length(self.written().saturating_add(length));
                None
            }
            Some(_) if length == 0 => None,
            Some(0) => {
                self.left = Some(0);
                self.held = Some(data);
                None
            }
            Some(rest) => {
                self.left = Some(rest);
                Some(data)
            }
        }
    }

    /// The guest has ended the body.
    fn finish(&mut self, trailers: Option<HeaderMap>) {
        if self.left.is_some_and(|left| left > 0) {
            self.misses_length(self.written());
        } else if self.guest.verdict.is_cut_off() {
            // Its failure has a record.
            self.stage = Stage::Flushing;
        } else {
            self.guest.let_go();
            self.stage = Stage::Finished(trailers);
        }
    }

    /// The guest has ended the body as one that is not whole.
    fn break_off(&mut self, error: &Error) {
        match (self.left, error) {
            (Some(1..), Error::HttpProtocolError) => self.misses_length(self.written()),
            (Some(_), Error::HttpResponseBodySize(Some(length))) => self.misses_length(*length),
            (_, Error::HttpProtocolError) => {
                self.leave_unfinished("the guest did not finish the body of its response".to_owned());
            }
            (_, error) => {
                self.leave_unfinished(format!("the guest ended the body of its response with an error: {error}"));
            }
        }
    }

    /// Bytes of a body of known length that have come.
    fn written(&self) -> u64 {
        self.length.unwrap_or(0) - self.left.unwrap_or(0)
    }

    fn misses_length(&mut self, written: u64) {
        let length = self.length.unwrap_or(0);
        self.leave_unfinished(format!("the guest wrote {written} bytes of a body whose content-length is {length}"));
    }

    fn leave_unfinished(&mut self, why: String) {
        self.guest.verdict.leave_unfinished(why);
        self.stage = Stage::Flushing;
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Written(written) => written.poll_frame(context),
        }
    }

    /// That of a guest is not known before it was asked for: it may have failed.
    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Written(written) => written.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
