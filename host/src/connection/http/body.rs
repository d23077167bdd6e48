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

/// The most that a guest may write of a discarded body, in bytes.
const MOST_DISCARDED: usize = 1 << 20;

/// The body of a request.
pub(super) struct RequestBody {
    body: Incoming,
    movement: Arc<Movement>,
    verdict: Arc<Verdict>,
    /// Resolved if the body breaks off.
    is_broken: Option<oneshot::Sender<()>>,
}

impl RequestBody {
    pub(super) fn new(
        body: Incoming,
        movement: &Arc<Movement>,
        verdict: &Arc<Verdict>,
        is_broken: oneshot::Sender<()>,
    ) -> Self {
        Self { body, movement: Arc::clone(movement), verdict: Arc::clone(verdict), is_broken: Some(is_broken) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.movement.note();
        Poll::Ready(match frame {
            Some(Err(error)) => {
                self.verdict.abandon();
                if let Some(is_broken) = self.is_broken.take() {
                    // The receiver is gone if the response has begun.
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

/// The task of a guest, which is aborted on drop.
#[derive(Debug)]
pub(super) struct GuestTask {
    task: Option<AbortHandle>,
    verdict: Arc<Verdict>,
}

impl GuestTask {
    pub(super) fn new(task: AbortHandle, verdict: Arc<Verdict>) -> Self {
        Self { task: Some(task), verdict }
    }

    /// Lets the guest run to its own end.
    fn let_go(&mut self) {
        self.task = None;
    }
}

impl Drop for GuestTask {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            self.verdict.abandon();
            task.abort();
        }
    }
}

/// The body of a response.
pub(super) struct ResponseBody {
    content: Content,
    /// Dropped once the library has queued the end of the response, not before: an idle connection
    /// may be closed.
    _underway: Underway,
}

/// The content of a response.
pub(super) enum Content {
    /// Empty, from this host.
    Empty,
    /// Written by a guest.
    Written(Box<Written>),
}

impl ResponseBody {
    pub(super) fn new(content: Content, underway: Underway) -> Self {
        Self { content, _underway: underway }
    }
}

/// The body of a guest's response. It ends cleanly only if the guest has finished it. Otherwise it
/// breaks off, so that no client mistakes a part for the whole.
pub(super) struct Written {
    body: WasiBody,
    stage: Stage,
    guest: GuestTask,
    movement: Arc<Movement>,
    /// Its total length in bytes, if the response head has one.
    length: Option<u64>,
    /// The bytes still to come.
    left: Option<u64>,
    /// The piece that completes a response of known length. The client gets it only when the guest
    /// has finished the body: after it, nothing could tell the client that the response is
    /// incomplete.
    held: Option<Bytes>,
    /// Dropped with the rest.
    _taken: oneshot::Sender<()>,
}

/// The progress of a body.
enum Stage {
    Open,
    /// The guest has finished it; these trailers are left.
    Finished(Option<HeaderMap>),
    /// It is incomplete. The bytes before the failure are sent first, and then the error.
    Flushing,
    BrokenOff,
}

/// Why a response broke off.
#[derive(Debug, thiserror::Error)]
#[error("the guest did not finish its response")]
pub(super) struct BrokenOff;

impl Written {
    /// `length` is the number of bytes that will come, if known.
    pub(super) fn new(
        body: WasiBody,
        guest: GuestTask,
        movement: Arc<Movement>,
        length: Option<u64>,
        taken: oneshot::Sender<()>,
    ) -> Self {
        Self { body, stage: Stage::Open, guest, movement, length, left: length, held: None, _taken: taken }
    }

    /// Reads a body that the client does not get, as in a response to HEAD: the guest may not know
    /// that. It ends the guest after a limit, and when dropped.
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
                // HTTP has no other kinds of frames.
                Err(trailers) => self.finish(trailers.into_trailers().ok()),
            }
        }
    }

    /// The part of a piece that the client gets now.
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

    /// The guest has finished the body.
    fn finish(&mut self, trailers: Option<HeaderMap>) {
        if self.left.is_some_and(|left| left > 0) {
            self.misses_length(self.written());
        } else if self.guest.verdict.is_cut_off() {
            // Its failure has its own record.
            self.stage = Stage::Flushing;
        } else {
            self.guest.let_go();
            self.stage = Stage::Finished(trailers);
        }
    }

    /// The guest has ended the body as incomplete.
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

    /// Bytes of a body of known length that have been written.
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

impl Body for ResponseBody {
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

    /// The end of a guest's body is unknown until polled: it may have failed.
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
