//! Why a guest failed, according to its engine and its store.

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

/// Why a guest failed, according to its store.
pub(super) struct Judgement {
    reason: Reason,
    what: What,
    /// The last output of the guest.
    words: Option<String>,
}

/// The description of a failure.
enum What {
    /// The engine's error, and the place in the guest.
    Engine,
    /// The limit that it reached, and the place in the guest.
    Limit(String),
    /// The complete description.
    Told(String),
}

impl Judgement {
    /// The outcome that an engine's error means; `None` if the guest exited with status 0, which is
    /// not a failure.
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

    /// The failure, with the place in the guest if it trapped or reached a limit.
    pub(super) async fn failure(self, error: &wasmtime::Error, symbols: Option<&Arc<Symbols>>) -> Failure {
        let what = match self.what {
            What::Told(what) => what,
            // Boxed, so that connections of guests that do not trap are not larger for it.
            What::Limit(limit) => Box::pin(backtrace::located(limit, error, symbols)).await,
            What::Engine => Box::pin(backtrace::described(error, symbols)).await,
        };
        Failure { reason: self.reason, message: log::escaped(&joined(self.reason, self.words, what)) }
    }
}

/// A failure and the last output of the guest. A panic's message is more useful than the trap that
/// follows it, and a limit more useful than the guest's reaction to it.
fn joined(reason: Reason, words: Option<String>, what: String) -> String {
    match (reason, words) {
        (_, None) => what,
        (Reason::Memory | Reason::CpuTime, Some(words)) => format!("{what}; {words}"),
        (_, Some(words)) => format!("{words}; {what}"),
    }
}
