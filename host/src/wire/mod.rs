//! The connection's socket, as its guest's streams and the connection itself share it.
//!
//! Everything that touches the socket is here, so that the rules hold whoever reads or writes: reads and writes are tried
//! first and awaited only when they would block; at most [`CHUNK`] bytes are ever kept in memory for a direction; an end, a
//! reset and an expired wait are told apart; and the moment of the last byte is known.
//!
//! This file owns the state that the two directions share; `input` and `output` are the directions, `movement` when there was any,
//! `end` what is done beside the guest and after it, `secure` what lies between them and the socket under TLS.

pub(crate) mod draining;
mod end;
mod input;
mod movement;
mod output;
mod secure;
mod socket;
pub mod tls;

pub use input::InputEnd;
pub use movement::Movement;

use self::{socket::Socket, tls::Session};

use bytes::{Bytes, BytesMut};
use nix::sys::socket::{UnixCredentials, getsockopt, sockopt::PeerCredentials};
use rustix::net::{SocketAddrAny, getsockname};
use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;

/// The most that is moved, and the most that is kept, at a time: what a pipe holds, too.
pub const CHUNK: usize = 64 << 10;

/// One connection's socket and what is known of its two directions.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    /// When a byte last moved, in either direction.
    movement: Arc<Movement>,
    state: Mutex<State>,
    /// Rung when a direction changes in a way that someone may wait for.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Read ahead, not yet taken.
    ahead: Bytes,
    /// Why input ended, once it has.
    input_end: Option<InputEnd>,
    /// The guest will read no more; what comes is discarded.
    input_abandoned: bool,
    /// Accepted from the guest, not yet taken by the kernel.
    unsent: BytesMut,
    /// The kernel was asked to take that and has not. Otherwise it is held back.
    refused: bool,
    /// What the guest was told that it may write, whatever has become of the room for it since.
    permit: usize,
    /// The guest will write no more.
    output_finished: bool,
    /// The kernel was told so.
    output_shut: bool,
    /// The guest did not come to its end: what the peer gets must not look whole, where that can be seen.
    output_cut: bool,
    /// The peer could take an end for that of the whole: it gets a reset instead.
    output_reset: bool,
    output_failed: Option<io::ErrorKind>,
    /// What the guest has written went nowhere, rather than only the end that follows it.
    output_lost: bool,
    /// What encrypts, after a handshake.
    tls: Option<Box<Session>>,
}

impl Wire {
    /// Takes over a connected, non-blocking stream socket.
    pub fn new(socket: OwnedFd) -> Arc<Self> {
        let socket = Socket::new(socket);
        Arc::new(Self { socket, movement: Arc::default(), state: Mutex::default(), changed: Notify::new() })
    }

    /// The address of this end; `None` on unix, and where it has none any more.
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address: SocketAddrAny = getsockname(self.socket.descriptor()).ok()?;
        SocketAddr::try_from(address).ok()
    }

    /// Which process is at the other end of a unix connection: that which connected.
    pub fn peer_process(&self) -> Option<UnixCredentials> {
        getsockopt(&self.socket.descriptor(), PeerCredentials).ok()
    }

    /// When a byte last moved in either direction; when the connection was opened, where none has.
    pub fn last_byte(&self) -> Instant {
        self.movement.last()
    }

    /// For whoever has to know that for longer.
    pub fn movement(&self) -> &Arc<Movement> {
        &self.movement
    }

    fn moved(&self) {
        self.movement.note();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this process could not wait for it, where that is why it looks broken.
    pub fn unwatched(&self) -> Option<&io::Error> {
        self.socket.refusal()
    }

    /// Whether the peer was gone before it was sent all that the guest has written.
    pub fn lost_output(&self) -> bool {
        self.state().output_lost
    }

    /// Whether the peer is known to have broken the connection.
    pub fn broken(&self) -> bool {
        let state = self.state();
        state.output_failed.is_some() || matches!(state.input_end, Some(InputEnd::Broken(_)))
    }
}
