//! Why this process does not take over: one line that says what to do.

use crate::{
    handoff::{channel, message::VERSION},
    net::SocketPath,
};
use std::{io, os::fd::RawFd};

/// Why this process does not take over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The inherited descriptor is not there.
    #[error(
        "the channel to the predecessor, descriptor {descriptor}, is not open here: something between the two (sudo, an interpreter) \
         closes descriptors that it does not know. Start the successor without it, or use --handoff-socket and --take-over"
    )]
    NotInherited {
        /// Its number.
        descriptor: RawFd,
    },
    /// Another cause than a missing process prevents connecting.
    #[error("--take-over {path}: {source}; name the --handoff-socket of the host that serves")]
    Unreachable {
        /// The socket.
        path: SocketPath,
        /// The cause.
        source: io::Error,
    },
    /// The predecessor rejected it.
    #[error("the predecessor refused: {0}")]
    Refused(String),
    /// The predecessor aborted the handoff.
    #[error("the predecessor aborted the handoff: {0}")]
    Aborted(String),
    /// The predecessor is gone, and had not offered everything.
    #[error("the predecessor ended before its offer was complete")]
    Orphaned,
    /// The predecessor lives and has closed the channel.
    #[error("the predecessor closed the channel without a reason")]
    Abandoned,
    /// It speaks another protocol version.
    #[error("the predecessor speaks version {0} of the handoff, this program {VERSION}")]
    Version(u32),
    /// The parts of its offer are not complete or in order.
    #[error("received part {part} of {parts} of the offer, expected part {expected}")]
    Parts {
        /// The number of the part that came.
        part: usize,
        /// The announced number of parts.
        parts: usize,
        /// The number that was due.
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
    /// Whether only the refusal of the predecessor kept this process from serving.
    pub fn is_refusal_of_the_predecessor(&self) -> bool {
        !matches!(self, Self::NotInherited { .. } | Self::Unreachable { .. } | Self::System(_))
    }
}
