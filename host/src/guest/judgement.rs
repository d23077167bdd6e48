//! Why a guest has failed, by what its engine and its store tell.

use super::{meter::Meter, resources, state::State};
use crate::{
    component::{
        backtrace::{self, Symbols},
        mappings,
    },
    record::{
        failure::{Failure, Reason},
        log,
    },
};
use std::sync::Arc;
use wasmtime::Store;

/// Why a guest has failed, as far as its store tells.
pub(super) struct Judgement {
    reason: Reason,
    what: What,
    /// What the guest has said last.
    words: Option<String>,
}

/// What there is to say about it.
enum What {
    /// What the engine says, and where the guest was.
    Engine,
    /// The limit that it met, and where the guest was.
    Limit(String),
    /// All of it.
    Told(String),
}

impl Judgement {
    /// What an error from the engine says of its guest; `None` where the guest left with status 0, which is no failure.
    pub(super) fn of(error: &wasmtime::Error, store: &Store<State>, meter: &Meter) -> Option<Self> {
        let (reason, what) = if meter.exhausted() {
            let budget = humantime::format_duration(meter.budget());
            (
                Reason::CpuTime,
                What::Limit(format!(
                    "the guest computed for more than {budget} without moving a byte (--guest-cpu-time)"
                )),
            )
        } else if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            if exit.0 == 0 {
                return None;
            }
            (Reason::Error, What::Told(format!("the guest exited with status {}", exit.0)))
        } else if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            (Reason::Host, What::Engine)
        } else if mappings::ran_out(error) {
            (Reason::Host, What::Told(format!("{error:#}: {}", mappings::remedy())))
        } else if let Some(refused) = store.data().memory.refused {
            (Reason::Memory, What::Limit(refused.to_string()))
        } else if let Some(limit) = resources::met(error, store.data()) {
            (Reason::Trap, What::Limit(limit.to_string()))
        } else {
            (Reason::Trap, What::Engine)
        };
        Some(Self { reason, what, words: store.data().last_words() })
    }

    /// The failure, with where the guest was if it trapped or met a limit.
    pub(super) async fn failure(self, error: &wasmtime::Error, symbols: Option<&Arc<Symbols>>) -> Failure {
        let what = match self.what {
            What::Told(what) => what,
            // Boxed so that connections of guests that do not trap are no larger for it.
            What::Limit(limit) => Box::pin(backtrace::located(limit, error, symbols)).await,
            What::Engine => Box::pin(backtrace::described(error, symbols)).await,
        };
        Failure { reason: self.reason, message: log::escaped(&joined(self.reason, self.words, what)) }
    }
}

/// What happened to a guest, and what it has said last. A panic's message says more than the trap that it ends in, and a limit
/// more than what the guest makes of it.
fn joined(reason: Reason, words: Option<String>, what: String) -> String {
    match (reason, words) {
        (_, None) => what,
        (Reason::Memory | Reason::CpuTime, Some(words)) => format!("{what}; {words}"),
        (_, Some(words)) => format!("{words}; {what}"),
    }
}
