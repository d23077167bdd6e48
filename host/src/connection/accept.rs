//! The accept loop. It counts a connection before it spawns a task for it, stops accepting at the
//! cap, survives every error of `accept`, and retires its listener without losing queued
//! connections.

use super::{
    drain::{Connections, Slot},
    serve::Connection,
    service::Service,
};
use crate::{
    net::{Incoming, Listener, ListenerAddress, PeerAddress, Queue},
    record::log::Limiter,
};
use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::time;
use tracing::{debug, info, warn};

/// How long a listener whose queue once overflowed must have been quiet. Peers that believe to be
/// connected since then retransmit after 0.2, 0.6, 1.4 and 3.0 s. This covers the longest of these
/// waits, unless the overflow has lasted long.
const OVERFLOW_GRACE: Duration = Duration::from_millis(3500);

/// How long handshakes that were under way when arrivals stopped may take to complete.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// Interval between two looks at handshakes under way.
const HANDSHAKE_POLL: Duration = Duration::from_millis(20);

/// The pause after an error that only time can resolve, such as a lack of descriptors. It doubles
/// with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A burst of failures is over when none has occurred for this long; each burst is logged once.
const BURST_ENDS: Duration = Duration::from_secs(1);

/// How often at most the log says that the cap is reached.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Accepts and serves connections until it is aborted. Between accepting a connection and spawning
/// its task there is no await, so that none is lost.
pub async fn serve(incoming: Incoming, connections: Connections, service: Arc<Service>) {
    let mut acceptor = Acceptor::new(incoming.address(), connections, service);
    // It fails only if the runtime shuts down.
    while incoming.ready().await.is_ok() {
        // The slot first, the connection second: an accepted connection is always counted, and at
        // the cap the others stay in the kernel's queue.
        if acceptor.connections.full() {
            acceptor.log_full();
        }
        let slot = acceptor.connections.slot().await;
        acceptor.take(incoming.accept(), slot).await;
    }
}

/// Removes the listener's path, stops arrivals, serves the queued connections and lets go of the
/// listener. No connected peer is rejected. Only for a listener that no other process serves or
/// will serve, and whose accept loop has ended.
pub async fn retire(listener: Arc<Listener>, connections: Connections, service: Arc<Service>) {
    let address = listener.address().clone();
    let mut acceptor = Acceptor::new(&address, connections, service);
    // The path first: no other process claims it while the socket answers, so it is still this
    // process's to remove.
    if let Err(error) = listener.unlink() {
        warn!(%address, %error, "socket removal failed");
    }
    let overflowed = listener.has_overflowed();
    if let Err(error) = listener.stop_arrivals() {
        // Without the filter peers may keep arriving; the following code then ends at the first
        // moment without one.
        warn!(%address, %error, "listener closed with arrivals");
    }
    match address {
        ListenerAddress::Tcp(_) => acceptor.take_rest_and_handshakes(&listener, overflowed).await,
        ListenerAddress::Unix(_) => acceptor.take_rest(&listener).await,
    }
    drop(listener);
    info!(%address, "listener closed");
}

struct Acceptor {
    address: ListenerAddress,
    connections: Connections,
    service: Arc<Service>,
    /// Failures in a row; each makes the next pause longer.
    failures: u32,
    /// The time of the last failure in the burst that was logged last.
    burst: Option<time::Instant>,
    /// Limits the records of a reached cap.
    fullness: Limiter,
}

/// The result of an attempt to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    One,
    Failed,
    Nothing,
}

impl Acceptor {
    fn new(address: &ListenerAddress, connections: Connections, service: Arc<Service>) -> Self {
        let fullness = Limiter::one_in(FULL_LOG_INTERVAL);
        Self { address: address.clone(), connections, service, failures: 0, burst: None, fullness }
    }

    async fn take(&mut self, accepted: io::Result<(OwnedFd, PeerAddress)>, slot: Slot) -> Taken {
        match accepted {
            Ok((socket, peer)) => {
                self.recovered();
                Connection::accepted(socket, peer, self.address.clone(), slot).spawn(&self.service);
                Taken::One
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Taken::Nothing,
            Err(error) => {
                drop(slot);
                self.failed(&error).await;
                Taken::Failed
            }
        }
    }

    /// Accepts the queued connections of a unix socket. Once arrivals are stopped, an empty queue
    /// stays empty.
    async fn take_rest(&mut self, listener: &Listener) {
        // Polls first: at the cap it must not wait on an empty queue.
        while listener.queue().is_none_or(|queue| queue.waiting > 0) {
            let slot = self.connections.slot().await;
            if self.take(listener.accept(), slot).await == Taken::Nothing {
                return;
            }
        }
    }

    /// Accepts the queued connections of a tcp socket and its handshakes under way. If its queue
    /// has overflowed, the kernel does not know some of these until the peer retransmits. By then
    /// the queue has room.
    async fn take_rest_and_handshakes(&mut self, listener: &Listener, overflowed: bool) {
        let quiet = if overflowed { OVERFLOW_GRACE } else { HANDSHAKE_GRACE };
        let mut grace = time::Instant::now() + quiet;
        // A handshake may complete while the tables are read, and show neither as under way nor as
        // done. Hence two looks.
        let mut seen_empty = false;
        loop {
            // If the system does not report handshakes, everything that arrives within the grace
            // period is accepted.
            let queue = listener.queue().unwrap_or(Queue { waiting: 1, handshakes: true });
            let in_time = time::Instant::now() < grace;
            let mut nothing = true;
            for _ in 0..queue.waiting {
                let slot = self.connections.slot().await;
                match self.take(listener.accept(), slot).await {
                    // If descriptors have run out, they come back as connections end. No queued
                    // connection is given up for that.
                    Taken::One | Taken::Failed => nothing = false,
                    Taken::Nothing => break,
                }
            }
            if !nothing {
                if overflowed {
                    grace = time::Instant::now() + quiet;
                }
                continue;
            }
            if !in_time || !overflowed && seen_empty && !queue.handshakes {
                return;
            }
            seen_empty = queue.waiting == 0 && !queue.handshakes;
            if overflowed || !seen_empty {
                time::sleep(HANDSHAKE_POLL).await;
            }
        }
    }

    /// Logs that a connection has to wait for a slot.
    fn log_full(&self) {
        if self.fullness.pass().is_some() {
            warn!(
                listener = %self.address, open = self.connections.open(),
                "max-connections reached, connections queue");
        }
    }

    /// Waits as long as the error requires.
    async fn failed(&mut self, error: &io::Error) {
        if concerns_one_connection(error) {
            debug!(listener = %self.address, %error, "connection gone before accept");
            return;
        }
        if self.burst.replace(time::Instant::now()).is_none() {
            warn!(
                listener = %self.address, %error, open = self.connections.open(),
                remedy = remedy(error), "accept failed, retrying");
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        time::sleep(pause).await;
    }

    fn recovered(&mut self) {
        self.failures = 0;
        if self.burst.is_some_and(|last| last.elapsed() >= BURST_ENDS) {
            info!(listener = %self.address, "accepting again");
            self.burst = None;
        }
    }
}

/// Errors that accept(2) reports for a connection that broke in the queue; the next one may be
/// fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        None | Some(
            Errno::ECONNABORTED
                | Errno::ECONNRESET
                | Errno::EINTR
                | Errno::EPROTO
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::ENONET
                | Errno::EHOSTUNREACH
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
        )
    )
}

fn remedy(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(nix::errno::Errno::EMFILE) => {
            Some("raise the limit (ulimit -n, or LimitNOFILE=) or lower --max-connections")
        }
        Some(nix::errno::Errno::ENFILE) => Some("the whole system is out of descriptors: raise fs.file-max"),
        _ => None,
    }
}
