//! What the two sides of a handoff say to each other: JSON objects, one a packet.
//!
//! Only the shape is judged here. Which message is right at which moment is the business of `offer` and `adopt`. A field that
//! this version does not know is ignored, so that a later one can add some; a message that it does not know is an error, since
//! none is ever sent that the agreed version does not have.

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
    /// Successor: everything that needs no listener is done.
    Hello {
        /// The versions of the exchange that it speaks.
        versions: Vec<u32>,
        /// The version of the program, for the log.
        release: String,
    },
    /// Predecessor: what there is to take over, in as many parts as it needs.
    Offer {
        /// The version that both speak from here on.
        version: u32,
        /// The version of the program, for the log.
        release: String,
        /// The predecessor's own; the successor is the next.
        generation: u64,
        /// Which part this is, from 1.
        part: usize,
        /// How many there are.
        parts: usize,
        /// One for each descriptor that comes with this part, in their order.
        entries: Vec<Entry>,
        /// What was counted so far, in the first part.
        #[serde(default, skip_serializing_if = "Totals::is_nothing")]
        counters: Totals,
        /// Whether the predecessor understands `reloading` and `reloaded`. Earlier releases do not.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hears_of_reloads: bool,
    },
    /// Successor: new listeners are bound, nothing can fail any more.
    Prepared {
        /// Listeners of the offer that it will serve.
        claimed: Vec<Key>,
        /// Listeners of the offer that it will not serve.
        unclaimed: Vec<Key>,
        /// The pidfile that it will write once the window is over; the predecessor removes its own where that is another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pidfile: Option<PathBuf>,
        /// The admin endpoint of the offer, where it will answer there; the predecessor keeps its own until the window is over
        /// otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        admin: Option<Key>,
        /// Whether it understands `draining` within the window. Earlier releases do not expect it there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hears_of_connections: bool,
    },
    /// Predecessor: go.
    Commit {
        /// What was counted since the offer.
        #[serde(default, skip_serializing_if = "Totals::is_nothing")]
        counters: Totals,
    },
    /// Successor: its next act is to accept.
    Serving {},
    /// Predecessor: the window is over, there is no way back.
    Settled {},
    /// Successor: it cannot take over.
    Failed {
        /// What it was doing.
        stage: Stage,
        /// What went wrong, for the log.
        reason: String,
    },
    /// Successor, in the window: it was told to end or to restart, and waits for `settled`.
    Leaving {
        /// Which of the two.
        to: Verb,
    },
    /// Successor, in the window: the predecessor shall serve again.
    Yield {
        /// What was counted by the successor alone.
        #[serde(default, skip_serializing_if = "Totals::is_nothing")]
        counters: Totals,
    },
    /// Successor, in the window: it reloads. Only where the offer says that this is understood.
    Reloading {},
    /// Successor, in the window: the reload is over.
    Reloaded {
        /// Whether it took effect.
        done: bool,
    },
    /// Predecessor, to a `hello`: not now, or not with you.
    Refused {
        /// Why.
        reason: String,
    },
    /// Predecessor, before `commit`: the handoff is off.
    Abort {
        /// Why.
        reason: String,
    },
    /// Predecessor, to a `yield`: it serves again.
    Resumed {},
    /// Predecessor: it got a signal that is meant for whoever serves.
    Forward {
        /// What was asked for.
        verb: Verb,
    },
    /// Predecessor, once its successor serves; or a successor that was rolled back. While it drains, to whichever process serves.
    Draining {
        /// Connections that it still serves.
        connections: u64,
        /// What was counted since it was told last.
        #[serde(default, skip_serializing_if = "Totals::is_nothing")]
        counters: Totals,
    },
}

/// What a descriptor of an offer is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Entry {
    /// A listening socket.
    Listener {
        /// The name by which the successor finds it among its own.
        key: Key,
        /// The file of a unix one. Earlier releases do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<FileId>,
    },
    /// The listening socket of `--handoff-socket`.
    HandoffSocket {
        /// Its path.
        path: SocketPath,
        /// Its file. Earlier releases do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<FileId>,
    },
    /// The listening socket of the admin endpoint.
    Admin {
        /// Its address.
        key: Key,
        /// The file of a unix one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<FileId>,
    },
    /// A process of an earlier generation that still drains, as a pidfd.
    Generation {
        /// Which one.
        generation: u64,
        /// Its process id as the predecessor sees it.
        pid: i32,
        /// Whether it gave the service back to its predecessor.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rolled_back: bool,
    },
    /// The channel on which a process of an earlier generation reports; its `generation` entry comes before.
    Reports {
        /// The process id of that entry.
        pid: i32,
        /// The connections that it had at its last report.
        connections: u64,
    },
    /// The keys of session tickets, in a sealed file: they stand in no message.
    TicketKeys {},
    /// Something that a later version hands over; its descriptor is closed.
    #[serde(other)]
    Unknown,
}

/// How far a successor got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Reading its options.
    Configuration,
    /// Loading what it serves.
    Loading,
    /// Taking over what was offered.
    Adopting,
    /// A later version's.
    #[serde(other)]
    Other,
}

/// What an operator asks of the service.
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

/// Bytes that are no message.
#[derive(Debug, thiserror::Error)]
#[error("not a message of version {VERSION}: {0}")]
pub struct Garbled(String);

impl Message {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        // Maps with keys that are no strings are all that could fail, and there are none; an empty packet would be refused.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a packet.
    ///
    /// # Errors
    ///
    /// Whatever is no message. It never panics.
    pub fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        serde_json::from_slice(packet).map_err(|error| Garbled(log::escaped(&error.to_string())))
    }

    /// How many descriptors come with it.
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
