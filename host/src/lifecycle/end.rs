//! The end of a process: after a handoff, or without a successor.

use super::{
    Lifecycle, State,
    commands::name,
    serving::{Others, Serving},
};
use crate::{
    admin::{Command, Outcome, Verb},
    handoff::{adopt::Predecessor, draining::Reporter, offer::Successor},
    record::{exit::Exit, failure::Reason},
};
use std::time::Duration;
use tokio::time::{self, Instant};
use tracing::{info, warn};

/// How often a draining process reports to the serving one.
pub(super) const REPORT: Duration = Duration::from_secs(1);

/// How long a process whose connections have finished waits for room in the channel for its last
/// report. During a restart no process reads reports.
const LAST_REPORT: Duration = Duration::from_secs(600);

/// A process that no longer accepts and finishes its open connections while another one serves.
pub(super) struct Draining {
    pub(super) serving: Serving,
    replacement: Replacement,
    deadline: Option<Instant>,
    told_to_stop: bool,
    /// Whether every connection has finished, so that only the last report is left.
    finished: bool,
    exit: Exit,
}

/// The process that serves in place of a draining one, and gets its reports.
pub(super) enum Replacement {
    /// It took over.
    Successor(Successor),
    /// It took the service back.
    Predecessor(Predecessor, Reporter),
}

impl Replacement {
    /// Reports the number of open connections and the outcomes of the others. Returns whether
    /// nothing is left to report.
    fn report(&mut self) -> bool {
        match self {
            Self::Successor(successor) => successor.report(),
            Self::Predecessor(predecessor, reporter) => predecessor.report(reporter),
        }
    }

    /// Waits for its end and reaps it, if it is a child.
    async fn reaped(&mut self) {
        match self {
            Self::Successor(successor) => successor.reaped().await,
            Self::Predecessor(..) => std::future::pending().await,
        }
    }
}

/// How a process learned that it is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    BySignal,
    /// The predecessor got the signal and forwarded it. A supervisor that signals every process
    /// reaches this one as well.
    ByPredecessor,
}

impl Lifecycle {
    /// Drains: finishes the open connections and reports them to the process that serves.
    pub(super) fn drain(&mut self, serving: Serving, replacement: Replacement, exit: Exit) -> State {
        self.waiting.fail_all(Outcome::Elsewhere, "this process has handed over; retry");
        let deadline = self.config.handoff.drain_timeout.map(|timeout| Instant::now() + timeout);
        State::Draining(Draining { serving, replacement, deadline, told_to_stop: false, finished: false, exit })
    }

    pub(super) async fn stop(&mut self, mut serving: Serving, cause: StopCause) -> State {
        info!(open = serving.connections.open(), "stopping, draining connections");
        self.notifier.stopping(&self.status("stops, and waits for connections to finish"));
        self.waiting.fail_all(Outcome::Failed, "this process stops");
        let generations = serving.draining().join(", ");
        if self.others() == Others::EndWithThis && !generations.is_empty() {
            info!(generations, "waiting for draining generations");
        }
        serving.stop().await;
        State::Stopping(serving, Instant::now() + self.config.drain_timeout, cause)
    }

    /// What happens to earlier generations when this process ends. An anchor waits for them itself.
    fn others(&self) -> Others {
        let is_main = self.config.notify_socket.is_some() || std::process::id() == 1;
        if is_main && !self.config.anchored { Others::EndWithThis } else { Others::GoOn }
    }

    pub(super) async fn draining(&mut self, mut draining: Draining) -> State {
        let is_reported = draining.replacement.report();
        if draining.finished && is_reported {
            info!("all connections finished");
            return State::Ended(draining.exit);
        }
        let Draining { serving, replacement, deadline, told_to_stop, finished, exit } = &mut draining;
        tokio::select! {
            biased;
            command = self.commands.next() => {
                let word = name(&command);
                let Command { verb, caller } = command;
                match verb {
                    // The request was meant for the process that serves.
                    _ if !caller.is_signal() => caller.elsewhere("this process has handed over; retry"),
                    Verb::Stop if *told_to_stop => {
                        warn!(open = serving.connections.open(), "stopped by a second signal");
                        draining.close_all();
                        return State::Ended(Exit::CutShort);
                    }
                    Verb::Stop => {
                        info!(open = serving.connections.open(), "stop received, still draining");
                        *told_to_stop = true;
                    }
                    Verb::Restart(_) | Verb::Rollback => warn!(command = word, detail = "this process has handed over", "command rejected"),
                    Verb::Reload => info!(command = word, detail = "this process has handed over", "only the log reopens"),
                }
            }
            () = serving.finished(), if !*finished => {
                *finished = true;
                let last = Instant::now() + LAST_REPORT;
                *deadline = Some(deadline.map_or(last, |deadline| deadline.min(last)));
            }
            () = expired(*deadline) => {
                let exit = serving.out_of_time(*exit, Others::GoOn);
                draining.close_all();
                return State::Ended(exit);
            }
            () = replacement.reaped() => {}
            () = time::sleep(REPORT) => {}
        }
        State::Draining(draining)
    }

    pub(super) async fn stopping(&mut self, mut serving: Serving, deadline: Instant, mut cause: StopCause) -> State {
        let others = self.others();
        tokio::select! {
            biased;
            command = self.commands.next() => {
                let word = name(&command);
                let Command { verb, caller } = command;
                let open = serving.connections.open();
                match verb {
                    Verb::Stop if cause == StopCause::ByPredecessor => {
                        info!(open, "already stopping");
                        caller.done(format!("already stopping; {open} connections are open, and a second stop closes them"));
                        cause = StopCause::BySignal;
                    }
                    Verb::Stop => {
                        warn!(open, "stopped by a second signal");
                        caller.done(format!("stopped at once: {open} connections were closed"));
                        return State::Ended(Exit::CutShort);
                    }
                    Verb::Restart(_) | Verb::Rollback => {
                        warn!(command = word, detail = "this process is stopping", "command rejected");
                        caller.refused("this process stops");
                    }
                    Verb::Reload => {
                        info!(command = word, detail = "this process is stopping", "only the log reopens");
                        caller.refused("this process is stopping; only its log file was reopened");
                    }
                }
            }
            () = serving.all_finished(others) => {
                info!("all connections finished");
                return State::Ended(Exit::Finished);
            }
            () = time::sleep_until(deadline) => {
                return State::Ended(serving.out_of_time(Exit::Finished, others));
            }
        }
        State::Stopping(serving, deadline, cause)
    }
}

impl Draining {
    /// Ends the process before its connections. The runtime closes them when no process reads
    /// reports any more, so they are counted and reported here.
    fn close_all(&mut self) {
        let counters = self.serving.connections.counters();
        for _ in 0..counters.here().open() {
            counters.failed(Reason::Drain);
        }
        self.replacement.report();
    }
}

pub(super) async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
