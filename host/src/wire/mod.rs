//! The connection's socket, shared by its guest's streams and the connection itself.
//!
//! All access to the socket is here, so that the same rules hold for every caller. Reads and writes
//! are tried first and awaited only if they would block. At most [`CHUNK`] bytes are kept in memory
//! for each direction. An end, a reset and an expired wait are distinct. The moment of the last
//! byte is known.
//!
//! This file owns the state that the two directions share. `input` and `output` are the directions,
//! `movement` is the moment of the last byte, `end` is the work beside the guest and after it, and
//! `secure` is TLS between them and the socket.

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

/// The most bytes that are moved or kept at a time: the capacity of a pipe.
pub const CHUNK: usize = 64 << 10;

/// The socket of one connection, and the state of its two directions.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    /// When a byte last moved, in either direction.
    movement: Arc<Movement>,
    state: Mutex<State>,
    /// Notified when a direction changes in a way that a task may wait for.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Read ahead, not yet taken by the guest.
    ahead: Bytes,
    /// The reason why input ended, once it has.
    input_end: Option<InputEnd>,
    /// The guest will not read more; further input is discarded.
    input_abandoned: bool,
    /// Accepted from the guest, not yet by the kernel.
    unsent: BytesMut,
    /// The kernel was asked to take `unsent` and has not. Otherwise the host holds it back.
    refused: bool,
    /// The bytes that the guest was permitted to write, even if the room has gone since.
    permit: usize,
    /// The guest will not write more.
    output_finished: bool,
    /// The sending side of the socket is shut down.
    output_shut: bool,
    /// The guest did not finish: its output must not look complete, if the protocol can show that.
    output_cut: bool,
    /// The peer could take an end for a complete answer, and so gets a reset.
    output_reset: bool,
    output_failed: Option<io::ErrorKind>,
    /// Output of the guest was lost, not only the end after it.
    output_lost: bool,
    /// The TLS session, after a handshake.
    tls: Option<Box<Session>>,
}

impl Wire {
    /// Takes over a connected, non-blocking stream socket.
    pub fn new(socket: OwnedFd) -> Arc<Self> {
        let socket = Socket::new(socket);
        Arc::new(Self { socket, movement: Arc::default(), state: Mutex::default(), changed: Notify::new() })
    }

    /// The local address; `None` on unix, and if the socket no longer has one.
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address: SocketAddrAny = getsockname(self.socket.descriptor()).ok()?;
        SocketAddr::try_from(address).ok()
    }

    /// The process that connected, at the other end of a unix connection.
    pub fn peer_process(&self) -> Option<UnixCredentials> {
        getsockopt(&self.socket.descriptor(), PeerCredentials).ok()
    }

    /// The time of the last byte in either direction; before the first, the time of opening.
    pub fn last_byte(&self) -> Instant {
        self.movement.last()
    }

    /// The same, for callers that outlive the wire.
    pub fn movement(&self) -> &Arc<Movement> {
        &self.movement
    }

    fn moved(&self) {
        self.movement.note();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A holder of the lock cannot leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reason why the reactor could not watch the socket, if that is why it looks broken.
    pub fn unwatched(&self) -> Option<&io::Error> {
        self.socket.refusal()
    }

    /// Whether the peer was gone before it got all that the guest has written.
    pub fn lost_output(&self) -> bool {
        self.state().output_lost
    }

    /// Whether the peer is known to have broken the connection.
    pub fn broken(&self) -> bool {
        let state = self.state();
        state.output_failed.is_some() || matches!(state.input_end, Some(InputEnd::Broken(_)))
    }
}
