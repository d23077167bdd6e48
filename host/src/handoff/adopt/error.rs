//! Why this process does not take over: one line that says what to do.

use crate::{
    handoff::{channel, message::VERSION},
    net::SocketPath,
};
use std::{io, os::fd::RawFd};

/// Why this process does not take over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was to be inherited is not there.
    #[error(
        "the channel to the predecessor, descriptor {descriptor}, is not open here: something between the two (sudo, an interpreter) \
         closes descriptors that it does not know. Start the successor without it, or use --handoff-socket and --take-over"
    )]
    NotInherited {
        /// Its number.
        descriptor: RawFd,
    },
    /// Nobody hands over there, but not for want of a process.
    #[error("--take-over {path}: {source}; name the --handoff-socket of the host that serves")]
    Unreachable {
        /// The socket.
        path: SocketPath,
        /// Why.
        source: io::Error,
    },
    /// The predecessor does not want.
    #[error("the predecessor refuses: {0}")]
    Refused(String),
    /// The predecessor has called it off.
    #[error("the predecessor aborted the handoff: {0}")]
    Aborted(String),
    /// The predecessor is gone, and had not offered all.
    #[error("the predecessor ended before its offer was complete")]
    Orphaned,
    /// The predecessor lives and has closed the channel.
    #[error("the predecessor closed the channel without a reason")]
    Abandoned,
    /// It speaks another version.
    #[error("the predecessor speaks version {0} of the handoff, this program {VERSION}")]
    Version(u32),
    /// Its offer does not add up.
    #[error("received part {part} of {parts} of the offer, expected part {expected}")]
    Parts {
        /// What came.
        part: usize,
        /// Of how many.
        parts: usize,
        /// What was due.
        expected: usize,
    },
    /// The channel failed.
    #[error(transparent)]
    Channel(#[from] channel::Error),
    /// The system refused.
    #[error("the handoff failed: {0}")]
    System(io::Error),
}

impl Error {
    /// Whether this process might have served, had its predecessor wanted.
    pub fn is_refusal_of_the_predecessor(&self) -> bool {
        !matches!(self, Self::NotInherited { .. } | Self::Unreachable { .. } | Self::System(_))
    }
}
