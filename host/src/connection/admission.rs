//! Who gets in, and as whom: everything before the first byte that is a guest's.
//!
//! The rules are asked before a byte is read. A proxy is only asked not to be denied, and then says whom it speaks for: the rules
//! and the count of connections concern that one, and the proxy itself where it speaks for itself. Whoever is refused is closed
//! without an answer.

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

/// How long a proxy may take to send its header. It does so at once; where that is lost, again within 3 s.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Of refusals that an operator should know about, one in so long is told at the level of events.
const TOLD_ONCE_IN: Duration = Duration::from_secs(60);

/// Who may connect to a listener, as it was said.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whom the rules let in.
    pub rules: Rules,
    /// Whose word is taken for whom a connection is from.
    pub proxies: Proxies,
    /// How many connections an address may have, over all listeners.
    pub most_per_ip: Option<NonZeroU32>,
}

/// Who may connect to a listener.
#[derive(Debug)]
pub struct Admission {
    policy: Policy,
    crowds: Limiter,
    faulty_proxies: Limiter,
}

/// Between whom a connection is.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Whom it is from.
    pub peer: PeerAddress,
    /// The proxy that says so.
    pub proxy: Option<PeerAddress>,
    /// To which address the peer connected, as the proxy says.
    pub local: Option<LocalAddress>,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The rules do not let the peer in.
    #[error(transparent)]
    Excluded(#[from] Exclusion),
    /// Its address has as many connections as it may.
    #[error("it has {most} connections already, which is --max-connections-per-ip")]
    Crowd {
        /// That limit.
        most: NonZeroU32,
    },
    /// A proxy did not say whom it speaks for.
    #[error("no PROXY header: {0}")]
    NoHeader(#[from] proxy_header::Error),
    /// Nor did it in time.
    #[error("no PROXY header within {0:?}")]
    LateHeader(Duration),
    /// The system could not do its part.
    #[error("{0}")]
    System(io::Error),
}

impl From<PeerAddress> for Origin {
    fn from(peer: PeerAddress) -> Self {
        Self { peer, proxy: None, local: None }
    }
}

impl Admission {
    /// By a policy.
    pub fn new(policy: Policy) -> Self {
        let limiter = || Limiter::one_in(TOLD_ONCE_IN);
        Self { policy, crowds: limiter(), faulty_proxies: limiter() }
    }

    /// Finds out whom a connection is from, and whether it may. The socket comes back where it may; else it is closed.
    ///
    /// # Errors
    ///
    /// Where it may not.
    pub(crate) async fn admit(
        &self,
        socket: OwnedFd,
        origin: &mut Origin,
        slot: &mut Slot,
        patience: Option<Duration>,
    ) -> Result<OwnedFd, Refusal> {
        // Most are refused here: before they cost a place in the reactor.
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
            // Its own connections are few, and not counted: they must not be refused for what it brings from others.
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

    /// Whether a refusal is one of those that an operator should know about: `Some` with how many were not told.
    pub(crate) fn to_be_told(&self, refusal: &Refusal) -> Option<Option<u64>> {
        match refusal {
            Refusal::Crowd { .. } => self.crowds.pass().map(log::counted),
            // A health check may only connect; whoever sends something else, or nothing, is no proxy, or not told to be one.
            Refusal::NoHeader(proxy_header::Error::Malformed(_)) | Refusal::LateHeader(_) => {
                self.faulty_proxies.pass().map(log::counted)
            }
            _ => None,
        }
    }
}

/// Closes a connection so that its peer sees an end, and no reset for what it has sent already. One that goes on sending gets
/// that reset after the end: whoever is refused is not waited for.
fn turn_away(socket: OwnedFd) {
    // Where the peer is gone there is nobody to tell.
    shutdown(&socket, Shutdown::Write).ok();
    let mut sink = [0; 16 << 10];
    recv(&socket, &mut sink, RecvFlags::empty()).ok();
}
