//! Admission: which peers may connect, and from which address. It runs before the first byte that a
//! guest reads.
//!
//! The rules apply before a byte is read. A proxy only has to pass the deny rules, and then names
//! its client. The allow rules and the limit of connections apply to that client, or to the proxy
//! if it speaks for itself. A rejected connection is closed without an answer.

use super::{
    drain::Slot,
    proxy_header::{self, Header},
};
use crate::{
    net::{
        LocalAddress, PeerAddress,
        restrict::{Exclusion, Proxies, Rules},
    },
    record::log::{self, Limiter},
    system::kernel,
};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::{io, mem, num::NonZeroU32, os::fd::OwnedFd, time::Duration};
use tokio::time;

/// How long a proxy may take to send its header. It sends it at once; if the packet is lost, again
/// within 3 s.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often at most a rejection that concerns the operator is logged as an event.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The rules for the peers of a listener, as configured.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The allow and deny rules.
    pub rules: Rules,
    /// The proxies that are trusted to name the client.
    pub proxies: Proxies,
    /// The limit of connections of one address, over all listeners.
    pub most_per_ip: Option<NonZeroU32>,
}

/// The admission checks of a listener.
#[derive(Debug)]
pub struct Admission {
    policy: Policy,
    crowds: Limiter,
    faulty_proxies: Limiter,
}

/// The two addresses of a connection.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address.
    pub peer: PeerAddress,
    /// The proxy that names it.
    pub proxy: Option<PeerAddress>,
    /// The address to which the client connected, by the proxy's header.
    pub local: Option<LocalAddress>,
}

/// Why a connection is rejected.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The rules do not allow the peer.
    #[error(transparent)]
    Excluded(#[from] Exclusion),
    /// Its address has reached its limit of connections.
    #[error("it has {most} connections already, which is --max-connections-per-ip")]
    Crowd {
        /// The limit.
        most: NonZeroU32,
    },
    /// A proxy sent no valid header.
    #[error("no PROXY header: {0}")]
    NoHeader(#[from] proxy_header::Error),
    /// A proxy sent no header in time.
    #[error("no PROXY header within {0:?}")]
    LateHeader(Duration),
    /// A system call failed.
    #[error("{0}")]
    System(io::Error),
}

impl From<PeerAddress> for Origin {
    fn from(peer: PeerAddress) -> Self {
        Self { peer, proxy: None, local: None }
    }
}

impl Admission {
    /// The checks of a policy.
    pub fn new(policy: Policy) -> Self {
        let limiter = || Limiter::one_in(LOG_INTERVAL);
        Self { policy, crowds: limiter(), faulty_proxies: limiter() }
    }

    /// Finds out the client of a connection, and whether it may connect. Returns the socket if so;
    /// otherwise closes it.
    ///
    /// # Errors
    ///
    /// If it may not connect.
    pub(crate) async fn admit(
        &self,
        socket: OwnedFd,
        origin: &mut Origin,
        slot: &mut Slot,
        patience: Option<Duration>,
    ) -> Result<OwnedFd, Refusal> {
        // Most rejections happen here: before they cost a registration in the reactor.
        let (socket, verdict) = if !self.policy.proxies.include(&origin.peer) {
            (socket, self.judge(&origin.peer, slot))
        } else if let Err(denied) = self.policy.rules.not_denied(&origin.peer) {
            (socket, Err(denied.into()))
        } else {
            let socket = kernel::watched(socket).map_err(Refusal::System)?;
            let patience = patience.map_or(HEADER_TIMEOUT, |patience| patience.min(HEADER_TIMEOUT));
            let verdict = match time::timeout(patience, proxy_header::read(&socket)).await {
                Ok(Ok(header)) => self.judge_introduced(header, origin, slot),
                Ok(Err(error)) => Err(error.into()),
                Err(_elapsed) => Err(Refusal::LateHeader(patience)),
            };
            (socket.into_inner(), verdict)
        };
        match verdict {
            Ok(()) => Ok(socket),
            Err(refusal) => {
                turn_away(socket);
                Err(refusal)
            }
        }
    }

    fn judge(&self, peer: &PeerAddress, slot: &mut Slot) -> Result<(), Refusal> {
        self.policy.rules.judge(peer)?;
        match (peer.ip(), self.policy.most_per_ip) {
            (Some(address), Some(most)) if !slot.count_for(address, most) => Err(Refusal::Crowd { most }),
            _ => Ok(()),
        }
    }

    fn judge_introduced(&self, header: Header, origin: &mut Origin, slot: &mut Slot) -> Result<(), Refusal> {
        let peer = match header {
            // The proxy's own connections are few and not counted: the limit must not reject it for
            // the connections of its clients.
            Header::ProxyItself => return Ok(self.policy.rules.judge(&origin.peer)?),
            Header::Unix => PeerAddress::UNIX_UNNAMED,
            Header::Tcp { source, destination } => {
                origin.local = Some(destination.into());
                source.into()
            }
        };
        origin.proxy = Some(mem::replace(&mut origin.peer, peer));
        self.judge(&origin.peer, slot)
    }

    /// Whether a rejection is to be logged as an event: `Some` with the number of those that were
    /// not.
    pub(crate) fn should_log(&self, refusal: &Refusal) -> Option<Option<u64>> {
        match refusal {
            Refusal::Crowd { .. } => self.crowds.pass().map(log::counted),
            // A health check may only connect. A peer that sends something else, or nothing, is not
            // a proxy or not configured as one.
            Refusal::NoHeader(proxy_header::Error::Malformed(_)) | Refusal::LateHeader(_) => {
                self.faulty_proxies.pass().map(log::counted)
            }
            _ => None,
        }
    }
}

/// Closes a connection so that its peer sees a clean end, not a reset for bytes that it has sent
/// already. A peer that keeps sending gets the reset after the end: the host does not wait for it.
fn turn_away(socket: OwnedFd) {
    // If the peer is gone, the failure does not matter.
    shutdown(&socket, Shutdown::Write).ok();
    let mut sink = [0; 16 << 10];
    recv(&socket, &mut sink, RecvFlags::empty()).ok();
}
