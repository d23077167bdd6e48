//! The peer's bytes on their way in: read ahead, read by the guest, or discarded after the guest
//! has abandoned them.
//!
//! Every read of the socket is here, so that the reason why input ended is found once and reported
//! to every caller.

use super::{CHUNK, Wire};
use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    net::{RecvFlags, recv},
};
use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

/// Bytes read ahead to find out whether the peer has sent something. Small, because it happens on
/// every connection.
const FIRST_READ: usize = 2 << 10;

/// The destination of a read.
enum Room<'a> {
    /// The spare capacity of a vector.
    Vector(&'a mut Vec<u8>),
    /// A buffer.
    Slice(&'a mut [u8]),
    /// Discarded, and only counted.
    Nowhere(&'a mut [MaybeUninit<u8>]),
}

impl Room<'_> {
    fn receive(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        Ok(match self {
            Self::Vector(vector) => recv(socket, spare_capacity(vector), RecvFlags::empty())?.1,
            Self::Slice(slice) => recv(socket, &mut **slice, RecvFlags::empty())?.0,
            Self::Nowhere(scratch) => recv(socket, &mut **scratch, RecvFlags::empty())?.1,
        })
    }

    /// Whether there was room for more than the last `count` bytes.
    fn left(&self, count: usize) -> bool {
        match self {
            Self::Vector(vector) => vector.len() < vector.capacity(),
            Self::Slice(slice) => count < slice.len(),
            Self::Nowhere(scratch) => count < scratch.len(),
        }
    }

    fn copy(&mut self, data: &[u8]) -> usize {
        match self {
            Self::Vector(vector) => {
                let count = data.len().min(vector.capacity() - vector.len());
                vector.extend_from_slice(data.get(..count).unwrap_or_default());
                count
            }
            Self::Slice(slice) => {
                let count = data.len().min(slice.len());
                slice.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
                count
            }
            Self::Nowhere(scratch) => data.len().min(scratch.len()),
        }
    }
}

/// Why the input of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEnd {
    /// The peer closed its sending side.
    Closed,
    /// The connection broke: a reset, a transport timeout, or, under TLS, an end that the peer did
    /// not announce.
    Broken(io::ErrorKind),
}

impl Wire {
    /// Waits until the peer has sent something, has closed its side, or is gone.
    pub async fn first_byte(&self) {
        while !self.read_ahead() {
            self.notified().await;
        }
    }

    /// Whether there was anything to read, including an end.
    fn read_ahead(&self) -> bool {
        // On the stack of this function, not in the future of every connection.
        let mut first = [0; FIRST_READ];
        match self.read_some(Room::Slice(&mut first)) {
            None => false,
            Some(Ok(count)) if count > 0 => {
                self.moved();
                self.state().ahead = Bytes::copy_from_slice(first.get(..count).unwrap_or_default());
                true
            }
            Some(_) => true,
        }
    }

    /// Reads up to `most` bytes without waiting: `None` if there are none yet, empty at the end of
    /// input.
    ///
    /// # Errors
    ///
    /// If the connection broke.
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
        match self.read_some(Room::Vector(&mut buffer)) {
            None => Ok(None),
            Some(Ok(count)) => {
                // An end does not count as movement, however often it is read.
                if count > 0 {
                    self.moved();
                }
                Ok(Some(buffer.into()))
            }
            Some(Err(kind)) => Err(kind.into()),
        }
    }

    /// As [`Self::try_read`], into the caller's memory.
    ///
    /// # Errors
    ///
    /// If the connection broke.
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
        let read = self.read_some(Room::Slice(buffer)).transpose()?;
        if read.is_some_and(|count| count > 0) {
            self.moved();
        }
        Ok(read)
    }

    /// One attempt to read; `None` if it would block.
    fn read_some(&self, mut room: Room<'_>) -> Option<Result<usize, io::ErrorKind>> {
        let read = {
            let mut state = self.state();
            match state.input_end {
                Some(InputEnd::Closed) => return Some(Ok(0)),
                Some(InputEnd::Broken(kind)) => return Some(Err(kind)),
                None => {}
            }
            match &mut state.tls {
                None => self.receive(&mut room),
                Some(session) => self.decrypt(session, |data| room.copy(data)),
            }
        };
        match read {
            Ok(0) => {
                // The kernel reports a reset once. After a write has got it, a read finds what
                // looks like an end.
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
                let broken = self.state().output_failed.filter(|_| error.kind() == io::ErrorKind::UnexpectedEof);
                let kind = broken.unwrap_or(error.kind());
                self.input_ended(InputEnd::Broken(kind));
                Some(Err(kind))
            }
        }
    }

    /// Reads from the socket. If it had less than there was room for, it is empty now, and is not
    /// read again before the reactor reports it readable, as with tokio's own sockets.
    fn receive(&self, room: &mut Room<'_>) -> io::Result<usize> {
        let mut last = None;
        let received = self.socket.try_read(|socket| {
            let count = room.receive(socket)?;
            if count == 0 || !room.left(count) {
                return Ok(count);
            }
            last = Some(count);
            // Tells the socket that it is empty, and consumes the readiness. The readiness of an
            // end stays.
            Err(io::ErrorKind::WouldBlock.into())
        });
        last.map_or(received, Ok)
    }

    pub(super) fn input_ended(&self, end: InputEnd) {
        self.state().input_end.get_or_insert(end);
        self.changed.notify_waiters();
    }

    /// Waits until reading would not block. Checks first, since the readiness may be consumed
    /// already.
    pub async fn readable(&self) {
        while !self.is_readable() {
            self.notified().await;
        }
    }

    /// Whether reading would not block.
    pub fn is_readable(&self) -> bool {
        self.has_known() || self.has_something()
    }

    /// Waits for readiness, for callers that find out by reading.
    pub async fn notified(&self) {
        if let Err(error) = self.socket.readable().await {
            self.input_ended(InputEnd::Broken(error.kind()));
        }
    }

    /// Whether there is data or an end that needs no look at the socket.
    fn has_known(&self) -> bool {
        let state = self.state();
        !state.ahead.is_empty() || state.input_end.is_some()
    }

    /// Whether reading would not block, as far as the socket shows; under TLS, as far as its bytes
    /// can be decrypted.
    fn has_something(&self) -> bool {
        if let Some(something) = self.has_data() {
            return something;
        }
        match self.socket.try_read(|socket| Ok(recv(socket, &mut [0], RecvFlags::PEEK)?)) {
            Ok(_) => true, // Data or an end: a read finds out which.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // The kernel reports an error once. This call consumed it, and a read would find what
            // looks like an end.
            Err(error) => {
                self.input_ended(InputEnd::Broken(error.kind()));
                true
            }
        }
    }

    /// [`Self::readable`] for streams that are polled.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let data = self.has_data();
            if data == Some(true) {
                return Poll::Ready(());
            }
            if let Err(error) = ready!(self.socket.poll_readable(context)) {
                self.input_ended(InputEnd::Broken(error.kind()));
                return Poll::Ready(());
            }
            // A readable socket may still have no decrypted data.
            if data.is_none() {
                return Poll::Ready(());
            }
        }
    }

    /// The reason why input ended. Waits until it has, or until a write has found the connection
    /// broken.
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

    /// The guest will not read the rest of the input: [`Self::tend`] discards it.
    pub fn abandon_input(&self) {
        let mut state = self.state();
        if !mem::replace(&mut state.input_abandoned, true) && state.input_end.is_none() {
            self.changed.notify_waiters();
        }
    }

    /// Discards input until it ends.
    pub(super) async fn discard(&self) {
        self.state().ahead = Bytes::new();
        while self.discard_some().await {}
    }

    pub(super) async fn discard_some(&self) -> bool {
        match self.read_and_forget() {
            Some(Ok(0) | Err(_)) => false,
            Some(Ok(_)) => {
                // A peer that sends without end must not keep this worker.
                tokio::task::consume_budget().await;
                true
            }
            None => {
                self.notified().await;
                true
            }
        }
    }

    fn read_and_forget(&self) -> Option<Result<usize, io::ErrorKind>> {
        // On the stack of this function, not in the future of every connection.
        self.read_some(Room::Nowhere(&mut [MaybeUninit::uninit(); 16 << 10]))
    }
}
