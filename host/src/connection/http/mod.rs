//! HTTP on a connection: versions 1.1 and 1.0, and 2 by what was agreed upon or by its first bytes. Each request is answered by a
//! fresh guest.
//!
//! ```text
//! wire ─► socket ─► version ─► (library) ─► request ─► turn ─► guest
//!                      └► traffic: when it has been quiet for too long      └► body ─► (library) ─► socket ─► wire
//! ```
//!
//! The protocol itself is a library's (hyper), which knows no socket: it reads and writes the wire as a guest does whose kind has
//! the connection for itself, so that TLS, half-close, deadlines and the end are what they are there.

mod body;
mod farewell;
pub(crate) mod framing;
mod request;
pub(crate) mod syntax;
mod traffic;
mod transport;
mod turn;
mod version;

use self::{
    farewell::{Frames, Way},
    framing::{Framing, Head},
    request::{Asked, Client, Responder},
    traffic::Traffic,
    transport::Transport,
    turn::Turns,
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

/// The most that the head of a request may have, in bytes: what nginx takes.
const LONGEST_HEAD: usize = 32 << 10;

/// Requests of one connection that are answered at once, in HTTP/2.
const MOST_STREAMS: u32 = 100;

/// What a client may send on one connection beyond what guests have taken: over all requests of HTTP/2.
const WINDOW: u32 = 1 << 20;

/// A client of HTTP/1 can only be told to go by a response. One that has asked for nothing for so long when told to go is closed:
/// a request that it sends at that moment would be lost, so that those who ask often are told first.
const LAST_REQUEST: Duration = Duration::from_secs(3);

/// How long a client of HTTP/2 may take to acknowledge the first GOAWAY while it has no request open. After the acknowledgement a
/// second GOAWAY names the client's last request, and the connection ends after its response.
const FAREWELL: Duration = Duration::from_secs(5);

/// Tasks of the library, one for each request of HTTP/2.
#[derive(Clone, Copy)]
struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        tokio::spawn(task);
    }
}

/// Waits until a connection that was never used for a request is not kept any longer, as browsers make some: when the process
/// ends, and not before.
pub(crate) async fn unasked(notice: Option<Draining>) {
    match notice {
        Some(draining) => {
            draining.wait().await;
            time::sleep(LAST_REQUEST).await;
        }
        None => std::future::pending().await,
    }
}

/// Serves one connection, whose client has sent something, until either side ends it. From `told_at` on its client is told to go.
///
/// # Errors
///
/// Where the client broke the protocol or the connection, or was silent for too long. What becomes of each request has a record of
/// its own.
pub(crate) async fn serve(
    facts: Facts,
    service: &Arc<Service>,
    plugin: &Arc<Plugin>,
    slot: &Arc<Slot>,
    told_at: Option<Instant>,
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
        turns: Turns::new(slot),
        client: Client::default(),
        head: Head::default(),
        last: AtomicBool::new(false),
        ends_by_close: AtomicBool::new(false),
    });
    let told = async {
        let over = async {
            match told_at {
                Some(told_at) => time::sleep_until(told_at).await,
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
            Version::One => one(socket.framed(Framing::new(&responder.head)), &responder, told).await,
            Version::Two => two(socket, wire, &responder, told).await,
        }
    };
    let ended = tokio::select! {
        biased;
        ended = served => ended,
        // A client that is always ready must not use up the budget with which the runtime lets timers be looked at.
        reason = unconstrained(traffic.expired()) => return Err(service.timeouts.failure(reason)),
    };
    let Err(error) = ended else { return Ok(()) };
    // What is there is a part of something.
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

async fn one(socket: Transport, responder: &Arc<Responder>, told: impl Future<Output = ()>) -> hyper::Result<()> {
    let connection = http1::Builder::new()
        // A client may be done with asking, and wait for its answer.
        .half_close(true)
        .max_buf_size(CHUNK)
        .max_header_size(LONGEST_HEAD)
        // `traffic` has that deadline.
        .header_read_timeout(None)
        .serve_connection(socket, Asked(Arc::clone(responder)));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = &mut connection => return ended,
        () = told => responder.last.store(true, Ordering::Relaxed),
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
    told: impl Future<Output = ()>,
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
        .serve_connection(socket.followed(&frames), Asked(Arc::clone(responder)));
    let mut connection = pin!(connection);
    let way = async {
        told.await;
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
            frames.say_goodbye(wire);
            return Ok(());
        }
    }
    traffic.note_change();
    tokio::select! {
        biased;
        ended = &mut connection => ended,
        // It does not acknowledge anything, and has nothing open.
        () = traffic.quiet_for(FAREWELL) => Ok(()),
    }
}
