//! HTTP on a connection: versions 1.1 and 1.0, and 2 by ALPN or by its preface. A fresh guest
//! answers each request.
//!
//! ```text
//! wire ─► socket ─► version ─► (library) ─► request ─► slot ─► guest
//!                      └► traffic: when it has been idle for too long      └► body ─► (library) ─► socket ─► wire
//! ```
//!
//! A library (hyper) implements the protocol itself. It has no socket: it reads and writes the wire
//! as a guest with its own connection does, so TLS, half-close, deadlines and the end work as
//! there.

mod body;
pub(crate) mod framing;
mod goaway;
mod guest_slot;
mod request;
pub(crate) mod syntax;
mod traffic;
mod transport;
mod version;

use self::{
    framing::{Framing, Head},
    goaway::{Frames, Way},
    guest_slot::GuestSlots,
    request::{Client, RequestService, Responder},
    traffic::Traffic,
    transport::Transport,
    version::Version,
};
use super::{drain::Slot, service::Service};
use crate::{
    guest::{Plugin, io::Facts},
    record::{
        failure::{Failure, Reason},
        log,
    },
    wire::{CHUNK, Wire, draining::Draining},
};
use ::http::{HeaderValue, uri::Scheme};
use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::unconstrained,
    time::{self, Instant},
};

/// The largest request head, in bytes, as in nginx.
const LONGEST_HEAD: usize = 32 << 10;

/// Concurrent requests of one HTTP/2 connection.
const MOST_STREAMS: u32 = 100;

/// Bytes that a client may send on one HTTP/2 connection ahead of the guests, over all requests.
const WINDOW: u32 = 1 << 20;

/// An HTTP/1 client learns only from a response that the connection ends. When the host drains, it
/// closes a connection that has been idle for this long. A request that is sent at that moment
/// would be lost, so clients that send often are told first.
const LAST_REQUEST: Duration = Duration::from_secs(3);

/// How long an HTTP/2 client without an open request may take to acknowledge the first GOAWAY.
/// After the acknowledgement a second GOAWAY names the client's last request, and the connection
/// ends after its response.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Tasks of the library, one for each HTTP/2 request.
#[derive(Clone, Copy)]
struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        tokio::spawn(task);
    }
}

/// Waits until a connection that has never carried a request is to be closed: when the process
/// drains, and not before. Browsers open some of these.
pub(crate) async fn unasked(notice: Option<Draining>) {
    match notice {
        Some(draining) => {
            draining.wait().await;
            time::sleep(LAST_REQUEST).await;
        }
        None => std::future::pending().await,
    }
}

/// Serves one connection, whose client has sent something, until either side ends it. From
/// `notice_at` on the host tells its client that it ends.
///
/// # Errors
///
/// If the client broke the protocol or the connection, or was silent for too long. The outcome of
/// each request has its own record.
pub(crate) async fn serve(
    facts: Facts,
    service: &Arc<Service>,
    plugin: &Arc<Plugin>,
    slot: &Arc<Slot>,
    notice_at: Option<Instant>,
) -> Result<(), Failure> {
    let wire = &facts.wire;
    let traffic = Traffic::new(wire, service.timeouts.idle);
    let authority = wire.local_address().and_then(|address| HeaderValue::try_from(address.to_string()).ok());
    let responder = Arc::new(Responder {
        service: Arc::clone(service),
        plugin: Arc::clone(plugin),
        connection: facts.id,
        peer: facts.peer.clone(),
        draining: facts.draining.clone(),
        scheme: if wire.session(|_| ()).is_some() { Scheme::HTTPS } else { Scheme::HTTP },
        authority: authority.unwrap_or(HeaderValue::from_static("localhost")),
        traffic: Arc::clone(&traffic),
        guest_slots: GuestSlots::new(slot),
        client: Client::default(),
        head: Head::default(),
        last: AtomicBool::new(false),
        ends_by_close: AtomicBool::new(false),
    });
    let ending = async {
        let over = async {
            match notice_at {
                Some(notice_at) => time::sleep_until(notice_at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = facts.draining.wait() => {}
            () = over => {}
        }
    };
    let served = async {
        let (version, begun) = version::of(wire).await;
        let socket = Transport::new(wire, &traffic, begun);
        match version {
            Version::One => one(socket.framed(Framing::new(&responder.head)), &responder, ending).await,
            Version::Two => two(socket, wire, &responder, ending).await,
        }
    };
    let ended = tokio::select! {
        biased;
        ended = served => ended,
        // A client that is always ready must not use up the budget with which the runtime checks
        // timers.
        reason = unconstrained(traffic.expired()) => return Err(service.timeouts.failure(reason)),
    };
    let Err(error) = ended else { return Ok(()) };
    // The bytes read so far are a part of a request.
    wire.cut_output();
    if error.is_user() {
        if responder.ends_by_close.load(Ordering::Relaxed) {
            wire.reset_output();
        }
        // The guest's failure, which has its record.
        return Ok(());
    }
    Err(Failure { reason: Reason::PeerReset, message: log::escaped(&described(&error)) })
}

fn described(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn one(socket: Transport, responder: &Arc<Responder>, ending: impl Future<Output = ()>) -> hyper::Result<()> {
    let connection = http1::Builder::new()
        // A client may close its side after the request, and wait for the answer.
        .half_close(true)
        .max_buf_size(CHUNK)
        .max_header_size(LONGEST_HEAD)
        // `traffic` has that deadline.
        .header_read_timeout(None)
        .serve_connection(socket, RequestService(Arc::clone(responder)));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = &mut connection => return ended,
        () = ending => responder.last.store(true, Ordering::Relaxed),
    }
    tokio::select! {
        biased;
        ended = &mut connection => return ended,
        () = responder.traffic.quiet_for(LAST_REQUEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn two(
    socket: Transport,
    wire: &Wire,
    responder: &Arc<Responder>,
    ending: impl Future<Output = ()>,
) -> hyper::Result<()> {
    let traffic = &responder.traffic;
    traffic.is_multiplexed();
    let frames = Frames::new();
    let connection = http2::Builder::new(Tasks)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(LONGEST_HEAD as u32)
        .initial_stream_window_size(CHUNK as u32)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(CHUNK)
        .serve_connection(socket.followed(&frames), RequestService(Arc::clone(responder)));
    let mut connection = pin!(connection);
    let way = async {
        ending.await;
        frames.way(wire, traffic).await
    };
    let way = tokio::select! {
        biased;
        ended = &mut connection => return ended,
        way = way => way,
    };
    match way {
        Way::RoundTrip => connection.as_mut().graceful_shutdown(),
        Way::AtOnce => {
            frames.send_goaway(wire);
            return Ok(());
        }
    }
    traffic.note_change();
    tokio::select! {
        biased;
        ended = &mut connection => ended,
        // It does not acknowledge anything, and has no request open.
        () = traffic.quiet_for(GOAWAY_TIMEOUT) => Ok(()),
    }
}
