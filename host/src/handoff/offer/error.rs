//! Why a successor does not take over: one line that says what to do.

use crate::handoff::{
    channel,
    message::{Stage, VERSION},
    start,
};
use std::time::Duration;

/// How long a successor that has failed may take to exit, so that its own exit status can be
/// reported.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// Why a successor does not take over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] start::Error),
    /// It reported a failure.
    #[error("{stage}: {reason}")]
    Failed {
        /// The stage in which it failed.
        stage: Stage,
        /// The error.
        reason: String,
    },
    /// The operator aborted the restart.
    #[error("aborted by a rollback")]
    CalledOff,
    /// It ended before the awaited message.
    #[error("it ended before its {awaited:?}")]
    Ended {
        /// The awaited message.
        awaited: &'static str,
    },
    /// It ended, or closed its channel, before its first message.
    #[error(
        "it ended before its \"hello\"; its last message says why. If its start command (sudo, env -i) drops the environment or the descriptor, use --handoff-socket and --take-over"
    )]
    EndedUnheard,
    /// It timed out.
    #[error(
        "no hello within {}; raise --ready-timeout if it was still compiling plugins", humantime::format_duration(*.0)
    )]
    Unready(Duration),
    /// It claims listeners that were not offered, or leaves some out.
    #[error(
        "it claims listeners that it was not offered, which is a bug in one of the two processes: stop and start the host instead, and report it"
    )]
    Claims,
    /// It speaks another protocol version.
    #[error(
        "it speaks versions {theirs:?} of the handoff, this program {VERSION}: upgrade by way of a release that speaks both, or stop and start"
    )]
    Version {
        /// The versions of the successor.
        theirs: Vec<u32>,
    },
    /// The channel failed.
    #[error(transparent)]
    Channel(#[from] channel::Error),
}

impl Error {
    /// How long a successor that failed in this way may take to exit, so that its own exit status
    /// can be reported.
    pub fn grace(&self) -> Duration {
        match self {
            Self::CalledOff | Self::Unready(_) | Self::Channel(channel::Error::Late { .. }) => Duration::ZERO,
            _ => EXIT_GRACE,
        }
    }
}
