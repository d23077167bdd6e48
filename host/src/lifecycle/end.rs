//! The end of a process: it has handed over, or nobody takes over.

use super::{Lifecycle, State, heard, serving::Serving};
use crate::{
    exit::Exit,
    handoff::{message::Message, offer::Successor},
    signals::Signal,
};
use std::time::Duration;
use tokio::time::{self, Instant};
use tracing::{info, warn};

/// How often a successor is told how many connections its predecessor has left.
const REPORT: Duration = Duration::from_secs(1);

/// A process that somebody else serves in place of, and that finishes what it had accepted.
pub(super) struct Draining {
    serving: Serving,
    /// To whom it reports, where it is not a successor that gave the service back.
    successor: Option<Successor>,
    deadline: Option<Instant>,
    reported: Option<u64>,
    told_to_stop: bool,
    exit: Exit,
}

/// By what a process has learned that it is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    BySignal,
    /// By the predecessor, which got the signal. Whoever signals every process of a service reaches this one as well.
    ByPredecessor,
}

impl Lifecycle {
    /// Somebody else serves: what this process has accepted is finished, and reported to a `successor`.
    pub(super) fn drain(&self, serving: Serving, successor: Option<Successor>, exit: Exit) -> State {
        let deadline = self.config.handoff.drain_timeout.map(|timeout| Instant::now() + timeout);
        State::Draining(Draining { serving, successor, deadline, reported: None, told_to_stop: false, exit })
    }

    pub(super) async fn stop(&mut self, mut serving: Serving, told: Told) -> State {
        info!(open = serving.connections.open(), "stopping: no new arrivals, waiting for connections to finish");
        self.notifier.stopping(&self.status("stops, and waits for connections to finish"));
        serving.stop().await;
        State::Stopping(serving, Instant::now() + self.config.drain_timeout, told)
    }

    pub(super) async fn draining(&mut self, mut draining: Draining) -> State {
        draining.report();
        let Draining { serving, successor, deadline, told_to_stop, exit, .. } = &mut draining;
        tokio::select! {
            biased;
            signal = heard(&mut self.signals) => match signal {
                Signal::Terminate if *told_to_stop => {
                    warn!(open = serving.connections.open(), "stopped at once by a second signal");
                    return State::Ended(Exit::CutShort);
                }
                Signal::Terminate => {
                    info!(open = serving.connections.open(), "no longer the service: waiting for connections to finish all the same; a second signal cuts");
                    *told_to_stop = true;
                }
                Signal::Restart => warn!("USR1 is refused: this process has handed over"),
                Signal::Reload => info!("HUP concerns the log alone: this process has handed over"),
            },
            () = serving.finished() => {
                info!("every connection has finished");
                return State::Ended(*exit);
            }
            () = expired(*deadline) => {
                return State::Ended(serving.out_of_time(*exit));
            }
            () = reaped(successor) => {}
            () = time::sleep(REPORT) => {}
        }
        State::Draining(draining)
    }

    pub(super) async fn stopping(&mut self, mut serving: Serving, deadline: Instant, mut told: Told) -> State {
        tokio::select! {
            biased;
            signal = heard(&mut self.signals) => match signal {
                Signal::Terminate if told == Told::ByPredecessor => {
                    info!(open = serving.connections.open(), "stopping already, as the predecessor was told to; a second signal cuts");
                    told = Told::BySignal;
                }
                Signal::Terminate => {
                    warn!(open = serving.connections.open(), "stopped at once by a second signal");
                    return State::Ended(Exit::CutShort);
                }
                Signal::Restart => warn!("USR1 is refused: stopping"),
                Signal::Reload => info!("HUP concerns the log alone: stopping"),
            },
            () = serving.finished() => {
                info!("every connection has finished");
                return State::Ended(Exit::Finished);
            }
            () = time::sleep_until(deadline) => {
                return State::Ended(serving.out_of_time(Exit::Finished));
            }
        }
        State::Stopping(serving, deadline, told)
    }
}

impl Draining {
    /// Tells the successor how many connections are left, where that has changed. It may have better things to do than to listen.
    fn report(&mut self) {
        let Some(successor) = &self.successor else { return };
        let connections = u64::try_from(self.serving.connections.open()).unwrap_or(u64::MAX);
        if self.reported != Some(connections) && successor.mention(&Message::Draining { connections }) {
            self.reported = Some(connections);
        }
    }
}

async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits until the successor has ended, where it is a child, and reaps it.
async fn reaped(successor: &mut Option<Successor>) {
    match successor {
        Some(successor) => successor.reaped().await,
        None => std::future::pending().await,
    }
}
