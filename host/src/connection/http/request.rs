//! One request, from its head to its answer: the requests that this host rejects, the guest's slot,
//! the guest, and the log record of a failed request.

use super::{
    body::{Content, GuestTask, RequestBody, ResponseBody, Written},
    framing::{Head, Length},
    guest_slot::GuestSlots,
    syntax,
    traffic::Traffic,
};
use crate::{
    connection::{service::Service, timeouts::Timeouts},
    guest::{Exchange, Plugin, Verdict},
    net::PeerAddress,
    record::connection_id::ConnectionId,
    record::{
        failure::{Failure, Fault, Reason},
        log,
    },
    wire::{Movement, draining::Draining},
};
use futures::FutureExt;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    uri::Scheme,
};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    sync::{oneshot, watch},
    task::unconstrained,
    time::{self, Instant},
};
use tracing::{debug, error, warn};

/// The shared state of all requests of a connection.
pub(super) struct Responder {
    pub(super) service: Arc<Service>,
    pub(super) plugin: Arc<Plugin>,
    pub(super) connection: ConnectionId,
    pub(super) peer: PeerAddress,
    pub(super) draining: Draining,
    pub(super) scheme: Scheme,
    /// The host name for a client that names none.
    pub(super) authority: HeaderValue,
    pub(super) traffic: Arc<Traffic>,
    pub(super) guest_slots: GuestSlots,
    pub(super) client: Client,
    /// The state of the last HTTP/1 head.
    pub(super) head: Head,
    /// Whether each response is to say that it is the last.
    pub(super) last: AtomicBool,
    /// Whether the end of the connection marks the end of the response.
    pub(super) ends_by_close: AtomicBool,
}

/// The client of a connection, present until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Client(watch::Sender<()>);

impl Client {
    /// Resolves when the client is gone, so that a response would be lost.
    fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut gone = self.0.subscribe();
        // No value is ever sent: this ends with the sender.
        async move { while gone.changed().await.is_ok() {} }
    }
}

/// The service that the library calls.
#[derive(Clone)]
pub(super) struct RequestService(pub(super) Arc<Responder>);

impl hyper::service::Service<Request<Incoming>> for RequestService {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let responder = Arc::clone(&self.0);
        // Counted from here on, so that the idle check sees no gap.
        let (ordinal, underway) = responder.traffic.begin();
        responder.head.is_followed_by(if request.headers().contains_key(TRANSFER_ENCODING) {
            Length::Chunked
        } else {
            Length::Known(request.body().size_hint().exact().unwrap_or(0))
        });
        let refusal =
            if responder.head.has_fragment() { Some(StatusCode::BAD_REQUEST) } else { syntax::refusal(&request) };
        Box::pin(async move {
            let version = request.version();
            let (mut response, is_last) = match refusal {
                // Bytes after this request may be misread.
                Some(refused) => (empty(refused), true),
                None => (responder.respond(request, ordinal).await, responder.last.load(Ordering::Relaxed)),
            };
            if is_last && version <= Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|content| ResponseBody::new(content, underway)))
        })
    }
}

fn empty(status: StatusCode) -> Response<Content> {
    let mut response = Response::new(Content::Empty);
    *response.status_mut() = status;
    response
}

impl Responder {
    async fn respond(&self, mut request: Request<Incoming>, ordinal: u64) -> Response<Content> {
        syntax::join_cookies(request.headers_mut());
        match request.uri().authority() {
            // The authority in a full URI wins over the field (RFC 9112, section 3.2.2).
            Some(authority) if request.headers().contains_key(HOST) => {
                if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                    request.headers_mut().insert(HOST, host);
                }
            }
            None if !request.headers().contains_key(HOST) => {
                request.headers_mut().insert(HOST, self.authority.clone());
            }
            _ => {}
        }
        let movement = Arc::<Movement>::default();
        let deadlines = Deadlines::new(&movement, &self.service.timeouts);
        let verdict = Arc::<Verdict>::default();
        let mut record = Record::new(self, &request, ordinal, &verdict);
        let guest_slot = tokio::select! {
            biased;
            guest_slot = self.guest_slots.next() => guest_slot,
            reason = deadlines.expired() => {
                record.end(Err(Failure { reason, message: "no slot for a guest became free".to_owned() }));
                return empty(StatusCode::SERVICE_UNAVAILABLE);
            }
        };
        movement.note();

        let (is_head, version) = (request.method() == Method::HEAD, request.version());
        let (respond, response) = oneshot::channel();
        let (is_broken, broken) = oneshot::channel();
        let (taken_from_it, taken) = oneshot::channel();
        let taken = taken.shared();
        let exchange = Exchange {
            connection: self.connection,
            draining: self.draining.clone(),
            request: request.map(|body| RequestBody::new(body, &movement, &verdict, is_broken).boxed_unsync()),
            scheme: self.scheme.clone(),
            respond,
            taken: taken.clone(),
            verdict: Arc::clone(&verdict),
            movement: Arc::clone(&movement),
        };
        let guest = {
            let plugin = Arc::clone(&self.plugin);
            // A task of its own: the guest runs whether or not its client reads the response, and
            // may run on after it.
            tokio::spawn(async move {
                let ended = tokio::select! {
                    biased;
                    ended = plugin.answer(exchange, guest_slot) => ended,
                    reason = unconstrained(deadlines.expired()) => Err(deadlines.timeouts.failure(reason)),
                };
                if ended.is_ok() {
                    // Only now is it known whether the response is complete.
                    drop(taken.await);
                }
                record.end(ended);
            })
        };
        let guest = GuestTask::new(guest.abort_handle(), Arc::clone(&verdict));
        let response = tokio::select! {
            biased;
            // Whatever the guest does: the client did not send the announced body.
            Ok(()) = broken => return empty(StatusCode::BAD_REQUEST),
            response = response => response,
        };
        let Ok(response) = response else {
            // Set before the sender was dropped.
            return empty(if verdict.is_hosts_fault() {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            });
        };
        movement.note();
        let (head, body) = response.into_parts();
        let declared = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length = declared.or_else(|| body.size_hint().exact());
        let bodiless = is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || length == Some(0) {
            let length = length.filter(|_| !bodiless);
            // The guest's writes count as no movement: the client does not get them.
            let unread = Written::new(body, guest, Arc::default(), length, taken_from_it);
            let gone = self.client.gone();
            tokio::spawn(async move {
                tokio::select! {
                    () = unread.discard() => {}
                    () = gone => {}
                }
            });
            return Response::from_parts(head, Content::Empty);
        }
        self.ends_by_close.store(version < Version::HTTP_11 && length.is_none(), Ordering::Relaxed);
        let written = Written::new(body, guest, movement, length, taken_from_it);
        Response::from_parts(head, Content::Written(Box::new(written)))
    }
}

/// The deadlines of one request.
struct Deadlines {
    movement: Arc<Movement>,
    timeouts: Timeouts,
    begun: Instant,
}

impl Deadlines {
    fn new(movement: &Arc<Movement>, timeouts: &Timeouts) -> Self {
        Self { movement: Arc::clone(movement), timeouts: *timeouts, begun: Instant::now() }
    }

    /// Waits until it has lasted too long, or nothing of it has moved for too long.
    async fn expired(&self) -> Reason {
        let over = self.timeouts.connection.map(|timeout| self.begun + timeout);
        loop {
            let idle = self.timeouts.idle.map(|timeout| Instant::from_std(self.movement.last()) + timeout);
            let (due, reason) = match (over, idle) {
                (Some(over), Some(idle)) if idle < over => (idle, Reason::Idle),
                (Some(over), _) => (over, Reason::WallTime),
                (None, Some(idle)) => (idle, Reason::Idle),
                (None, None) => return std::future::pending().await,
            };
            if due <= Instant::now() {
                return reason;
            }
            time::sleep_until(due).await;
        }
    }
}

/// The log record of a request, if it needs one.
struct Record {
    verdict: Arc<Verdict>,
    service: Arc<Service>,
    plugin: Arc<str>,
    connection: ConnectionId,
    peer: PeerAddress,
    ordinal: u64,
    method: Method,
    path: String,
    begun: Instant,
    ended: bool,
}

impl Record {
    fn new(responder: &Responder, request: &Request<Incoming>, ordinal: u64, verdict: &Arc<Verdict>) -> Self {
        Self {
            verdict: Arc::clone(verdict),
            service: Arc::clone(&responder.service),
            plugin: Arc::clone(responder.plugin.name()),
            connection: responder.connection,
            peer: responder.peer.clone(),
            ordinal,
            method: request.method().clone(),
            // Without the query, which may be private.
            path: request.uri().path().to_owned(),
            begun: Instant::now(),
            ended: false,
        }
    }

    fn end(&mut self, how: Result<(), Failure>) {
        self.ended = true;
        let failure = match how {
            Ok(()) => self.verdict.unfinished(),
            Err(failure) => Some(failure),
        };
        let Some(failure) = failure else { return };
        let (reason, error) = (failure.reason, failure.told());
        let Self { plugin, connection, peer, ordinal: request, .. } = &*self;
        let (method, path) = (log::escaped(self.method.as_str()), log::escaped(&self.path));
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! tell {
            ($level:ident $(, $more:ident)*) => {
                $level!(%plugin, %connection, %peer, request, method, path, ms, %reason, error, $($more,)* "request failed")
            };
        }
        match (reason.fault(), self.service.should_log(reason)) {
            (Fault::Plugin, Some(suppressed)) => tell!(warn, suppressed),
            (Fault::Host, Some(suppressed)) => tell!(error, suppressed),
            _ => tell!(debug),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            // Dropped by the runtime: the client is gone, the response broke off, or a panic
            // occurred.
            let reason = if std::thread::panicking() { Reason::Host } else { Reason::PeerReset };
            self.end(Err(self.verdict.unfinished().unwrap_or(Failure::plain(reason))));
        }
    }
}
