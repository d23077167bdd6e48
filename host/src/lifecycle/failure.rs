//! Why a process could not start, and how it ends then.

use crate::{
    anchor,
    bind::{self, Key, SocketPath},
    config,
    exit::Exit,
    guest::LoadError,
    handoff::adopt,
    pidfile, tls,
};
use std::io;

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be served.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The plugin cannot be served.
    #[error(transparent)]
    Plugin(#[from] LoadError),
    /// A file of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::LoadError),
    /// There are no keys for session tickets.
    #[error("keys for session tickets: {0}")]
    TicketKeys(io::Error),
    /// The system refused a listener.
    #[error(transparent)]
    Bind(#[from] bind::Error),
    /// The predecessor has a listener that stands in the way of one of this process's.
    #[error(
        "--bind {wanted}: the predecessor listens on {served}, and one port cannot change between a specific and the wildcard address while it \
         is served; bind it as before, or stop and start"
    )]
    Contradiction {
        /// What was to be bound.
        wanted: Key,
        /// What is.
        served: Key,
    },
    /// A listener that was offered is not what it is said to be.
    #[error("the predecessor's offer is refused: {0}")]
    Offered(#[from] bind::AdoptError),
    /// The socket for successors.
    #[error("--handoff-socket {path}: {obstacle}")]
    Door {
        /// Where it was to be.
        path: SocketPath,
        /// What is in the way.
        obstacle: bind::Obstacle,
    },
    /// There can be no anchor.
    #[error(transparent)]
    Anchor(#[from] anchor::Error),
    /// The file with the process id.
    #[error(transparent)]
    PidFile(#[from] pidfile::Error),
    /// The predecessor does not hand over.
    #[error(transparent)]
    Handoff(#[from] adopt::Error),
    /// The system refused signal handlers.
    #[error("signal handlers: {0}")]
    Signals(io::Error),
    /// The system refused threads or a reactor.
    #[error("--workers: the system refuses threads or a reactor: {0}")]
    Runtime(io::Error),
    /// This program is wrong.
    #[error("a bug in uninterruptible-host: {0}")]
    Bug(String),
}

impl Failure {
    /// The exit code that says whose fault it is.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Contradiction { .. } | Self::Tls(_) => Exit::Usage,
            Self::Plugin(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::Plugin(_) => Exit::Usage,
            Self::PidFile(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::PidFile(_) => Exit::Usage,
            Self::Handoff(error) if error.is_refusal_of_the_predecessor() => Exit::HandedBack,
            Self::Anchor(_)
            | Self::Bind(_)
            | Self::Offered(_)
            | Self::Door { .. }
            | Self::Handoff(_)
            | Self::Signals(_)
            | Self::Runtime(_)
            | Self::TicketKeys(_) => Exit::System,
            Self::Bug(_) => Exit::Bug,
        }
    }
}
