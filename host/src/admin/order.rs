//! What is asked of the process at the endpoint, and how it is answered: once, whatever becomes of it.

use serde::{Deserialize, Serialize};
use std::fmt;
use tokio::sync::oneshot;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// What USR1 asks for, and to be told its outcome.
    Restart(Until),
    /// That the predecessor serve again.
    Rollback,
    /// What HUP asks for.
    Reload,
    /// What TERM asks for.
    Stop,
}

/// How far a restart has to be for its outcome to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The successor serves, and may still be rolled back.
    Serving,
    /// There is no way back.
    Settled,
}

/// A verb, and who has asked.
#[derive(Debug)]
pub struct Order {
    /// What is asked.
    pub verb: Verb,
    /// By whom.
    pub asker: Asker,
}

/// Who waits for an answer, where anybody does: a signal has nobody.
#[derive(Debug)]
pub struct Asker(Option<oneshot::Sender<Answer>>);

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// In a word.
    pub outcome: Outcome,
    /// In a sentence.
    pub detail: String,
}

/// What became of an order, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is done, or under way where it takes until the end of the process.
    Done,
    /// It cannot be done now, and nothing has happened.
    Refused,
    /// It was tried, and everything is as it was.
    Failed,
    /// It is another process's to do, which is to be asked instead.
    Elsewhere,
}

impl Asker {
    /// Somebody who waits, and what the answer comes by.
    pub fn waiting() -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// Nobody: a signal was sent.
    pub fn nobody() -> Self {
        Self(None)
    }

    /// Whether it was a signal.
    pub fn is_nobody(&self) -> bool {
        self.0.is_none()
    }

    /// It is done.
    pub fn done(self, detail: impl Into<String>) {
        self.told(Outcome::Done, detail.into());
    }

    /// It cannot be done now.
    pub fn refused(self, detail: impl Into<String>) {
        self.told(Outcome::Refused, detail.into());
    }

    /// Another process is to be asked.
    pub fn elsewhere(self, detail: impl Into<String>) {
        self.told(Outcome::Elsewhere, detail.into());
    }

    /// What became of it.
    pub fn told(self, outcome: Outcome, detail: String) {
        if let Some(asker) = self.0 {
            // Whoever has gone away meanwhile does not want to know.
            drop(asker.send(Answer { outcome, detail }));
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
