//! What is done for a connection beside its guest, and after it: finishing what the guest has left.
//!
//! Nothing here reads or writes the socket itself; it says when the two directions do, and for how long at most.

use super::Wire;
use bytes::Bytes;
use rustix::net::sockopt::set_socket_linger;
use std::{convert::Infallible, future::poll_fn, task::Poll, time::Duration};
use tokio::time;

/// After the reply, input that nobody read is discarded so that the peer gets the reply and no reset; for so long in
/// all, and for so long without a byte. Both are nginx's `lingering_time` and `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(5);

impl Wire {
    /// Does what the guest leaves to be done while it runs on: sends what it has written, closes the output that it has
    /// finished, discards the input that it has abandoned. Never returns. To be polled whenever the guest waits.
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

    /// Ends the connection so that the peer gets all that was written: flush, close the sending side, discard what
    /// still comes for a bounded time, then close. A peer that takes nothing for `silence` is given up.
    pub async fn conclude(&self, silence: Duration) {
        self.state().output_finished = true;
        loop {
            let before = self.last_byte();
            match time::timeout(silence, self.flushed()).await {
                // One that takes a little each time is slow, not gone.
                Err(_) if self.last_byte() > before => {}
                _ => break,
            }
        }
        if self.state().output_reset {
            // Where the peer is gone there is nobody to tell.
            set_socket_linger(self.socket.descriptor(), Some(Duration::ZERO)).ok();
            return;
        }
        self.shut_output();
        self.state().ahead = Bytes::new();
        self.forget_session();
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
