//! Why a successor does not take over: one line that says what to do.

use crate::handoff::{
    channel,
    message::{Stage, VERSION},
    start,
};
use std::time::Duration;

/// How long a successor that has failed may take to end by itself, so that its own exit status can be told.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a successor does not take over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] start::Error),
    /// It said so.
    #[error("{stage}: {reason}")]
    Failed {
        /// What it was doing.
        stage: Stage,
        /// What went wrong.
        reason: String,
    },
    /// The operator has thought better of it.
    #[error("aborted by a rollback")]
    CalledOff,
    /// It ended without a word.
    #[error("it ended before its {awaited:?}")]
    Ended {
        /// What it still had to say.
        awaited: &'static str,
    },
    /// It ended, or closed what it was left, before it had said anything.
    #[error(
        "it ended before its \"hello\"; its last message says why. If its start command (sudo, env -i) drops the environment or the descriptor, use --handoff-socket and --take-over"
    )]
    EndedUnheard,
    /// It says nothing.
    #[error(
        "no hello within {}; raise --ready-timeout if it was still compiling plugins", humantime::format_duration(*.0)
    )]
    Unready(Duration),
    /// It claims what was not offered, or not all of what was.
    #[error(
        "it claims listeners that it was not offered, which is a bug in one of the two processes: stop and start the host instead, and report it"
    )]
    Claims,
    /// It speaks another protocol.
    #[error(
        "it speaks versions {theirs:?} of the handoff, this program {VERSION}: upgrade by way of a release that speaks both, or stop and start"
    )]
    Version {
        /// Those of the successor.
        theirs: Vec<u32>,
    },
    /// The channel failed.
    #[error(transparent)]
    Channel(#[from] channel::Error),
}

impl Error {
    /// How long a successor that fails so may take to end by itself, so that its own exit status can be told.
    pub fn grace(&self) -> Duration {
        match self {
            Self::CalledOff | Self::Unready(_) | Self::Channel(channel::Error::Late { .. }) => Duration::ZERO,
            _ => LAST_WORDS,
        }
    }
}
