//! One connection, from accept to close. None of its errors leaves this room; one log record says
//! how it ended.

use super::{
    admission::{Origin, Refusal},
    drain::Slot,
    http,
    service::Service,
    timeouts::Timeouts,
};
use crate::{
    guest::{Facts, Plugin},
    net::{ListenerAddress, PeerAddress},
    record::connection_id::ConnectionId,
    record::{
        counters::Counters,
        failure::{Failure, Fault, Reason},
        log,
    },
    wire::{
        Wire,
        tls::{Acceptor, HandshakeError},
    },
};
use std::{mem, os::fd::OwnedFd, sync::Arc, thread, time::Duration};
use tokio::{
    task::unconstrained,
    time::{self, Instant},
};
use tracing::{debug, error, field, info, warn};

/// How long a peer may read nothing of the rest that its guest has left, without an idle timeout.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// One connection, accepted and counted.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    peer: PeerAddress,
    listener: ListenerAddress,
    slot: Slot,
}

impl Connection {
    /// An accepted connection with its slot.
    pub fn accepted(socket: OwnedFd, peer: PeerAddress, listener: ListenerAddress, slot: Slot) -> Self {
        slot.counters().accepted();
        Self { socket, peer, listener, slot }
    }

    /// Serves it on its own task.
    pub fn spawn(self, service: &Arc<Service>) {
        tokio::spawn(self.serve(Arc::clone(service)));
    }

    async fn serve(self, service: Arc<Service>) {
        // The slot is freed last, after the socket is closed.
        let Self { socket, peer, listener, mut slot } = self;
        let mut record = Record::open(&service, peer, listener, slot.counters());

        let timeout = service.timeouts.connection;
        let socket = match service.admission.admit(socket, &mut record.origin, &mut slot, timeout).await {
            Ok(socket) => socket,
            Err(refusal) => {
                record.refuse(refusal);
                return;
            }
        };
        let wire = Wire::new(socket);
        let deadlines = Deadlines::new(&wire, &service.timeouts, record.accepted);

        if let Some(tls) = &service.tls {
            // Boxed so that a plain connection stays as small as without TLS.
            if let Err(failure) = Box::pin(secure(&wire, tls, &deadlines)).await {
                record.end(Err(blamed(&wire, failure)));
                return;
            }
        }

        if let Some(plugin) = wire.session(|session| Arc::clone(service.plugin_for(session))) {
            record.plugin = plugin;
        }
        let plugin = Arc::clone(&record.plugin);
        if plugin.starts_late() {
            let notice = Some(slot.notice()).filter(|_| plugin.speaks_http());
            let ended = tokio::select! {
                biased;
                () = wire.first_byte() => None,
                reason = deadlines.expired() => Some(Err(service.timeouts.failure(reason))),
                () = http::unasked(notice) => Some(Ok(())),
            };
            if let Some(ended) = ended {
                record.end(ended);
                return;
            }
            if wire.broken() {
                record.end(Err(blamed(&wire, Failure::plain(Reason::PeerReset))));
                return;
            }
        }

        let Origin { peer, local, .. } = record.origin.clone();
        let listener = record.listener.clone();
        let facts = Facts { id: record.id, peer, local, listener, draining: slot.notice(), wire: Arc::clone(&wire) };
        let (slot, deadlines) = if plugin.speaks_http() {
            // Guests that outlive the connection keep its slot.
            let (slot, longer) = (Arc::new(slot), deadlines.doubled());
            // Boxed so that a connection of another kind stays as small as without HTTP.
            let served = Box::pin(async {
                tokio::select! {
                    biased;
                    ended = http::serve(facts, &service, &plugin, &slot, deadlines.end) => ended,
                    never = wire.tend() => match never {},
                }
            });
            record.end(tokio::select! {
                biased;
                ended = served => ended,
                reason = unconstrained(longer.cut_over()) => Err(service.timeouts.failure(reason)),
            });
            (slot, longer)
        } else {
            let mut guest = plugin.guest(facts);
            let ended = tokio::select! {
                biased;
                ended = guest.ended() => ended,
                // A peer or guest that is always ready must not use up the budget with which the
                // runtime checks timers.
                reason = unconstrained(deadlines.cut()) => Err(service.timeouts.failure(reason)),
            };
            guest.stop().await;
            record.end(ended);
            (Arc::new(slot), deadlines)
        };

        // Written bytes are sent in every case. But a peer that was silent for too long gets only
        // one more attempt, and a connection that timed out gets no more time.
        let silence = match record.reason() {
            Some(Reason::Idle) => Duration::ZERO,
            _ => service.timeouts.idle.unwrap_or(LONGEST_SILENCE),
        };
        tokio::select! {
            biased;
            () = wire.conclude(silence) => {}
            () = unconstrained(deadlines.over()) => {}
        }
        record.concluded(&wire);
        drop(wire);
        // Before the slot is free: a task that waits for all connections then finds all of them
        // counted.
        drop(record);
        drop(slot);
    }
}

/// Performs the TLS handshake. Of the peer's faults only its certificate concerns the operator.
async fn secure(wire: &Wire, tls: &Acceptor, deadlines: &Deadlines<'_>) -> Result<(), Failure> {
    let within = tls.handshake_timeout();
    let late = Instant::now() + within;
    let end = deadlines.end.map_or(late, |over| over.min(late));
    let shaken = time::timeout_at(end, async { wire.secure(tls.session()?).await }).await;
    let (reason, message) = match shaken {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => {
            // So that the peer gets the alert that says why, and not a reset before it.
            drop(time::timeout_at(end, wire.conclude(within)).await);
            let reason = match error {
                HandshakeError::Certificate(_) => Reason::ClientCertificate,
                _ => Reason::PeerReset,
            };
            (reason, error.to_string())
        }
        Err(_) if end < late => return Err(Failure::plain(Reason::WallTime)),
        Err(_) => (Reason::Idle, format!("TLS handshake: not complete within {within:?}")),
    };
    Err(Failure { reason, message: log::escaped(&message) })
}

/// A failure that looks like a broken connection is the host's fault if it could not wait for the
/// socket.
fn blamed(wire: &Wire, failure: Failure) -> Failure {
    match wire.unwatched() {
        Some(error) => Failure { reason: Reason::Host, message: error.to_string() },
        None => failure,
    }
}

/// The deadlines of a connection.
struct Deadlines<'a> {
    wire: &'a Wire,
    idle_timeout: Option<Duration>,
    accepted: Instant,
    end: Option<Instant>,
}

impl<'a> Deadlines<'a> {
    fn new(wire: &'a Wire, timeouts: &Timeouts, accepted: Instant) -> Self {
        Self { wire, idle_timeout: timeouts.idle, accepted, end: timeouts.connection.map(|timeout| accepted + timeout) }
    }

    /// For a connection whose client is told that it ends: the last request may last as long again.
    fn doubled(&self) -> Self {
        let end = self.end.map(|end| end + end.saturating_duration_since(self.accepted));
        Self { end, ..*self }
    }

    /// Waits until the connection has lasted too long or has been idle for too long.
    async fn expired(&self) -> Reason {
        tokio::select! {
            biased;
            () = self.over() => Reason::WallTime,
            () = self.idle() => Reason::Idle,
        }
    }

    /// The same for a guest that is at work.
    async fn cut(&self) -> Reason {
        let reason = self.expired().await;
        // A guest that moves no byte is idle: it gets the same notice as others.
        if reason == Reason::WallTime {
            self.wire.cut_output();
        }
        reason
    }

    /// Waits until the connection has lasted too long.
    async fn cut_over(&self) -> Reason {
        self.over().await;
        self.wire.cut_output();
        Reason::WallTime
    }

    async fn over(&self) {
        match self.end {
            Some(end) => time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }

    async fn idle(&self) {
        let Some(timeout) = self.idle_timeout else { return std::future::pending().await };
        loop {
            let due = Instant::from_std(self.wire.last_byte()) + timeout;
            if due <= Instant::now() {
                return;
            }
            time::sleep_until(due).await;
        }
    }
}

/// The log record of a connection, written on drop, even if the process ends before the connection.
struct Record {
    id: ConnectionId,
    origin: Origin,
    listener: ListenerAddress,
    accepted: Instant,
    service: Arc<Service>,
    /// The plugin that serves it, if known.
    plugin: Arc<Plugin>,
    counters: &'static Counters,
    ended: Option<Ended>,
}

/// How a connection ended.
enum Ended {
    Refused(Refusal),
    Served(Result<(), Failure>),
}

impl Record {
    fn open(service: &Arc<Service>, peer: PeerAddress, listener: ListenerAddress, counters: &'static Counters) -> Self {
        Self {
            id: ConnectionId::next(),
            origin: peer.into(),
            listener,
            accepted: Instant::now(),
            service: Arc::clone(service),
            plugin: Arc::clone(&service.plugin),
            counters,
            ended: None,
        }
    }

    fn end(&mut self, how: Result<(), Failure>) {
        self.ended = Some(Ended::Served(how));
    }

    /// Adds the failures since the guest finished: its peer may not have received everything.
    fn concluded(&mut self, wire: &Wire) {
        let Some(Ended::Served(ended)) = &mut self.ended else { return };
        let cut_short = match ended {
            Ok(()) => wire.lost_output() || wire.unwatched().is_some(),
            Err(failure) => failure.reason == Reason::PeerReset,
        };
        if cut_short {
            let failure = mem::replace(ended, Ok(())).err().unwrap_or_else(|| Failure::plain(Reason::PeerReset));
            *ended = Err(blamed(wire, failure));
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::System(error) => self.end(Err(Failure { reason: Reason::Host, message: error.to_string() })),
            refusal => self.ended = Some(Ended::Refused(refusal)),
        }
    }

    /// The reason, if it failed.
    fn reason(&self) -> Option<Reason> {
        match &self.ended {
            Some(Ended::Served(Err(failure))) => Some(failure.reason),
            _ => None,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let ended = self.ended.take().unwrap_or_else(|| {
            // Dropped by the runtime: the process ends, or a panic occurred.
            let reason = if thread::panicking() { Reason::Host } else { Reason::Drain };
            Ended::Served(Err(Failure::plain(reason)))
        });
        match &ended {
            Ended::Served(Ok(())) => self.counters.finished(),
            Ended::Served(Err(failure)) => self.counters.failed(failure.reason),
            Ended::Refused(_) => self.counters.refused(),
        }
        let Self { id: connection, origin: Origin { peer, proxy, .. }, listener, accepted, service, .. } = &*self;
        let (plugin, proxy) = (self.plugin.name(), proxy.as_ref().map(field::display));
        let ms = u64::try_from(accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! tell {
            ($level:ident, $($more:tt)+) => { $level!(%plugin, %connection, %peer, proxy, %listener, ms, $($more)+) };
        }
        match ended {
            Ended::Served(Ok(())) => tell!(debug, "connection finished"),
            Ended::Served(Err(failure)) => {
                let (reason, error) = (failure.reason, failure.told());
                match (reason.fault(), service.should_log(reason)) {
                    (Fault::Plugin | Fault::Client, Some(suppressed)) => {
                        tell!(warn, %reason, error, suppressed, "connection failed")
                    }
                    (Fault::Host, Some(suppressed)) => tell!(error, %reason, error, suppressed, "connection failed"),
                    _ => tell!(debug, %reason, error, "connection failed"),
                }
            }
            Ended::Refused(because) => match (service.admission.should_log(&because), &because) {
                (Some(suppressed), Refusal::Crowd { .. }) => tell!(info, %because, suppressed, "connection refused"),
                (Some(suppressed), _) => tell!(warn, %because, suppressed, "connection refused"),
                (None, _) => tell!(debug, %because, "connection refused"),
            },
        }
    }
}
