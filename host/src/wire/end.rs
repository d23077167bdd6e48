//! Work on a connection beside its guest and after it: finishing what the guest has left.
//!
//! This module does not read or write the socket itself. It decides when the two directions do, and
//! for how long at most.

use super::Wire;
use bytes::Bytes;
use rustix::net::sockopt::set_socket_linger;
use std::{convert::Infallible, future::poll_fn, task::Poll, time::Duration};
use tokio::time;

/// How long unread input is discarded after the reply, in total and without a byte, so that the
/// peer gets the reply and no reset. nginx's `lingering_time` and `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(5);

impl Wire {
    /// Does the work that a running guest leaves: sends what it has written, closes the output that
    /// it has finished, discards the input that it has abandoned. Never returns. Poll it whenever
    /// the guest waits.
    pub async fn tend(&self) -> Infallible {
        loop {
            let changed = self.changed.notified();
            let (send, discard) = {
                let state = self.state();
                (
                    state.stuck() || state.output_finished && !state.output_shut,
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
            let waits = poll_fn(|_| {
                self.release();
                Poll::<Infallible>::Pending
            });
            tokio::select! {
                biased;
                never = waits => match never {},
                () = sent => {}
                () = discarded => {}
                () = changed => {}
            }
        }
    }

    /// Ends the connection so that the peer gets all that was written: flushes, closes the sending
    /// side, discards input for a bounded time, then closes. Gives up on a peer that takes nothing
    /// for `silence`.
    pub async fn conclude(&self, silence: Duration) {
        self.state().output_finished = true;
        loop {
            let before = self.last_byte();
            match time::timeout(silence, self.flushed()).await {
                // A peer that takes a little each time is slow, not gone.
                Err(_) if self.last_byte() > before => {}
                _ => break,
            }
        }
        if self.state().output_reset {
            // Fails if the peer is gone, which needs no report.
            set_socket_linger(self.socket.descriptor(), Some(Duration::ZERO)).ok();
            return;
        }
        self.shut_output();
        self.state().ahead = Bytes::new();
        self.forget_session();
        let until = time::Instant::now() + LINGER;
        loop {
            let now = time::Instant::now();
            // Checks the clock here too: a peer that always has more to send would keep
            // `timeout_at` from it.
            if now >= until || time::timeout_at(until.min(now + LINGER_SILENCE), self.discard_some()).await != Ok(true)
            {
                break;
            }
        }
    }
}
