//! The accept loop: counts a connection before anything is spawned for it, holds back at the cap, survives every error
//! that `accept` can give, and retires its listener without losing what is queued there.

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

/// How long it must have been quiet at a listener whose queue was once too short. Peers that take themselves for connected since
/// then send again after 0.2, 0.6, 1.4, 3.0 s: this is more than they have waited for last, unless that has gone on for long.
const OVERFLOW_GRACE: Duration = Duration::from_millis(3500);

/// How long handshakes that were under way when arrivals stopped may take to complete.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// Between two looks at handshakes that are under way.
const HANDSHAKE_POLL: Duration = Duration::from_millis(20);

/// After an error that only time can mend, such as a lack of descriptors: doubled at each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A burst of failures is over when none has come for so long; each is logged once.
const BURST_ENDS: Duration = Duration::from_secs(1);

/// That there is no place left is told once in so long.
const FULL_TOLD_ONCE_IN: Duration = Duration::from_secs(60);

/// Accepts and serves connections for as long as it runs. To be aborted: between taking a connection off the queue and
/// spawning it there is no await, so that none is lost.
pub async fn serve(incoming: Incoming, connections: Connections, service: Arc<Service>) {
    let mut acceptor = Acceptor::new(incoming.address(), connections, service);
    // It fails only where the runtime is shutting down.
    while incoming.ready().await.is_ok() {
        // The place first, the connection second: one that was accepted is never uncounted, and at the cap the kernel's queue
        // holds the rest.
        if acceptor.connections.full() {
            acceptor.tell_full();
        }
        let slot = acceptor.connections.slot().await;
        acceptor.take(incoming.accept(), slot).await;
    }
}

/// Removes the listener's path, stops arrivals, serves what is queued, and lets go of the listener: no peer that has connected
/// is turned away. Only for a listener that no other process serves or will serve; what accepted from it has ended.
pub async fn retire(listener: Arc<Listener>, connections: Connections, service: Arc<Service>) {
    let address = listener.address().clone();
    let mut acceptor = Acceptor::new(&address, connections, service);
    // First the path: nobody else takes it for as long as the socket answers, so it is still ours to remove.
    if let Err(error) = listener.unlink() {
        warn!(%address, %error, "the socket's path could not be removed");
    }
    let overflowed = listener.has_overflowed();
    if let Err(error) = listener.stop_arrivals() {
        // Without the filter peers may go on arriving; what follows ends at the first moment without one.
        warn!(%address, %error, "new arrivals could not be stopped before the listener was closed");
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
    /// Failures in a row, each of which makes the next pause longer.
    failures: u32,
    /// When the burst of failures that was logged last had its last one.
    burst: Option<time::Instant>,
    /// For the record that there is no place left.
    fullness: Limiter,
}

/// What came of an attempt to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    One,
    Failed,
    Nothing,
}

impl Acceptor {
    fn new(address: &ListenerAddress, connections: Connections, service: Arc<Service>) -> Self {
        let fullness = Limiter::one_in(FULL_TOLD_ONCE_IN);
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

    /// Takes what a unix socket has queued: once arrivals are stopped, an empty queue stays empty.
    async fn take_rest(&mut self, listener: &Listener) {
        // The look comes first: at the cap, an empty queue must not be waited for.
        while listener.queue().is_none_or(|queue| queue.waiting > 0) {
            let slot = self.connections.slot().await;
            if self.take(listener.accept(), slot).await == Taken::Nothing {
                return;
            }
        }
    }

    /// Takes what a tcp socket has queued, and what its handshakes under way become. Where its queue has overflowed, some of these are
    /// unknown to the kernel until the peer sends again, for which there is room now.
    async fn take_rest_and_handshakes(&mut self, listener: &Listener, overflowed: bool) {
        let quiet = if overflowed { OVERFLOW_GRACE } else { HANDSHAKE_GRACE };
        let mut grace = time::Instant::now() + quiet;
        // A handshake may complete while the tables are read, and be seen neither as under way nor as done: two looks.
        let mut seen_empty = false;
        loop {
            // Where the system does not tell, whatever can be accepted until the grace has passed.
            let queue = listener.queue().unwrap_or(Queue { waiting: 1, handshakes: true });
            let in_time = time::Instant::now() < grace;
            let mut nothing = true;
            for _ in 0..queue.waiting {
                let slot = self.connections.slot().await;
                match self.take(listener.accept(), slot).await {
                    // Where descriptors have run out, they come back as connections end: nobody in the queue is given up for that.
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

    /// A connection has to wait for a place.
    fn tell_full(&self) {
        if self.fullness.pass().is_some() {
            warn!(
                listener = %self.address, open = self.connections.open(),
                "as many connections are open as --max-connections allows; further ones wait in the kernel's queue"
            );
        }
    }

    /// Waits as long as the error asks for.
    async fn failed(&mut self, error: &io::Error) {
        if concerns_one_connection(error) {
            debug!(listener = %self.address, %error, "a connection was gone before it was accepted");
            return;
        }
        if self.burst.replace(time::Instant::now()).is_none() {
            warn!(
                listener = %self.address, %error, open = self.connections.open(),
                "cannot accept; connections wait in the kernel's queue{}", remedy(error)
            );
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

/// Errors that accept(2) passes on from a connection that broke while it was queued; the next one may be fine.
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

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(nix::errno::Errno::EMFILE) => "; raise the limit (ulimit -n, or LimitNOFILE=) or lower --max-connections",
        Some(nix::errno::Errno::ENFILE) => "; the whole system is out of descriptors: raise fs.file-max",
        _ => "",
    }
}
