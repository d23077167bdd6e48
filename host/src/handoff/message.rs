//! The messages of a handoff: JSON objects, one a packet.
//!
//! Only their form is checked here; `offer` and `adopt` decide which message is allowed at which
//! moment. Unknown fields are ignored, so that a later version can add some. An unknown message is
//! an error, since the peer sends only messages of the agreed version.

use crate::{
    net::{FileId, Key, SocketPath},
    record::{counters::Totals, log},
};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};

/// The version of the exchange that this program speaks.
pub const VERSION: u32 = 1;

/// The longest message, in bytes.
pub const LONGEST: usize = 32 << 10;

/// The most descriptors that one message carries.
pub const MOST_DESCRIPTORS: usize = 64;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Message {
    /// Successor: it has prepared everything that needs no listener.
    Hello {
        /// The protocol versions that it speaks.
        versions: Vec<u32>,
        /// The version of the program, for the log.
        release: String,
    },
    /// Predecessor: everything there is to take over, in as many parts as needed.
    Offer {
        /// The version that both speak from here on.
        version: u32,
        /// The version of the program, for the log.
        release: String,
        /// The predecessor's generation; the successor is the next.
        generation: u64,
        /// The number of this part, from 1.
        part: usize,
        /// The number of parts.
        parts: usize,
        /// One for each descriptor of this part, in their order.
        entries: Vec<Entry>,
        /// The counts so far, in the first part.
        #[serde(default, skip_serializing_if = "Totals::is_nothing")]
        counters: Totals,
        /// Whether the predecessor understands `reloading` and `reloaded`. Earlier releases do not.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hears_of_reloads: bool,
    },
    /// Successor: new listeners are bound, nothing can fail any more.
    Prepared {
        /// Offered listeners that it will serve.
        claimed: Vec<Key>,
        /// Offered listeners that it will not serve.
        unclaimed: Vec<Key>,
        /// The pidfile that it will write after the window. The predecessor removes its own if that
        /// is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pidfile: Option<PathBuf>,
        /// The offered admin endpoint, if it will answer there. Otherwise the predecessor keeps its
        /// own until the window is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        admin: Option<Key>,
        /// Whether it understands `draining` within the window. Earlier releases do not expect it
        /// there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hears_of_connections: bool,
    },
    /// Predecessor: the successor is to serve.
    Commit {
        /// The counts since the offer.
        #[serde(default, skip_serializing_if = "Totals::is_nothing")]
        counters: Totals,
    },
    /// Successor: its next step is to accept.
    Serving {},
    /// Predecessor: the window is over, no rollback is possible.
    Settled {},
    /// Successor: it cannot take over.
    Failed {
        /// The stage in which it failed.
        stage: Stage,
        /// The error, for the log.
        reason: String,
    },
    /// Successor, in the window: it was told to stop or restart, and waits for `settled`.
    Leaving {
        /// The command.
        to: Verb,
    },
    /// Successor, in the window: the predecessor is to serve again.
    Yield {
        /// The counts of the successor alone.
        #[serde(default, skip_serializing_if = "Totals::is_nothing")]
        counters: Totals,
    },
    /// Successor, in the window: it reloads. Sent only if the offer says that the predecessor
    /// understands this.
    Reloading {},
    /// Successor, in the window: the reload has ended.
    Reloaded {
        /// Whether it took effect.
        done: bool,
    },
    /// Predecessor, to a `hello`: it does not hand over now, or not to this successor.
    Refused {
        /// The reason.
        reason: String,
    },
    /// Predecessor, before `commit`: it aborts the handoff.
    Abort {
        /// The reason.
        reason: String,
    },
    /// Predecessor, to a `yield`: it serves again.
    Resumed {},
    /// Predecessor: it got a signal that is meant for the serving process.
    Forward {
        /// The command.
        verb: Verb,
    },
    /// Predecessor, once its successor serves, or a successor that was rolled back: while it
    /// drains, to the process that serves.
    Draining {
        /// Its open connections.
        connections: u64,
        /// The counts since its last report.
        #[serde(default, skip_serializing_if = "Totals::is_nothing")]
        counters: Totals,
    },
}

/// The purpose of an offered descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Entry {
    /// A listening socket.
    Listener {
        /// The key by which the successor finds it in its configuration.
        key: Key,
        /// The file of a unix socket. Earlier releases do not send it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<FileId>,
    },
    /// The listening socket of `--handoff-socket`.
    HandoffSocket {
        /// Its path.
        path: SocketPath,
        /// Its file. Earlier releases do not send it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<FileId>,
    },
    /// The listening socket of the admin endpoint.
    Admin {
        /// Its address.
        key: Key,
        /// The file of a unix socket.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<FileId>,
    },
    /// A process of an earlier generation that still drains, as a pidfd.
    Generation {
        /// Its generation.
        generation: u64,
        /// Its process id as the predecessor sees it.
        pid: i32,
        /// Whether it gave the service back to its predecessor.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rolled_back: bool,
    },
    /// The channel on which a process of an earlier generation reports; the `generation` entry
    /// comes before.
    Reports {
        /// The process id of that entry.
        pid: i32,
        /// Its open connections at its last report.
        connections: u64,
    },
    /// The session ticket keys, in a sealed file: no message contains them.
    TicketKeys {},
    /// An entry that a later version added; its descriptor is closed.
    #[serde(other)]
    Unknown,
}

/// The stage that a successor has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Reading its options.
    Configuration,
    /// Loading plugins and TLS files.
    Loading,
    /// Adopting the offered sockets.
    Adopting,
    /// A stage of a later version.
    #[serde(other)]
    Other,
}

/// An operator's command to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// TERM, INT.
    Stop,
    /// USR1.
    Restart,
    /// HUP.
    Reload,
}

/// Bytes that are not a message.
#[derive(Debug, thiserror::Error)]
#[error("not a message of version {VERSION}: {0}")]
pub struct Garbled(String);

impl Message {
    /// The message as a packet.
    pub fn encode(&self) -> Vec<u8> {
        // Only maps with keys other than strings could fail, and no message has one. The peer would
        // reject an empty packet.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Parses a packet.
    ///
    /// # Errors
    ///
    /// If it is not a message. It never panics.
    pub fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        serde_json::from_slice(packet).map_err(|error| Garbled(log::escaped(&error.to_string())))
    }

    /// The number of descriptors that come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Offer { entries, .. } => entries.len(),
            _ => 0,
        }
    }

    /// Its name on the wire, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Offer { .. } => "offer",
            Self::Prepared { .. } => "prepared",
            Self::Commit { .. } => "commit",
            Self::Serving {} => "serving",
            Self::Settled {} => "settled",
            Self::Failed { .. } => "failed",
            Self::Leaving { .. } => "leaving",
            Self::Yield { .. } => "yield",
            Self::Reloading {} => "reloading",
            Self::Reloaded { .. } => "reloaded",
            Self::Refused { .. } => "refused",
            Self::Abort { .. } => "abort",
            Self::Resumed {} => "resumed",
            Self::Forward { .. } => "forward",
            Self::Draining { .. } => "draining",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration",
            Self::Loading => "loading",
            Self::Adopting => "adopting",
            Self::Other => "another stage",
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        })
    }
}

#[cfg(test)]
mod tests;
