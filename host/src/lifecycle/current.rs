//! This process while it serves, until a successor starts.

use super::{
    Lifecycle, State, bug,
    end::StopCause,
    predecessor::Deferred,
    serving::{Busy, Event, Serving},
    watch::Saved,
};
use crate::{
    admin::{self, Command, Outcome},
    handoff::{handoff_socket::Visitor, offer::Successor},
};
use std::{os::fd::OwnedFd, sync::Arc};
use tracing::{error, info, warn};

impl Lifecycle {
    pub(super) async fn serving(&mut self, mut serving: Serving) -> State {
        tokio::select! {
            biased;
            Command { verb, caller } = self.commands.next() => match verb {
                admin::Verb::Stop => {
                    caller.done(stops(&serving));
                    self.stop(serving, StopCause::BySignal).await
                }
                admin::Verb::Restart(until) => {
                    self.waiting.for_restart(until, caller);
                    self.restart(serving)
                }
                admin::Verb::Reload => {
                    serving.reopen_earlier_logs();
                    self.waiting.for_reload(caller);
                    self.reload(&mut serving, None);
                    State::Serving(serving)
                }
                admin::Verb::Rollback => {
                    warn!(command = "rollback", detail = "no restart is under way or within its window", "command rejected");
                    caller.refused("there is nothing to roll back: no restart is under way or within its window");
                    State::Serving(serving)
                }
            },
            event = serving.event(Busy::Not) => match event {
                Event::Visitor(visitor) => self.visited(serving, *visitor).await,
                Event::Saved(saved) => {
                    self.reload(&mut serving, Some(saved));
                    State::Serving(serving)
                }
                Event::Reloaded(outcome) => {
                    let does = match outcome {
                        Ok(()) => "serves the reloaded configuration",
                        Err(_) => "serves; its last reload failed",
                    };
                    self.reloaded(&serving, outcome);
                    self.notifier.ready(&self.status(does));
                    State::Serving(serving)
                }
                Event::Changed => State::Serving(serving),
                bug @ Event::Bug(_) => self::bug(bug),
            }
        }
    }

    /// Handles an event during a handoff. A bug ends the process.
    pub(super) fn noted(&mut self, serving: &Serving, event: Event) -> Option<State> {
        match event {
            Event::Reloaded(outcome) => self.reloaded(serving, outcome),
            Event::Changed => {}
            event => return Some(bug(event)),
        }
        None
    }

    /// Reports the outcome of a reload to the requests that wait for it.
    pub(super) fn reloaded(&mut self, serving: &Serving, outcome: Result<(), String>) {
        serving.connections.counters().reloaded(outcome.is_ok());
        let (outcome, detail) = match outcome {
            Ok(()) => (Outcome::Done, "new connections get the new version".to_owned()),
            Err(why) => (Outcome::Failed, format!("nothing changed: {why}")),
        };
        self.waiting.reload_is(outcome, &detail);
    }

    /// Logs and reports that a restart failed.
    pub(super) fn restart_failed(&mut self, serving: &Serving, why: &str) {
        serving.connections.counters().restarted(false);
        self.waiting.restart_is_over(Outcome::Failed, why);
    }

    /// The same for a restart that was rejected without an attempt.
    pub(super) fn restart_refused(&mut self, serving: &Serving, why: &str) {
        serving.connections.counters().restarted(false);
        self.waiting.restart_is_over(Outcome::Refused, why);
    }

    /// Names the process that serves now, for the answer to a request.
    pub(super) fn successor_serves(&self, successor: &Successor) -> String {
        format!("generation {} serves (process {})", self.generation.next(), successor.pid())
    }

    /// Starts a reload as the current service. Within the window the service manager knows the
    /// predecessor as the main process and ignores this one.
    pub(super) fn reload(&self, serving: &mut Serving, saved: Option<Saved>) {
        self.notifier.reloading(&self.status("serving, reloading its configuration"));
        serving.reload(&self.config, &self.ticket_keys, saved);
    }

    /// The ticket keys for a successor. Without them sessions do not resume, which does not justify
    /// failing a restart.
    pub(super) fn ticket_keys(&self, serving: &Serving) -> Option<Arc<OwnedFd>> {
        if !serving.speaks_tls() {
            return None;
        }
        match self.ticket_keys.hand_over() {
            Ok(file) => Some(Arc::new(file)),
            Err(error) => {
                warn!(%error, "TLS ticket keys not handed over");
                None
            }
        }
    }

    pub(super) fn restart(&mut self, serving: Serving) -> State {
        // Before anything can fail: a service manager that sent the signal waits for both
        // notifications.
        self.notifier.reloading(&self.status("serving, and starting a successor"));
        if let Some(reason) = self.ends_with_this_process().or_else(|| self.too_many(&serving)) {
            error!(command = "restart", detail = %reason, "command rejected");
            self.restart_refused(&serving, &reason);
            self.notifier.ready(&self.status("serves; its last restart was rejected"));
            return State::Serving(serving);
        }
        let inventory = serving.inventory(self.generation, self.ticket_keys(&serving));
        match Successor::start(&self.config.handoff.start, inventory, self.config.handoff.ready_timeout) {
            Ok(successor) => {
                info!(successor = successor.pid(), "restarting: successor started");
                State::Offering(serving, successor, Deferred::default())
            }
            Err(failure) => {
                error!(error = %failure, "restart failed, still serving");
                self.restart_failed(&serving, &format!("generation {} continues: {failure}", self.generation));
                self.notifier.ready(&self.status("serves; its last restart failed"));
                State::Serving(serving)
            }
        }
    }

    pub(super) async fn visited(&mut self, serving: Serving, visitor: Visitor) -> State {
        if let Some(reason) = self.too_many(&serving) {
            error!(command = "restart", detail = %reason, "command rejected");
            self.restart_refused(&serving, &reason);
            visitor.refuse(&reason).await;
            return State::Serving(serving);
        }
        match Successor::came(visitor, serving.inventory(self.generation, self.ticket_keys(&serving))) {
            Ok(successor) => {
                info!(successor = successor.pid(), "restarting: successor connected");
                State::Offering(serving, successor, Deferred::default())
            }
            Err(refused) => {
                let (failure, visitor) = *refused;
                warn!(error = %failure, "successor rejected");
                self.restart_refused(&serving, &failure.to_string());
                visitor.refuse(&failure.to_string()).await;
                State::Serving(serving)
            }
        }
    }

    /// Why the service would end with this process, if it would.
    fn ends_with_this_process(&self) -> Option<String> {
        let supervision = self.config.supervision.as_ref()?;
        Some(format!("{supervision}; stop the host and start it with --anchor (or without --anchor=never), once"))
    }

    /// Why no further generation may drain, if the limit is reached.
    pub(super) fn too_many(&self, serving: &Serving) -> Option<String> {
        let draining = serving.draining();
        let most = self.config.handoff.max_draining.get();
        (draining.len() >= most as usize).then(|| {
            format!(
                "--max-draining {most} generations still serve connections: {}; wait for them, end them with two TERMs each, or set \
                 --handoff-drain-timeout",
                draining.join(", ")
            )
        })
    }
}

/// The answer to a request that stops this process.
pub(super) fn stops(serving: &Serving) -> String {
    format!("stopping: {} connections finish", serving.connections.open())
}
