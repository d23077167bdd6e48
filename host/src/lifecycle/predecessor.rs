//! This process as the predecessor of one that takes over.

use super::{
    Lifecycle, State,
    commands::name,
    current::stops,
    end::{REPORT, Replacement, StopCause},
    serving::{Busy, Serving},
};
use crate::{
    admin::{self, Command, Outcome, Until},
    handoff::{
        draining::DrainingProcess,
        message::{Message, Verb},
        offer::{self, Successor},
    },
    net::Key,
    record::{counters::Totals, exit::Exit},
};
use std::time::Duration;
use tokio::time::{self, Instant};
use tracing::{error, field, info, warn};

/// How long the service manager may take to notice its new main process.
///
/// Shorter than a successor that was told to stop waits for this process to let go.
const NOTICE: Duration = Duration::from_millis(300);

/// How long a successor may take to read that the handoff was aborted, and to exit.
const ABORT: Duration = Duration::from_millis(200);

/// Commands that arrived during a restart, to be run when its outcome is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deferred {
    stop: bool,
    reload: bool,
}

/// What ends a window early.
#[derive(Clone, Copy, Debug)]
pub(super) enum EarlyEnd {
    /// Nothing: the window is over.
    Nothing,
    /// This process got a stop; the successor will get it.
    OfThis(Verb),
    /// The successor got a command.
    OfSuccessor(Verb),
}

impl Lifecycle {
    pub(super) async fn offering(
        &mut self,
        mut serving: Serving,
        mut successor: Successor,
        mut deferred: Deferred,
    ) -> State {
        tokio::select! {
            biased;
            command = self.commands.next() => match command.verb {
                admin::Verb::Stop => {
                    command.caller.done(stops(&serving));
                    info!(successor = successor.pid(), "restart aborted by a stop");
                    successor.discard("the service was told to stop", ABORT).await;
                    self.restart_failed(&serving, "aborted: the service was told to stop");
                    return self.stop(serving, StopCause::BySignal).await;
                }
                admin::Verb::Rollback => {
                    self.waiting.for_rollback(command.caller);
                    let state = self.failed(serving, successor, &offer::Error::CalledOff, deferred).await;
                    let done = format!("the restart was aborted; generation {} continues", self.generation);
                    self.waiting.rollback_is(Outcome::Done, &done);
                    return state;
                }
                admin::Verb::Restart(_) => self.join_restart(command),
                admin::Verb::Reload => self.defer_reload(&mut serving, command, &mut deferred),
            },
            prepared = successor.prepared() => {
                let committed = match prepared {
                    Ok(claimed) => successor.commit().await.map(|()| claimed),
                    Err(failure) => Err(failure),
                };
                return match committed {
                    Ok(claimed) => State::Committed(serving, successor, claimed, deferred),
                    Err(failure) => self.failed(serving, successor, &failure, deferred).await,
                };
            }
            event = serving.event(Busy::HandingOver("another restart is under way")) => {
                if let Some(bug) = self.noted(&serving, event) {
                    return bug;
                }
            }
        }
        State::Offering(serving, successor, deferred)
    }

    pub(super) async fn committed(
        &mut self,
        mut serving: Serving,
        mut successor: Successor,
        claimed: Vec<Key>,
        mut deferred: Deferred,
    ) -> State {
        tokio::select! {
            biased;
            command = self.commands.next() => match command.verb {
                admin::Verb::Stop => {
                    info!("stop deferred until the restart ends");
                    command.caller.done("the stop is deferred until the restart ends");
                    deferred.stop = true;
                }
                // In a moment the successor has to request it.
                admin::Verb::Rollback => command.caller.elsewhere("the successor is about to serve; retry"),
                admin::Verb::Restart(_) => self.join_restart(command),
                admin::Verb::Reload => self.defer_reload(&mut serving, command, &mut deferred),
            },
            serves = successor.serving() => {
                if let Err(failure) = serves {
                    return self.failed(serving, successor, &failure, deferred).await;
                }
                serving.pause(&claimed);
                if let Some(endpoint) = serving.endpoint.as_mut().filter(|_| successor.takes_admin()) {
                    endpoint.pause();
                }
                info!(successor = successor.pid(), "successor serving");
                let detail = self.successor_serves(&successor);
                self.waiting.restart_is(Until::Serving, Outcome::Done, &detail);
                self.waiting.later_reload_is(Outcome::Elsewhere, &format!("{detail}; retry"));
                if deferred.reload {
                    serving.reload_with_successor = true;
                    successor.tell(Message::Forward { verb: Verb::Reload }).await;
                }
                let window = self.config.handoff.rollback_window;
                if deferred.stop {
                    return self.settle(serving, successor, claimed, EarlyEnd::OfThis(Verb::Stop)).await;
                }
                if window.is_zero() || !successor.can_be_watched() {
                    return self.settle(serving, successor, claimed, EarlyEnd::Nothing).await;
                }
                return State::Watching(serving, successor, claimed, Instant::now() + window);
            }
            event = serving.event(Busy::HandingOver("another restart is under way")) => {
                if let Some(bug) = self.noted(&serving, event) {
                    return bug;
                }
            }
        }
        State::Committed(serving, successor, claimed, deferred)
    }

    /// The successor failed: this process ends it and continues to serve.
    pub(super) async fn failed(
        &mut self,
        mut serving: Serving,
        successor: Successor,
        failure: &offer::Error,
        deferred: Deferred,
    ) -> State {
        let pid = successor.pid();
        let status = successor.discard(&failure.to_string(), failure.grace()).await;
        let status = status.map_or_else(String::new, |status| format!(" ({status})"));
        let detail = format!("{failure}{status}");
        error!(successor = pid, error = %detail, "restart failed, still serving");
        self.restart_failed(&serving, &format!("generation {} continues: {failure}{status}", self.generation));
        self.notifier.ready(&self.status("serves; its last restart failed"));
        if deferred.stop {
            return self.stop(serving, StopCause::BySignal).await;
        }
        if self.waiting.reload_now() || deferred.reload {
            self.reload(&mut serving, None);
        }
        State::Serving(serving)
    }

    pub(super) async fn watching(
        &mut self,
        mut serving: Serving,
        mut successor: Successor,
        claimed: Vec<Key>,
        until: Instant,
    ) -> State {
        successor.report_in_window();
        tokio::select! {
            biased;
            Command { verb, caller } = self.commands.next() => match verb {
                // The request was meant for the serving process, which answers at the endpoint by
                // now.
                _ if !caller.is_signal() => {
                    let detail = self.successor_serves(&successor);
                    match successor.takes_admin() {
                        true => caller.elsewhere(format!("{detail}; retry")),
                        false => caller.refused(format!("{detail}, and has another admin endpoint, if any; ask there")),
                    }
                    State::Watching(serving, successor, claimed, until)
                }
                admin::Verb::Stop => self.settle(serving, successor, claimed, EarlyEnd::OfThis(Verb::Stop)).await,
                admin::Verb::Restart(_) => self.settle(serving, successor, claimed, EarlyEnd::OfThis(Verb::Restart)).await,
                admin::Verb::Reload => {
                    info!("HUP forwarded to the successor");
                    serving.reopen_earlier_logs();
                    serving.reload_with_successor = true;
                    successor.tell(Message::Forward { verb: Verb::Reload }).await;
                    State::Watching(serving, successor, claimed, until)
                }
                // No signal exists for it.
                admin::Verb::Rollback => State::Watching(serving, successor, claimed, until),
            },
            event = successor.event() => match event {
                offer::Event::Leaving(verb) => {
                    info!(successor = successor.pid(), command = %verb, "command forwarded to the successor");
                    self.settle(serving, successor, claimed, EarlyEnd::OfSuccessor(verb)).await
                }
                offer::Event::Yield(counted) => self.resume(serving, successor, counted).await,
                offer::Event::Reloading => {
                    self.notifier.reloading(&self.successors_status("serves, and reloads"));
                    State::Watching(serving, successor, claimed, until)
                }
                offer::Event::Reloaded { done } => {
                    let does = if done { "serves the reloaded configuration" } else { "serves; its last reload failed" };
                    self.notifier.ready(&self.successors_status(does));
                    State::Watching(serving, successor, claimed, until)
                }
                offer::Event::Died => self.successor_died(serving, successor).await,
            },
            event = serving.event(Busy::HandingOver("a successor serves already")) => {
                self.noted(&serving, event).unwrap_or(State::Watching(serving, successor, claimed, until))
            }
            () = time::sleep_until(until) => self.settle(serving, successor, claimed, EarlyEnd::Nothing).await,
            () = time::sleep(REPORT) => State::Watching(serving, successor, claimed, until),
        }
    }

    /// A status line about the successor, for the service manager.
    fn successors_status(&self, does: &str) -> String {
        format!("generation {} {does}", self.generation.next())
    }

    /// Runs the commands that the service got while the successor served.
    fn catch_up(&self, serving: &mut Serving) {
        if std::mem::take(&mut serving.reload_with_successor) {
            self.reload(serving, None);
        }
    }

    /// The successor died: this process accepts again.
    pub(super) async fn successor_died(&mut self, mut serving: Serving, successor: Successor) -> State {
        self.accept_again(&mut serving);
        let pid = successor.pid();
        let status = successor.discard("", Duration::ZERO).await;
        error!(successor = pid, status = status.as_ref().map(field::display), "successor died, serving again");
        let status = status.map_or_else(String::new, |status| format!(" ({status})"));
        let why = format!(
            "the successor died within the rollback window{status}; generation {} serves again",
            self.generation
        );
        self.restart_failed(&serving, &why);
        self.notifier.ready(&self.status("serves again; its successor died"));
        self.catch_up(&mut serving);
        State::Serving(serving)
    }

    /// The successor gives the service back: this process accepts again.
    pub(super) async fn resume(&mut self, mut serving: Serving, successor: Successor, counted: Totals) -> State {
        self.accept_again(&mut serving);
        successor.tell(Message::Resumed {}).await;
        warn!(successor = successor.pid(), "rolled back, serving again");
        self.restart_failed(&serving, &format!("rolled back: generation {} serves again", self.generation));
        self.notifier.ready(&self.status("serves again; its successor was rolled back"));
        self.catch_up(&mut serving);
        let rolled_back = DrainingProcess::rolled_back(self.generation.next(), successor, counted.open());
        serving.remember(rolled_back, &counted);
        State::Serving(serving)
    }

    pub(super) fn accept_again(&mut self, serving: &mut Serving) {
        if let Err(error) = serving.accept() {
            error!(%error, "accept failed, retrying");
        }
    }

    /// Settles the restart, when the window is over or ends early. After this no rollback is
    /// possible.
    pub(super) async fn settle(
        &mut self,
        mut serving: Serving,
        mut successor: Successor,
        claimed: Vec<Key>,
        asked: EarlyEnd,
    ) -> State {
        if successor.is_child() {
            // A service manager gives only its own children time to end.
            successor.let_go().await;
            // Before the successor may act as the service, the service manager must know it as the
            // main process.
            let status = format!("generation {} serves", self.generation.next());
            self.notifier.ready_as(successor.pid().unsigned_abs(), &status);
            if let Err(error) = self.notifier.barrier(NOTICE).await {
                warn!(%error, "main process not confirmed");
            }
        }
        // The last check: after this no rollback is possible.
        if successor.has_ended() {
            if successor.is_child() {
                self.notifier.ready_as(std::process::id(), &self.status("serves"));
            }
            let verb = match asked {
                EarlyEnd::Nothing => None,
                EarlyEnd::OfThis(verb) | EarlyEnd::OfSuccessor(verb) => Some(verb),
            };
            return match self.successor_died(serving, successor).await {
                State::Serving(serving) => self.obey(serving, verb, StopCause::BySignal).await,
                state => state,
            };
        }
        if !successor.is_child() {
            self.notifier.stopping(&self.status("handed over, draining connections"));
        }
        serving.hand_over(&claimed).await;
        if let Some(endpoint) = serving.endpoint.take().filter(|_| successor.takes_admin()) {
            endpoint.hand_over();
        }
        if let Some(pidfile) = serving.pidfile.take()
            && self.config.pidfile.as_deref() == successor.pidfile()
        {
            pidfile.release();
        }
        if let EarlyEnd::OfThis(verb) = asked {
            successor.tell(Message::Forward { verb }).await;
        }
        successor.tell(Message::Settled {}).await;
        info!(successor = successor.pid(), open = serving.connections.open(), "handed over, draining connections");
        let detail = format!("{}, and the rollback window is over", self.successor_serves(&successor));
        self.waiting.restart_is(Until::Settled, Outcome::Done, &detail);
        self.drain(serving, Replacement::Successor(successor), Exit::Finished)
    }
}

impl Lifecycle {
    fn join_restart(&mut self, command: Command) {
        info!(command = name(&command), "command joins the restart");
        if let admin::Verb::Restart(until) = command.verb {
            self.waiting.for_restart(until, command.caller);
        }
    }

    /// A waiting request is told to ask the successor, if the restart succeeds; that process
    /// reports the outcome.
    fn defer_reload(&mut self, serving: &mut Serving, command: Command, deferred: &mut Deferred) {
        serving.reopen_earlier_logs();
        info!(command = name(&command), "command deferred until the restart ends");
        if command.caller.is_signal() {
            deferred.reload = true;
        } else {
            self.waiting.for_later_reload(command.caller);
        }
    }
}
