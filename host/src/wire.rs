//! The connection's socket, as its guest's streams and the connection itself share it.
//!
//! Everything that touches the socket is here, so that the rules hold whoever reads or writes: reads and writes are tried
//! first and awaited only when they would block; at most [`CHUNK`] bytes are ever kept in memory for a direction; an end, a
//! reset and an expired wait are told apart; and the moment of the last byte is known.

use crate::sys;
use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    net::{RecvFlags, SendFlags, Shutdown, SocketAddrAny, getsockname, recv, send, shutdown},
};
use std::{
    convert::Infallible,
    io, mem,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
    time,
};

/// The most that is moved, and the most that is kept, at a time: what a pipe holds, too.
pub const CHUNK: usize = 64 << 10;

/// What is read ahead to find out whether the peer has sent something. Small, since every connection passes through it.
const FIRST_READ: usize = 2 << 10;

/// After the reply, input that nobody read is discarded so that the peer gets the reply and no reset; for so long in
/// all, and for so long without a byte. Both are nginx's `lingering_time` and `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(5);

/// One connection's socket and what is known of its two directions.
#[derive(Debug)]
pub struct Wire {
    socket: AsyncFd<OwnedFd>,
    /// When a byte last moved, in microseconds after `opened`.
    last_byte: AtomicU64,
    opened: Instant,
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
    unsent: Bytes,
    /// The guest will write no more.
    output_finished: bool,
    /// The kernel was told so.
    output_shut: bool,
    output_failed: Option<io::ErrorKind>,
}

/// Why the input of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEnd {
    /// The peer closed its sending side.
    Closed,
    /// The connection broke: a reset, or a timeout of the transport.
    Broken(io::ErrorKind),
}

impl Wire {
    /// Takes over a connected, non-blocking stream socket. Needs a runtime, whose reactor watches it.
    ///
    /// # Errors
    ///
    /// Where the reactor cannot take it.
    pub fn new(socket: OwnedFd) -> io::Result<Arc<Self>> {
        let socket = sys::watched(socket)?;
        Ok(Arc::new(Self {
            socket,
            last_byte: AtomicU64::new(0),
            opened: Instant::now(),
            state: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// The address of this end; `None` on unix, and where it has none any more.
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address: SocketAddrAny = getsockname(self.socket.get_ref()).ok()?;
        SocketAddr::try_from(address).ok()
    }

    /// When a byte last moved in either direction; when the connection was opened, where none has.
    pub fn last_byte(&self) -> Instant {
        self.opened + Duration::from_micros(self.last_byte.load(Ordering::Relaxed))
    }

    fn moved(&self) {
        // A u64 of microseconds lasts for half a million years.
        let now = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_byte.store(now, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- input -------------------------------------------------------------------------------------------------

    /// Waits until the peer has sent something, has closed its side, or is gone.
    pub async fn first_byte(&self) {
        let mut ahead = Bytes::new();
        loop {
            let step = self.read_some(|socket| {
                let mut first = [0; FIRST_READ];
                let (count, _) = recv(socket, &mut first, RecvFlags::empty())?;
                ahead = Bytes::copy_from_slice(first.get(..count).unwrap_or_default());
                Ok(count)
            });
            match step {
                Some(_) => break,
                None => self.readable().await,
            }
        }
        if !ahead.is_empty() {
            self.moved();
            self.state().ahead = ahead;
        }
    }

    /// Up to `most` bytes without waiting: `None` where there are none yet, empty at the end of input.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn try_read(&self, most: usize) -> io::Result<Option<Bytes>> {
        if most == 0 {
            return Ok(Some(Bytes::new()));
        }
        {
            let mut state = self.state();
            if !state.ahead.is_empty() {
                let count = state.ahead.len().min(most);
                return Ok(Some(state.ahead.split_to(count)));
            }
        }
        let mut buffer = Vec::with_capacity(most.min(CHUNK));
        match self.read_some(|socket| Ok(recv(socket, spare_capacity(&mut buffer), RecvFlags::empty())?.1)) {
            None => Ok(None),
            Some(Ok(count)) => {
                // An end is no byte, however often it is read.
                if count > 0 {
                    self.moved();
                }
                Ok(Some(buffer.into()))
            }
            Some(Err(kind)) => Err(kind.into()),
        }
    }

    /// As [`Self::try_read`], into memory of the caller's.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn try_read_into(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        {
            let mut state = self.state();
            if !state.ahead.is_empty() {
                let count = state.ahead.len().min(buffer.len());
                let bytes = state.ahead.split_to(count);
                if let Some(target) = buffer.get_mut(..count) {
                    target.copy_from_slice(&bytes);
                }
                return Ok(Some(count));
            }
        }
        let read = self.read_some(|socket| Ok(recv(socket, buffer, RecvFlags::empty())?.0)).transpose()?;
        if read.is_some_and(|count| count > 0) {
            self.moved();
        }
        Ok(read)
    }

    /// One attempt to read: `None` where it would block.
    fn read_some(&self, read: impl FnOnce(&OwnedFd) -> io::Result<usize>) -> Option<Result<usize, io::ErrorKind>> {
        match self.state().input_end {
            Some(InputEnd::Closed) => return Some(Ok(0)),
            Some(InputEnd::Broken(kind)) => return Some(Err(kind)),
            None => {}
        }
        match self.socket.try_io(Interest::READABLE, read) {
            Ok(0) => {
                // The kernel reports a reset once; after a write has got it, a read finds what looks like an end.
                let broken = self.state().output_failed;
                if let Some(kind) = broken {
                    self.input_ended(InputEnd::Broken(kind));
                    return Some(Err(kind));
                }
                self.input_ended(InputEnd::Closed);
                Some(Ok(0))
            }
            Ok(count) => Some(Ok(count)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(error) => {
                self.input_ended(InputEnd::Broken(error.kind()));
                Some(Err(error.kind()))
            }
        }
    }

    fn input_ended(&self, end: InputEnd) {
        self.state().input_end.get_or_insert(end);
        self.changed.notify_waiters();
    }

    /// Waits until reading would not block. Looks before it says so: the reactor's first notice of a socket, and one that
    /// was used up already, say nothing.
    pub async fn readable(&self) {
        loop {
            {
                let state = self.state();
                if !state.ahead.is_empty() || state.input_end.is_some() {
                    return;
                }
            }
            let peeked = self.socket.try_io(Interest::READABLE, |socket| Ok(recv(socket, &mut [0], RecvFlags::PEEK)?));
            match peeked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The kernel tells an error once: this was it, and a read would find what looks like an end.
                Err(error) => return self.input_ended(InputEnd::Broken(error.kind())),
                Ok(_) => return, // Data or an end: reading tells which.
            }
            match self.socket.readable().await {
                Ok(mut ready) => ready.retain_ready(),
                Err(_) => return std::future::pending().await, // The runtime is shutting down.
            }
        }
    }

    /// [`Self::readable`] for streams that are polled.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        match ready!(self.socket.poll_read_ready(context)) {
            Ok(mut ready) => {
                ready.retain_ready();
                Poll::Ready(())
            }
            Err(_) => Poll::Pending, // The runtime is shutting down.
        }
    }

    /// Why input ended; waits until it has, or until a write has found the connection broken.
    pub async fn input_end(&self) -> InputEnd {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state();
                if let Some(end) = state.input_end.or_else(|| state.output_failed.map(InputEnd::Broken)) {
                    return end;
                }
            }
            changed.await;
        }
    }

    /// Whether the peer is known to have broken the connection.
    pub fn broken(&self) -> bool {
        let state = self.state();
        state.output_failed.is_some() || matches!(state.input_end, Some(InputEnd::Broken(_)))
    }

    /// No one will read the rest of the input: [`Self::tend`] discards it.
    pub fn abandon_input(&self) {
        let mut state = self.state();
        if !mem::replace(&mut state.input_abandoned, true) && state.input_end.is_none() {
            self.changed.notify_waiters();
        }
    }

    // ---- output ------------------------------------------------------------------------------------------------

    /// Writes what the kernel takes at once and keeps the rest, which [`Self::tend`] sends. No more may be written until
    /// [`Self::try_flush`] says so.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn write(&self, bytes: Bytes) -> io::Result<()> {
        if !self.send_or_keep(bytes)? {
            // The guest may not come back for it before its peer has had it.
            self.changed.notify_waiters();
        }
        Ok(())
    }

    /// Whether the kernel took all of it.
    fn send_or_keep(&self, mut bytes: Bytes) -> io::Result<bool> {
        while !bytes.is_empty() {
            match self.try_write(&bytes)? {
                Some(count) => drop(bytes.split_to(count)),
                None => {
                    self.state().unsent = bytes;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Writes what the kernel takes at once, keeping nothing; `None` where it takes nothing.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        if let Some(kind) = self.state().output_failed {
            return Err(kind.into());
        }
        match self.socket.try_io(Interest::WRITABLE, |socket| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?)) {
            Ok(count) => {
                self.moved();
                Ok(Some(count))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => {
                {
                    let mut state = self.state();
                    state.output_failed = Some(error.kind());
                    state.unsent = Bytes::new();
                }
                self.changed.notify_waiters();
                Err(error)
            }
        }
    }

    /// Whether everything that was written has been taken by the kernel, after one more attempt.
    ///
    /// # Errors
    ///
    /// Where the connection broke.
    pub fn try_flush(&self) -> io::Result<bool> {
        let unsent = {
            let mut state = self.state();
            if let Some(kind) = state.output_failed {
                return Err(kind.into());
            }
            mem::take(&mut state.unsent)
        };
        self.send_or_keep(unsent)
    }

    /// Waits until everything that was written has been taken by the kernel, or the connection broke.
    pub async fn flushed(&self) {
        while let Ok(false) = self.try_flush() {
            match self.socket.writable().await {
                Ok(mut ready) => ready.retain_ready(),
                Err(_) => return std::future::pending().await, // The runtime is shutting down.
            }
        }
    }

    /// Waits until writing would not block, for streams that are polled.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        match ready!(self.socket.poll_write_ready(context)) {
            Ok(mut ready) => {
                ready.retain_ready();
                Poll::Ready(())
            }
            Err(_) => Poll::Pending, // The runtime is shutting down.
        }
    }

    /// No one will write any more: closes the sending side, at once where everything is sent, else [`Self::tend`] does
    /// when it is.
    pub fn finish_output(&self) {
        if mem::replace(&mut self.state().output_finished, true) {
            return;
        }
        match self.try_flush() {
            Ok(true) | Err(_) => self.shut_output(),
            Ok(false) => self.changed.notify_waiters(),
        }
    }

    fn shut_output(&self) {
        if !mem::replace(&mut self.state().output_shut, true) {
            // Where the peer is gone there is nobody to tell.
            shutdown(self.socket.get_ref(), Shutdown::Write).ok();
        }
    }

    // ---- beside and after the guest ----------------------------------------------------------------------------

    /// Does what the guest leaves to be done while it runs on: sends what it has written, closes the output that it has
    /// finished, discards the input that it has abandoned. Never returns.
    pub async fn tend(&self) -> Infallible {
        loop {
            let changed = self.changed.notified();
            let (send, discard) = {
                let state = self.state();
                (
                    !state.unsent.is_empty() || state.output_finished && !state.output_shut,
                    state.input_abandoned && state.input_end.is_none(),
                )
            };
            let sent = async {
                if !send {
                    return std::future::pending().await;
                }
                self.flushed().await;
                if self.state().output_finished {
                    self.shut_output();
                }
            };
            let discarded = async {
                if !discard {
                    return std::future::pending().await;
                }
                self.discard().await;
            };
            tokio::select! {
                () = sent => {}
                () = discarded => {}
                () = changed => {}
            }
        }
    }

    /// Reads and forgets until the input ends.
    async fn discard(&self) {
        self.state().ahead = Bytes::new();
        while self.discard_some().await {}
    }

    async fn discard_some(&self) -> bool {
        let step = self.read_some(|socket| {
            // On the stack of this closure, not in the future of every connection.
            let mut sink = [0; 16 << 10];
            Ok(recv(socket, &mut sink, RecvFlags::empty())?.0)
        });
        match step {
            Some(Ok(0) | Err(_)) => false,
            Some(Ok(_)) => {
                // A peer that sends without end must not keep this worker.
                tokio::task::consume_budget().await;
                true
            }
            None => {
                self.readable().await;
                true
            }
        }
    }

    /// Ends the connection so that the peer gets all that was written: flush, close the sending side, discard what
    /// still comes for a bounded time, then close. A peer that takes nothing for `silence` is given up.
    pub async fn conclude(&self, silence: Duration) {
        loop {
            let before = self.last_byte();
            match time::timeout(silence, self.flushed()).await {
                // One that takes a little each time is slow, not gone.
                Err(_) if self.last_byte() > before => {}
                _ => break,
            }
        }
        self.shut_output();
        self.state().ahead = Bytes::new();
        let until = time::Instant::now() + LINGER;
        loop {
            let now = time::Instant::now();
            // The clock is looked at here too: a peer that always has more to send would keep `timeout_at` from doing so.
            if now >= until || time::timeout_at(until.min(now + LINGER_SILENCE), self.discard_some()).await != Ok(true)
            {
                break;
            }
        }
    }
}
