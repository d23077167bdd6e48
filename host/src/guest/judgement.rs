//! Why a guest has failed, by what its engine and its store tell.

use super::{
    backtrace::{self, Symbols},
    failure::{Failure, Reason},
    mappings,
    meter::Meter,
    resources,
    state::State,
};
use crate::log;
use std::sync::Arc;
use wasmtime::Store;

/// Why a guest has failed, as far as its store tells.
pub(super) struct Judgement {
    reason: Reason,
    /// About it, where it is no trap.
    what: Option<String>,
    /// What the guest has said last.
    words: Option<String>,
}

impl Judgement {
    /// What an error from the engine says of its guest; `None` where the guest left with status 0, which is no failure.
    pub(super) fn of(error: &wasmtime::Error, store: &Store<State>, meter: &Meter) -> Option<Self> {
        let (reason, what) = if meter.exhausted() {
            (Reason::CpuTime, Some(String::new()))
        } else if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            if exit.0 == 0 {
                return None;
            }
            (Reason::Error, Some(format!("the guest exited with status {}", exit.0)))
        } else if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            (Reason::Host, None)
        } else if mappings::ran_out(error) {
            (Reason::Host, Some(format!("{error:#}: {}", mappings::remedy())))
        } else if store.data().memory.refused {
            (Reason::Memory, None)
        } else if let Some(limit) = resources::met(error, store.data()) {
            (Reason::Trap, Some(limit.to_string()))
        } else {
            (Reason::Trap, None)
        };
        Some(Self { reason, what, words: store.data().last_words() })
    }

    /// The failure, with where the guest was if it trapped.
    pub(super) async fn failure(self, error: &wasmtime::Error, symbols: Option<&Arc<Symbols>>) -> Failure {
        let what = match self.what {
            Some(what) => what,
            // Boxed so that connections of guests that do not trap are no larger for it.
            None => Box::pin(backtrace::described(error, symbols)).await,
        };
        Failure { reason: self.reason, message: joined(self.words, what) }
    }
}

/// What happened to a guest, after what it has said last: a panic's message says more than the trap that it ends in.
fn joined(words: Option<String>, what: String) -> String {
    log::escaped(&match words {
        Some(words) if !what.is_empty() => format!("{words}; {what}"),
        _ => what,
    })
}
