//! One request, from its head to its answer: what this host refuses by itself, the guest's place, the guest, and the one log
//! record of one that failed.

use super::{
    body::{Answer, Answering, Question},
    traffic::{Traffic, Underway},
    turn::Turns,
};
use crate::{
    bind::PeerAddress,
    config::Timeouts,
    drain::Draining,
    guest::{ConnectionId, Exchange, Failure, Fault, Plugin, Reason, Verdict},
    log,
    service::Service,
    wire::Movement,
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST},
    uri::{Authority, Scheme},
};
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
    sync::oneshot,
    task::unconstrained,
    time::{self, Instant},
};
use tracing::{debug, error, warn};

/// What all requests of a connection have in common.
pub(super) struct Responder {
    pub(super) service: Arc<Service>,
    pub(super) plugin: Arc<Plugin>,
    pub(super) connection: ConnectionId,
    pub(super) peer: PeerAddress,
    pub(super) draining: Draining,
    pub(super) scheme: Scheme,
    /// What a client that names no host means.
    pub(super) authority: HeaderValue,
    pub(super) traffic: Arc<Traffic>,
    pub(super) turns: Turns,
    /// Whether each response is to say that it is the last.
    pub(super) last: AtomicBool,
}

/// The library asks this.
#[derive(Clone)]
pub(super) struct Asked(pub(super) Arc<Responder>);

impl hyper::service::Service<Request<Incoming>> for Asked {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let responder = Arc::clone(&self.0);
        // From here on, so that whoever watches the connection sees no gap.
        let (ordinal, underway) = responder.traffic.begin();
        Box::pin(async move {
            let version = request.version();
            let mut response = match responder.refusal(&request) {
                Some(refused) => empty(refused),
                None => responder.respond(request, ordinal, underway).await,
            };
            if responder.last.load(Ordering::Relaxed) && version <= Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

fn empty(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Empty);
    *response.status_mut() = status;
    response
}

impl Responder {
    /// What is answered without a guest.
    fn refusal(&self, request: &Request<Incoming>) -> Option<StatusCode> {
        if request.method() == Method::CONNECT {
            // No proxy, and no tunnel.
            return Some(StatusCode::NOT_IMPLEMENTED);
        }
        // As RFC 9112 (section 3.2) asks. What has its authority in the URI needs no header for it.
        let mut hosts = request.headers().get_all(HOST).iter();
        let is_clear = match (hosts.next(), hosts.next()) {
            (None, _) => request.version() != Version::HTTP_11 && self.names_authority(request),
            (Some(host), None) => Authority::try_from(host.as_bytes()).is_ok(),
            (Some(_), Some(_)) => false,
        };
        (!is_clear).then_some(StatusCode::BAD_REQUEST)
    }

    /// HTTP/2 has it in the URI; of HTTP/1.0 it is ours.
    fn names_authority(&self, request: &Request<Incoming>) -> bool {
        request.uri().authority().is_some() || request.version() < Version::HTTP_11
    }

    async fn respond(&self, mut request: Request<Incoming>, ordinal: u64, underway: Underway) -> Response<Answer> {
        if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, self.authority.clone());
        }
        let movement = Arc::<Movement>::default();
        let deadlines = Deadlines::new(&movement, &self.service.timeouts);
        let mut record = Record::new(self, &request, ordinal);
        let turn = tokio::select! {
            biased;
            turn = self.turns.next() => turn,
            reason = deadlines.expired() => {
                record.end(Err(Failure { reason, message: "no place for a guest became free".to_owned() }));
                return empty(StatusCode::SERVICE_UNAVAILABLE);
            }
        };
        movement.note();

        let verdict = Arc::<Verdict>::default();
        let is_head = request.method() == Method::HEAD;
        let (respond, response) = oneshot::channel();
        let (taken_from_it, taken) = oneshot::channel();
        let exchange = Exchange {
            connection: self.connection,
            draining: self.draining.clone(),
            request: request.map(|body| Question::new(body, &movement, &verdict).boxed_unsync()),
            scheme: self.scheme.clone(),
            respond,
            taken,
            verdict: Arc::clone(&verdict),
            movement: Arc::clone(&movement),
        };
        let guest = {
            let plugin = Arc::clone(&self.plugin);
            // A task of its own: the guest works whether or not its client takes what it writes, and may go on after that.
            tokio::spawn(async move {
                let ended = tokio::select! {
                    biased;
                    ended = plugin.answer(exchange, turn) => ended,
                    reason = unconstrained(deadlines.expired()) => Err(Failure::plain(reason)),
                };
                record.end(ended);
            })
        };
        let guest = Answering::new(guest.abort_handle(), Arc::clone(&verdict));
        let Ok(response) = response.await else {
            // Said before the sender was dropped.
            return empty(if verdict.is_hosts_fault() {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            });
        };
        movement.note();
        let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let left = length.and_then(|length| length.parse().ok()).filter(|_| !is_head);
        let bodiless = is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let response = response.map(|body| Answer::written(body, guest, movement, left, taken_from_it, underway));
        if !bodiless {
            return response;
        }
        let (head, body) = response.into_parts();
        tokio::spawn(body.discard());
        Response::from_parts(head, Answer::Empty)
    }
}

/// When a request has to be answered in full.
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

/// The log record of a request, where there is something to say.
struct Record {
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
    fn new(responder: &Responder, request: &Request<Incoming>, ordinal: u64) -> Self {
        Self {
            service: Arc::clone(&responder.service),
            plugin: Arc::clone(responder.plugin.name()),
            connection: responder.connection,
            peer: responder.peer.clone(),
            ordinal,
            method: request.method().clone(),
            // Without what follows the path, which may be nobody else's business.
            path: request.uri().path().to_owned(),
            begun: Instant::now(),
            ended: false,
        }
    }

    fn end(&mut self, how: Result<(), Failure>) {
        self.ended = true;
        let Err(failure) = how else { return };
        let (reason, error) = (failure.reason, failure.told());
        let Self { plugin, connection, peer, ordinal: request, .. } = &*self;
        let (method, path) = (log::escaped(self.method.as_str()), log::escaped(&self.path));
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! tell {
            ($level:ident $(, $more:ident)*) => {
                $level!(%plugin, %connection, %peer, request, method, path, ms, %reason, error, $($more,)* "request failed")
            };
        }
        match (reason.fault(), self.service.to_be_told(reason)) {
            (Fault::Plugin, Some(suppressed)) => tell!(warn, suppressed),
            (Fault::Host, Some(suppressed)) => tell!(error, suppressed),
            _ => tell!(debug),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            // Dropped by the runtime: because its client is gone, or because of a panic.
            let reason = if std::thread::panicking() { Reason::Host } else { Reason::PeerReset };
            self.end(Err(Failure::plain(reason)));
        }
    }
}
