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
pub(super) struct Outcome {
    reason: Reason,
    description: Description,
    /// The last output of the guest.
    last_output: Option<String>,
}

/// The description of a failure.
enum Description {
    /// The engine's error, and the place in the guest.
    Engine,
    /// The limit that it reached, and the place in the guest.
    Limit(String),
    /// The complete description.
    Complete(String),
}

impl Outcome {
    /// The outcome that an engine's error means; `None` if the guest exited with status 0, which is
    /// not a failure.
    pub(super) fn of(error: &wasmtime::Error, store: &Store<State>, meter: &Meter) -> Option<Self> {
        let (reason, description) = if meter.exhausted() {
            let budget = humantime::format_duration(meter.budget());
            (
                Reason::CpuTime,
                Description::Limit(format!(
                    "the guest computed for more than {budget} without moving a byte (--guest-cpu-time)"
                )),
            )
        } else if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            if exit.0 == 0 {
                return None;
            }
            (Reason::Error, Description::Complete(format!("the guest exited with status {}", exit.0)))
        } else if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            (Reason::Host, Description::Engine)
        } else if mappings::ran_out(error) {
            (Reason::Host, Description::Complete(format!("{error:#}: {}", mappings::remedy())))
        } else if let Some(refused) = store.data().memory.refused {
            (Reason::Memory, Description::Limit(refused.to_string()))
        } else if let Some(limit) = resources::exceeded(error, store.data()) {
            (Reason::Trap, Description::Limit(limit.to_string()))
        } else {
            (Reason::Trap, Description::Engine)
        };
        Some(Self { reason, description, last_output: store.data().last_output() })
    }

    /// The failure, with the place in the guest if it trapped or reached a limit.
    pub(super) async fn failure(self, error: &wasmtime::Error, symbols: Option<&Arc<Symbols>>) -> Failure {
        let description = match self.description {
            Description::Complete(description) => description,
            // Boxed, so that connections of guests that do not trap are not larger for it.
            Description::Limit(limit) => Box::pin(backtrace::located(limit, error, symbols)).await,
            Description::Engine => Box::pin(backtrace::described(error, symbols)).await,
        };
        Failure { reason: self.reason, message: log::escaped(&joined(self.reason, self.last_output, description)) }
    }
}

/// A failure and the last output of the guest. A panic's message is more useful than the trap that
/// follows it, and a limit more useful than the guest's reaction to it.
fn joined(reason: Reason, last_output: Option<String>, description: String) -> String {
    match (reason, last_output) {
        (_, None) => description,
        (Reason::Memory | Reason::CpuTime, Some(last_output)) => format!("{description}; {last_output}"),
        (_, Some(last_output)) => format!("{last_output}; {description}"),
    }
}
