//! The end of a process: it has handed over, or nobody takes over.

use super::{Lifecycle, State, orders::name, serving::Serving};
use crate::{
    admin::{Order, Outcome, Verb},
    exit::Exit,
    guest::Reason,
    handoff::offer::Successor,
};
use std::time::Duration;
use tokio::time::{self, Instant};
use tracing::{info, warn};

/// How often a successor is told how many connections its predecessor has left.
const REPORT: Duration = Duration::from_secs(1);

/// A process that somebody else serves in place of, and that finishes what it had accepted.
pub(super) struct Draining {
    pub(super) serving: Serving,
    /// To whom it reports, where it is not a successor that gave the service back.
    successor: Option<Successor>,
    deadline: Option<Instant>,
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
    pub(super) fn drain(&mut self, serving: Serving, successor: Option<Successor>, exit: Exit) -> State {
        self.waiting.forgo(Outcome::Elsewhere, "this process has handed over; ask again");
        let deadline = self.config.handoff.drain_timeout.map(|timeout| Instant::now() + timeout);
        State::Draining(Draining { serving, successor, deadline, told_to_stop: false, exit })
    }

    pub(super) async fn stop(&mut self, mut serving: Serving, told: Told) -> State {
        info!(open = serving.connections.open(), "stopping: no new arrivals, waiting for connections to finish");
        self.notifier.stopping(&self.status("stops, and waits for connections to finish"));
        self.waiting.forgo(Outcome::Failed, "this process stops");
        serving.stop().await;
        State::Stopping(serving, Instant::now() + self.config.drain_timeout, told)
    }

    pub(super) async fn draining(&mut self, mut draining: Draining) -> State {
        draining.report();
        let Draining { serving, successor, deadline, told_to_stop, exit, .. } = &mut draining;
        tokio::select! {
            biased;
            order = self.orders.next() => {
                let word = name(&order);
                let Order { verb, asker } = order;
                match verb {
                    // Who has asked at the endpoint has meant whoever serves.
                    _ if !asker.is_nobody() => asker.elsewhere("this process has handed over; ask again"),
                    Verb::Stop if *told_to_stop => {
                        warn!(open = serving.connections.open(), "stopped at once by a second signal");
                        return State::Ended(Exit::CutShort);
                    }
                    Verb::Stop => {
                        info!(open = serving.connections.open(), "no longer the service: waiting for connections to finish all the same; a second signal cuts");
                        *told_to_stop = true;
                    }
                    Verb::Restart(_) | Verb::Rollback => warn!("{word} is refused: this process has handed over"),
                    Verb::Reload => info!("{word} concerns the log alone: this process has handed over"),
                }
            }
            () = serving.finished() => {
                info!("every connection has finished");
                let exit = *exit;
                draining.report();
                return State::Ended(exit);
            }
            () = expired(*deadline) => {
                let exit = serving.out_of_time(*exit);
                // They are counted when this process lets go of them, when nobody listens any more.
                for _ in 0..serving.connections.open() {
                    serving.connections.counters().failed(Reason::Drain);
                }
                draining.report();
                return State::Ended(exit);
            }
            () = reaped(successor) => {}
            () = time::sleep(REPORT) => {}
        }
        State::Draining(draining)
    }

    pub(super) async fn stopping(&mut self, mut serving: Serving, deadline: Instant, mut told: Told) -> State {
        tokio::select! {
            biased;
            order = self.orders.next() => {
                let word = name(&order);
                let Order { verb, asker } = order;
                let open = serving.connections.open();
                match verb {
                    Verb::Stop if told == Told::ByPredecessor => {
                        info!(open, "stopping already, as the predecessor was told to; a second signal cuts");
                        asker.done(format!("stopping already; {open} connections are open, and a second stop cuts them"));
                        told = Told::BySignal;
                    }
                    Verb::Stop => {
                        warn!(open, "stopped at once by a second signal");
                        asker.done(format!("stopped at once: {open} connections were cut"));
                        return State::Ended(Exit::CutShort);
                    }
                    Verb::Restart(_) | Verb::Rollback => {
                        warn!("{word} is refused: stopping");
                        asker.refused("this process stops");
                    }
                    Verb::Reload => {
                        info!("{word} concerns the log alone: stopping");
                        asker.refused("this process stops; only its log file was opened anew");
                    }
                }
            }
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
    /// Tells the successor what is left, and what was counted.
    fn report(&mut self) {
        if let Some(successor) = &mut self.successor {
            successor.report(u64::try_from(self.serving.connections.open()).unwrap_or(u64::MAX));
        }
    }
}

pub(super) async fn expired(deadline: Option<Instant>) {
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
