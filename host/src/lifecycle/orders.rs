//! The commands to the process, from signals and the admin endpoint, and the requests that wait for
//! their outcome.

use crate::{
    admin::{self, Asker, Order, Outcome, Past, Until, Verb},
    record::log,
    system::signals::{Signal, Signals},
};
use std::mem;

/// The sources of commands.
pub(super) struct Orders {
    signals: Signals,
    pub(super) admin: admin::Inbox,
}

impl Orders {
    pub(super) fn new(signals: Signals, admin: admin::Inbox) -> Self {
        Self { signals, admin }
    }

    /// The next command; signals come first. HUP reopens the log in every state, since the log was
    /// already moved away. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Order {
        let order = tokio::select! {
            biased;
            signal = self.signals.next() => {
                let verb = match signal {
                    Signal::Terminate => Verb::Stop,
                    Signal::Restart => Verb::Restart(Until::Serving),
                    Signal::Reload => Verb::Reload,
                };
                Order { verb, asker: Asker::nobody() }
            }
            order = self.admin.order() => order,
        };
        if order.verb == Verb::Reload {
            log::reopen();
        }
        order
    }
}

/// The name of a command in the log.
pub(super) fn name(order: &Order) -> &'static str {
    match (order.verb, order.asker.is_nobody()) {
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
    restart: Vec<(Until, Asker)>,
    reload: Vec<Asker>,
    /// For a reload that starts only after the restart.
    later_reload: Vec<Asker>,
    rollback: Vec<Asker>,
    answers: Vec<(Asker, Outcome, String)>,
    pub(super) last_restart: Option<Past>,
    pub(super) last_reload: Option<Past>,
}

impl Waiting {
    /// Waits for the outcome of the current or next restart.
    pub(super) fn for_restart(&mut self, until: Until, asker: Asker) {
        self.restart.push((until, asker));
    }

    /// Waits for the outcome of a reload.
    pub(super) fn for_reload(&mut self, asker: Asker) {
        self.reload.push(asker);
    }

    /// Waits for a reload that starts if the current restart fails.
    pub(super) fn for_later_reload(&mut self, asker: Asker) {
        self.later_reload.push(asker);
    }

    /// Waits for the predecessor's answer to a rollback.
    pub(super) fn for_rollback(&mut self, asker: Asker) {
        self.rollback.push(asker);
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
        self.tell(there.into_iter().map(|(_, asker)| asker), outcome, detail);
    }

    /// The restart has ended with this outcome.
    pub(super) fn restart_is_over(&mut self, outcome: Outcome, detail: &str) {
        self.restart_is(Until::Settled, outcome, detail);
        self.last_restart = Some(Past::now(outcome, detail));
    }

    /// A reload has ended with this outcome.
    pub(super) fn reload_is(&mut self, outcome: Outcome, detail: &str) {
        let askers = mem::take(&mut self.reload);
        self.tell(askers, outcome, detail);
        self.last_reload = Some(Past::now(outcome, detail));
    }

    /// A deferred reload does not start here.
    pub(super) fn later_reload_is(&mut self, outcome: Outcome, detail: &str) {
        let askers = mem::take(&mut self.later_reload);
        self.tell(askers, outcome, detail);
    }

    /// A rollback has ended with this outcome.
    pub(super) fn rollback_is(&mut self, outcome: Outcome, detail: &str) {
        let askers = mem::take(&mut self.rollback);
        self.tell(askers, outcome, detail);
    }

    /// This process will not run any command that is waited for.
    pub(super) fn forgo(&mut self, outcome: Outcome, why: &str) {
        let restart = mem::take(&mut self.restart).into_iter().map(|(_, asker)| asker);
        let rest = [&mut self.reload, &mut self.later_reload, &mut self.rollback].map(mem::take);
        self.tell(restart.chain(rest.into_iter().flatten()), outcome, why);
    }

    fn tell(&mut self, askers: impl IntoIterator<Item = Asker>, outcome: Outcome, detail: &str) {
        self.answers.extend(askers.into_iter().map(|asker| (asker, outcome, detail.to_owned())));
    }

    /// Sends the pending answers.
    pub(super) fn deliver(&mut self) {
        self.answers.drain(..).for_each(|(asker, outcome, detail)| asker.told(outcome, detail));
    }
}
