//! The peer's bytes on their way in: read ahead, read by the guest, or discarded once nobody wants them.
//!
//! Every read of the socket is here, so that why input ended is found out once and told to all who ask.

use super::{CHUNK, Wire};
use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    net::{RecvFlags, recv},
};
use std::{
    io, mem,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};
use tokio::io::Interest;

/// What is read ahead to find out whether the peer has sent something. Small, since every connection passes through it.
const FIRST_READ: usize = 2 << 10;

/// Why the input of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEnd {
    /// The peer closed its sending side.
    Closed,
    /// The connection broke: a reset, or a timeout of the transport.
    Broken(io::ErrorKind),
}

impl Wire {
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

    /// No one will read the rest of the input: [`Self::tend`] discards it.
    pub fn abandon_input(&self) {
        let mut state = self.state();
        if !mem::replace(&mut state.input_abandoned, true) && state.input_end.is_none() {
            self.changed.notify_waiters();
        }
    }

    /// Reads and forgets until the input ends.
    pub(super) async fn discard(&self) {
        self.state().ahead = Bytes::new();
        while self.discard_some().await {}
    }

    pub(super) async fn discard_some(&self) -> bool {
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
}
