//! An HTTP request that a fresh guest answers, and the state that its sender needs.
//!
//! This module has what both generations of `wasi:http` share. The protocol itself is in
//! `connection/http`.

use super::{
    background::Movable,
    late_start::Learner,
    link::Handler,
    meter::{Meter, Metered},
    outcome::Outcome,
    plugin::Plugin,
    state::State,
};
use crate::{
    record::connection_id::ConnectionId,
    record::{
        failure::{Failure, Reason},
        log,
    },
    wire::{Movement, draining::Draining},
};
use futures::future::Shared;
use http::{Request, Response, uri::Scheme};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::{
    FieldMap, WasiBody, WasiHttpView,
    p2::bindings::{ProxyPre, http::types::Scheme as Scheme02},
    p3::{self, bindings::ServicePre},
};

/// A request, and the channels for its response.
pub struct Exchange {
    /// The connection on which it came.
    pub connection: ConnectionId,
    /// Whether the process drains.
    pub draining: Draining,
    /// The request, with its authority in the URI or a header.
    pub request: Request<WasiBody>,
    /// Whether it came by TLS.
    pub scheme: Scheme,
    /// Receives the response when the guest returns it; its body may still be in progress. Dropped
    /// without a response.
    pub respond: oneshot::Sender<Response<WasiBody>>,
    /// Resolves when the response has been taken from the guest.
    pub taken: Taken,
    /// The outcome of the guest.
    pub verdict: Arc<Verdict>,
    /// The time of the last byte of this request and its response.
    pub movement: Arc<Movement>,
}

/// Resolves when the sender is dropped.
pub type Taken = Shared<oneshot::Receiver<()>>;

/// The outcome of a guest that answers a request.
#[derive(Debug, Default)]
pub struct Verdict {
    cut_off: AtomicBool,
    hosts_fault: AtomicBool,
    abandoned: AtomicBool,
    unfinished: OnceLock<(Reason, String)>,
}

impl Verdict {
    /// Whether the guest ended in a way in which a truncated response body looks complete.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    /// Records that the response is incomplete, for this reason. Its client sees it aborted.
    pub fn leave_unfinished(&self, why: String) {
        // If the peer did not send its whole request, the guest may have had nothing more to write.
        let reason = if self.is_abandoned() { Reason::PeerReset } else { Reason::Error };
        // The first reason is the cause of the others.
        self.unfinished.get_or_init(|| (reason, why));
    }

    /// The failure of an incomplete response.
    pub fn unfinished(&self) -> Option<Failure> {
        let (reason, why) = self.unfinished.get()?;
        Some(Failure { reason: *reason, message: log::escaped(why) })
    }

    /// Whether this host failed.
    pub fn is_hosts_fault(&self) -> bool {
        self.hosts_fault.load(Ordering::Relaxed)
    }

    /// Records that the peer is gone: a failure of the guest after that is not its fault.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// Marks a guest of WASI 0.3 as cut off unless it finished. Drop it before the guest's store: the
/// engine cannot tell a body that ends with its store from a complete one. On WASI 0.2 the store
/// itself aborts unfinished bodies.
struct Unfinished(Option<Arc<Verdict>>);

impl Unfinished {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(verdict) = &self.0 {
            verdict.cut_off.store(true, Ordering::Release);
        }
    }
}

/// The guest's single answer to a request: a response, or the reason why there is none.
struct Reply {
    respond: oneshot::Sender<Response<WasiBody>>,
    refusal: Arc<Mutex<Option<String>>>,
}

impl Reply {
    fn send(self, result: Result<Response<WasiBody>, String>) {
        let refusal = match result {
            Ok(response) if response.status().is_informational() => {
                format!("the guest's response has the status {}, which cannot be a final status", response.status())
            }
            Ok(response) => {
                // Fails if the peer is gone, which needs no report.
                self.respond.send(response).ok();
                String::new()
            }
            Err(refusal) => refusal,
        };
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).replace(refusal);
    }
}

/// The state of a finished guest, in the order in which it is dropped: the place becomes free when
/// the store is gone.
struct Answered<P> {
    ended: wasmtime::Result<()>,
    unfinished: Unfinished,
    store: Store<State>,
    place: P,
}

impl Plugin {
    /// Whether its guests answer requests, instead of having the connection itself.
    pub fn speaks_http(&self) -> bool {
        matches!(self.handler, Handler::Http02(_) | Handler::Http03(_))
    }

    /// Answers one request with a fresh guest, which holds its `place` while it exists. When this
    /// returns, the guest is gone; when it is dropped, it is gone soon. On WASI 0.2 it returns when
    /// the guest's function has returned, which may be long after its response. On 0.3 it returns
    /// when the response has been taken.
    ///
    /// # Errors
    ///
    /// If the guest or this host failed, or the peer broke off the request.
    pub async fn answer(self: &Arc<Self>, exchange: Exchange, place: impl Send + 'static) -> Result<(), Failure> {
        let Exchange { connection, draining, request, scheme, respond, taken, verdict, movement } = exchange;
        let meter = Meter::new(self.limits.guest_cpu_time, &movement, &self.pool.clock);
        let refusal = Arc::default();
        let reply = Reply { respond, refusal: Arc::clone(&refusal) };
        let (plugin, metered, told) = (Arc::clone(self), Arc::clone(&meter), Arc::clone(&verdict));
        let call = Box::pin(async move {
            let place = place;
            let mut store = plugin.store(connection, draining, None, &metered);
            let unfinished = Unfinished(matches!(plugin.handler, Handler::Http03(_)).then_some(told));
            let ended = {
                let call = pin!(async {
                    match &plugin.handler {
                        Handler::Http02(pre) => call_0_2(pre, &mut store, request, scheme, reply).await,
                        Handler::Http03(pre) => call_0_3(pre, &mut store, request, scheme, reply, taken).await,
                        _ => Err(wasmtime::Error::msg("it does not answer requests")),
                    }
                });
                Metered::new(call, &metered, Learner::default()).await
            };
            Answered { ended, unfinished, store, place }
        });
        // In this order, because they are dropped in reverse.
        let Answered { place: _place, store, unfinished, ended } = Movable::new(call, Arc::clone(&meter)).await;
        let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        let judged = ended.map_err(|error| (Outcome::of(&error, &store, &meter), error));
        let failure = match (judged, refusal) {
            (Err((Some(outcome), error)), _) => outcome.failure(&error, self.symbols.as_ref()).await,
            (Ok(()) | Err((None, _)), Some(refusal)) if refusal.is_empty() => {
                unfinished.finish();
                return Ok(());
            }
            (Ok(()) | Err((None, _)), refusal) => {
                let message = refusal.unwrap_or_else(|| "the guest returned without a response".to_owned());
                Failure { reason: Reason::Error, message: log::escaped(&message) }
            }
        };
        verdict.hosts_fault.store(failure.reason == Reason::Host, Ordering::Relaxed);
        drop(unfinished);
        Err(if verdict.is_abandoned() && matches!(failure.reason, Reason::Error | Reason::Trap) {
            Failure { reason: Reason::PeerReset, ..failure }
        } else {
            failure
        })
    }
}

async fn call_0_2(
    pre: &ProxyPre<State>,
    store: &mut Store<State>,
    request: Request<WasiBody>,
    scheme: Scheme,
    reply: Reply,
) -> wasmtime::Result<()> {
    let guest = pre.instantiate_async(&mut *store).await?;
    let scheme = if scheme == Scheme::HTTPS { Scheme02::Https } else { Scheme02::Http };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, request)?;
    let response = http.new_response_outparam_from_callback(move |response| {
        reply.send(response.map_err(|code| format!("the guest answered with an error: {code:?}")));
    })?;
    guest.wasi_http_incoming_handler().call_handle(store, request, response).await
}

async fn call_0_3(
    pre: &ServicePre<State>,
    store: &mut Store<State>,
    request: Request<WasiBody>,
    scheme: Scheme,
    reply: Reply,
    taken: Taken,
) -> wasmtime::Result<()> {
    let guest = pre.instantiate_async(&mut *store).await?;
    let (head, body) = request.into_parts();
    let authority = head.uri.authority().cloned().or_else(|| {
        let host = head.headers.get(http::header::HOST)?;
        host.as_bytes().try_into().ok()
    });
    let headers = FieldMap::new_immutable(store.data_mut().http().hooks, head.headers);
    let path = head.uri.path_and_query().cloned();
    let (request, _processed) = p3::Request::new(head.method, Some(scheme), authority, path, headers, None, body);
    store
        .run_concurrent(async |accessor| {
            let response = match guest.handle(accessor, request).await? {
                Ok(response) => response,
                Err(code) => {
                    reply.send(Err(format!("the guest answered with an error: {code:?}")));
                    return Ok::<_, wasmtime::Error>(());
                }
            };
            // The result that the guest could see of its response: a bad one ends the guest
            // instead.
            let response = accessor.with(|store| response.into_http(store, async { Ok(()) }))?;
            reply.send(Ok(response));
            drop(taken.await);
            Ok(())
        })
        .await?
}
