//! What the process is told to do, by signals and at the admin endpoint alike, and who waits for what comes of it.

use crate::{
    admin::{self, Asker, Order, Outcome, Past, Until, Verb},
    record::log,
    system::signals::{Signal, Signals},
};
use std::mem;

/// Where orders come from.
pub(super) struct Orders {
    signals: Signals,
    pub(super) admin: admin::Inbox,
}

impl Orders {
    pub(super) fn new(signals: Signals, admin: admin::Inbox) -> Self {
        Self { signals, admin }
    }

    /// The next order; signals come first. What HUP means for the log depends on no state: whoever rotates it has moved it away
    /// already. May be dropped and called again.
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

/// What an order is called in the log.
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

/// Those who wait for an outcome, and what the last ones were. They are told when it is shown: whoever looks after that finds it.
#[derive(Default)]
pub(super) struct Waiting {
    restart: Vec<(Until, Asker)>,
    reload: Vec<Asker>,
    /// For one that is not begun before a restart is over.
    later_reload: Vec<Asker>,
    rollback: Vec<Asker>,
    answers: Vec<(Asker, Outcome, String)>,
    pub(super) last_restart: Option<Past>,
    pub(super) last_reload: Option<Past>,
}

impl Waiting {
    /// For the outcome of the restart that is under way, or begins.
    pub(super) fn for_restart(&mut self, until: Until, asker: Asker) {
        self.restart.push((until, asker));
    }

    /// For that of a reload.
    pub(super) fn for_reload(&mut self, asker: Asker) {
        self.reload.push(asker);
    }

    /// For that of a reload that is begun when the restart under way has failed.
    pub(super) fn for_later_reload(&mut self, asker: Asker) {
        self.later_reload.push(asker);
    }

    /// For the predecessor's answer.
    pub(super) fn for_rollback(&mut self, asker: Asker) {
        self.rollback.push(asker);
    }

    /// The reload for which it was waited begins now, where there is any.
    pub(super) fn reload_now(&mut self) -> bool {
        let any = !self.later_reload.is_empty();
        self.reload.append(&mut self.later_reload);
        any
    }

    /// The restart is so far, or has come to nothing.
    pub(super) fn restart_is(&mut self, far: Until, outcome: Outcome, detail: &str) {
        let (there, waiting): (Vec<_>, Vec<_>) = mem::take(&mut self.restart)
            .into_iter()
            .partition(|(until, _)| far == Until::Settled || *until == Until::Serving);
        self.restart = waiting;
        self.tell(there.into_iter().map(|(_, asker)| asker), outcome, detail);
    }

    /// The restart has come to nothing.
    pub(super) fn restart_is_over(&mut self, outcome: Outcome, detail: &str) {
        self.restart_is(Until::Settled, outcome, detail);
        self.last_restart = Some(Past::now(outcome, detail));
    }

    /// A reload has come to this.
    pub(super) fn reload_is(&mut self, outcome: Outcome, detail: &str) {
        let askers = mem::take(&mut self.reload);
        self.tell(askers, outcome, detail);
        self.last_reload = Some(Past::now(outcome, detail));
    }

    /// A reload is not begun here.
    pub(super) fn later_reload_is(&mut self, outcome: Outcome, detail: &str) {
        let askers = mem::take(&mut self.later_reload);
        self.tell(askers, outcome, detail);
    }

    /// A rollback has come to this.
    pub(super) fn rollback_is(&mut self, outcome: Outcome, detail: &str) {
        let askers = mem::take(&mut self.rollback);
        self.tell(askers, outcome, detail);
    }

    /// Nobody here will do any more what is waited for.
    pub(super) fn forgo(&mut self, outcome: Outcome, why: &str) {
        let restart = mem::take(&mut self.restart).into_iter().map(|(_, asker)| asker);
        let rest = [&mut self.reload, &mut self.later_reload, &mut self.rollback].map(mem::take);
        self.tell(restart.chain(rest.into_iter().flatten()), outcome, why);
    }

    fn tell(&mut self, askers: impl IntoIterator<Item = Asker>, outcome: Outcome, detail: &str) {
        self.answers.extend(askers.into_iter().map(|asker| (asker, outcome, detail.to_owned())));
    }

    /// What there is to tell is told.
    pub(super) fn deliver(&mut self) {
        self.answers.drain(..).for_each(|(asker, outcome, detail)| asker.told(outcome, detail));
    }
}
