//! The accept loop: counts a connection before anything is spawned for it, holds back at the cap, survives every error
//! that `accept` can give, and retires its listener without losing what is queued there.

use crate::{
    bind::{Listener, Queue},
    connection::{Connection, Service},
    drain::Connections,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{sync::watch, time};
use tracing::{debug, info, warn};

/// How long handshakes that were under way when arrivals stopped may take to complete.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// Between two looks at handshakes that are under way.
const HANDSHAKE_POLL: Duration = Duration::from_millis(20);

/// After an error that only time can mend, such as a lack of descriptors: doubled at each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A burst of failures is over when none has come for so long; each is logged once.
const BURST_ENDS: Duration = Duration::from_secs(1);

/// Accepts and serves connections until `retire` turns true, then whatever is queued, and closes the listener.
pub async fn serve(
    listener: Arc<Listener>,
    connections: Connections,
    service: Arc<Service>,
    mut retire: watch::Receiver<bool>,
) {
    let mut acceptor = Acceptor { listener, connections, service, failures: 0, burst: None };
    tokio::select! {
        biased;
        // A sender that is gone means that the process is ending, and so does true.
        _ = retire.wait_for(|retire| *retire) => {}
        () = acceptor.accept_for_ever() => {}
    }
    acceptor.retire().await;
}

struct Acceptor {
    listener: Arc<Listener>,
    connections: Connections,
    service: Arc<Service>,
    /// Failures in a row, each of which makes the next pause longer.
    failures: u32,
    /// When the burst of failures that was logged last had its last one.
    burst: Option<time::Instant>,
}

impl Acceptor {
    async fn accept_for_ever(&mut self) {
        loop {
            if self.listener.ready().await.is_err() {
                return; // The runtime is shutting down.
            }
            // The place first, the connection second: one that was accepted is never uncounted, and at the cap the kernel's
            // queue holds the rest.
            let slot = self.connections.slot().await;
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    self.recovered();
                    Connection::accepted(socket, peer, self.listener.address(), slot).spawn(&self.service);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// Serves what is queued and closes, so that no peer that has connected is turned away.
    async fn retire(mut self) {
        let address = self.listener.address();
        if let Err(error) = self.listener.stop_arrivals() {
            // Without the filter peers may go on arriving; what follows ends at the first moment without one.
            warn!(%address, %error, "new arrivals could not be stopped before the listener was closed");
        }
        let grace = time::Instant::now() + HANDSHAKE_GRACE;
        // A handshake may complete while the tables are read, and be seen neither as under way nor as done: two looks.
        let mut seen_empty = false;
        loop {
            // Where the system does not tell, whatever can be accepted until the grace has passed.
            let queue = self.listener.queue().unwrap_or(Queue { waiting: 1, handshakes: true });
            let in_time = time::Instant::now() < grace;
            let mut accepted = false;
            for _ in 0..queue.waiting {
                let slot = self.connections.slot().await;
                match self.listener.accept() {
                    Ok((socket, peer)) => {
                        accepted = true;
                        Connection::accepted(socket, peer, address, slot).spawn(&self.service);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        drop(slot);
                        self.failed(&error).await;
                    }
                }
            }
            if accepted {
                continue;
            }
            if !in_time || seen_empty && !queue.handshakes {
                break;
            }
            seen_empty = queue.waiting == 0 && !queue.handshakes;
            if !seen_empty {
                time::sleep(HANDSHAKE_POLL).await;
            }
        }
        drop(self.listener);
        info!(%address, "listener closed");
    }

    /// Waits as long as the error asks for.
    async fn failed(&mut self, error: &io::Error) {
        if concerns_one_connection(error) {
            debug!(listener = %self.listener.address(), %error, "a connection was gone before it was accepted");
            return;
        }
        if self.burst.replace(time::Instant::now()).is_none() {
            warn!(
                listener = %self.listener.address(), %error, open = self.connections.open(),
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
            info!(listener = %self.listener.address(), "accepting again");
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
