//! The commands at the endpoint and their answers: each gets exactly one, whatever happens to it.

use serde::{Deserialize, Serialize};
use std::fmt;
use tokio::sync::oneshot;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A hot restart, as USR1 starts it, with its outcome.
    Restart(Until),
    /// Give the service back to the predecessor.
    Rollback,
    /// A reload, as HUP starts it.
    Reload,
    /// A graceful stop, as TERM starts it.
    Stop,
}

/// The stage of a restart that completes its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The successor serves, and may still be rolled back.
    Serving,
    /// The window is over, and no rollback is possible.
    Settled,
}

/// A command and its sender.
#[derive(Debug)]
pub struct Command {
    /// The command.
    pub verb: Verb,
    /// Its sender.
    pub caller: Caller,
}

/// The sender of a command that waits for an answer. A signal has none.
#[derive(Debug)]
pub struct Caller(Option<oneshot::Sender<Answer>>);

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The outcome.
    pub outcome: Outcome,
    /// A sentence about it.
    pub detail: String,
}

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is done, or under way if it takes until the end of the process.
    Done,
    /// It is not possible now, and nothing has happened.
    Refused,
    /// It was tried and failed, and nothing has changed.
    Failed,
    /// Another process has to run it; ask that one instead.
    Elsewhere,
}

impl Caller {
    /// A sender that waits, and the receiver of its answer.
    pub fn waiting() -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// No sender: a signal arrived.
    pub fn signal() -> Self {
        Self(None)
    }

    /// Whether it was a signal.
    pub fn is_signal(&self) -> bool {
        self.0.is_none()
    }

    /// Answers that it is done.
    pub fn done(self, detail: impl Into<String>) {
        self.answer(Outcome::Done, detail.into());
    }

    /// Answers that it is not possible now.
    pub fn refused(self, detail: impl Into<String>) {
        self.answer(Outcome::Refused, detail.into());
    }

    /// Answers that another process has to run it.
    pub fn elsewhere(self, detail: impl Into<String>) {
        self.answer(Outcome::Elsewhere, detail.into());
    }

    /// Answers with this outcome.
    pub fn answer(self, outcome: Outcome, detail: String) {
        if let Some(caller) = self.0 {
            // The client may have disconnected, and the answer is dropped.
            drop(caller.send(Answer { outcome, detail }));
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart(_) => "restart",
            Self::Rollback => "rollback",
            Self::Reload => "reload",
            Self::Stop => "stop",
        })
    }
}
