//! The commands to the process, from signals and the admin endpoint, and the requests that wait for
//! their outcome.

use crate::{
    admin::{self, Caller, Command, Outcome, Past, Until, Verb},
    record::log,
    system::signals::{Signal, Signals},
};
use std::mem;

/// The sources of commands.
pub(super) struct Commands {
    signals: Signals,
    pub(super) admin: admin::Inbox,
}

impl Commands {
    pub(super) fn new(signals: Signals, admin: admin::Inbox) -> Self {
        Self { signals, admin }
    }

    /// The next command; signals come first. HUP reopens the log in every state, since the log was
    /// already moved away. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Command {
        let command = tokio::select! {
            biased;
            signal = self.signals.next() => {
                let verb = match signal {
                    Signal::Terminate => Verb::Stop,
                    Signal::Restart => Verb::Restart(Until::Serving),
                    Signal::Reload => Verb::Reload,
                };
                Command { verb, caller: Caller::signal() }
            }
            command = self.admin.command() => command,
        };
        if command.verb == Verb::Reload {
            log::reopen();
        }
        command
    }
}

/// The name of a command in the log.
pub(super) fn name(command: &Command) -> &'static str {
    match (command.verb, command.caller.is_signal()) {
        (Verb::Restart(_), true) => "USR1",
        (Verb::Restart(_), false) => "restart",
        (Verb::Reload, true) => "HUP",
        (Verb::Reload, false) => "reload",
        (Verb::Rollback, _) => "rollback",
        (Verb::Stop, _) => "stop",
    }
}

/// The requests that wait for an outcome, and the last outcomes. They are answered after the status
/// is published, so that a request that follows sees it.
#[derive(Default)]
pub(super) struct Waiting {
    restart: Vec<(Until, Caller)>,
    reload: Vec<Caller>,
    /// For a reload that starts only after the restart.
    later_reload: Vec<Caller>,
    rollback: Vec<Caller>,
    answers: Vec<(Caller, Outcome, String)>,
    pub(super) last_restart: Option<Past>,
    pub(super) last_reload: Option<Past>,
}

impl Waiting {
    /// Waits for the outcome of the current or next restart.
    pub(super) fn for_restart(&mut self, until: Until, caller: Caller) {
        self.restart.push((until, caller));
    }

    /// Waits for the outcome of a reload.
    pub(super) fn for_reload(&mut self, caller: Caller) {
        self.reload.push(caller);
    }

    /// Waits for a reload that starts if the current restart fails.
    pub(super) fn for_later_reload(&mut self, caller: Caller) {
        self.later_reload.push(caller);
    }

    /// Waits for the predecessor's answer to a rollback.
    pub(super) fn for_rollback(&mut self, caller: Caller) {
        self.rollback.push(caller);
    }

    /// Moves the deferred requests to a reload that starts now. Returns whether there were any.
    pub(super) fn reload_now(&mut self) -> bool {
        let any = !self.later_reload.is_empty();
        self.reload.append(&mut self.later_reload);
        any
    }

    /// The restart has reached a stage, or has failed.
    pub(super) fn restart_is(&mut self, far: Until, outcome: Outcome, detail: &str) {
        let (there, waiting): (Vec<_>, Vec<_>) = mem::take(&mut self.restart)
            .into_iter()
            .partition(|(until, _)| far == Until::Settled || *until == Until::Serving);
        self.restart = waiting;
        self.tell(there.into_iter().map(|(_, caller)| caller), outcome, detail);
    }

    /// The restart has ended with this outcome.
    pub(super) fn restart_is_over(&mut self, outcome: Outcome, detail: &str) {
        self.restart_is(Until::Settled, outcome, detail);
        self.last_restart = Some(Past::now(outcome, detail));
    }

    /// A reload has ended with this outcome.
    pub(super) fn reload_is(&mut self, outcome: Outcome, detail: &str) {
        let callers = mem::take(&mut self.reload);
        self.tell(callers, outcome, detail);
        self.last_reload = Some(Past::now(outcome, detail));
    }

    /// A deferred reload does not start here.
    pub(super) fn later_reload_is(&mut self, outcome: Outcome, detail: &str) {
        let callers = mem::take(&mut self.later_reload);
        self.tell(callers, outcome, detail);
    }

    /// A rollback has ended with this outcome.
    pub(super) fn rollback_is(&mut self, outcome: Outcome, detail: &str) {
        let callers = mem::take(&mut self.rollback);
        self.tell(callers, outcome, detail);
    }

    /// This process will not run any command that is waited for.
    pub(super) fn fail_all(&mut self, outcome: Outcome, why: &str) {
        let restart = mem::take(&mut self.restart).into_iter().map(|(_, caller)| caller);
        let rest = [&mut self.reload, &mut self.later_reload, &mut self.rollback].map(mem::take);
        self.tell(restart.chain(rest.into_iter().flatten()), outcome, why);
    }

    fn tell(&mut self, callers: impl IntoIterator<Item = Caller>, outcome: Outcome, detail: &str) {
        self.answers.extend(callers.into_iter().map(|caller| (caller, outcome, detail.to_owned())));
    }

    /// Sends the pending answers.
    pub(super) fn deliver(&mut self) {
        self.answers.drain(..).for_each(|(caller, outcome, detail)| caller.answer(outcome, detail));
    }
}
