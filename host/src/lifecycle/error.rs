//! Why a process could not start, and how it ends then.

use super::{anchor, pidfile};
use crate::{
    admin, config,
    connection::service::LoadError,
    handoff::adopt,
    net::{self, AdoptError, Bind, Key, SocketPath},
    record::{exit::Exit, log},
    system::privilege,
};
use std::{io, os::fd::RawFd};

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be served.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// What is configured cannot be served.
    #[error(transparent)]
    Service(#[from] LoadError),
    /// The system refused a listener.
    #[error(transparent)]
    Bind(#[from] net::Error),
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
    #[error("the predecessor's offer is rejected: {0}")]
    Offered(#[from] AdoptError),
    /// What the service manager has passed cannot be served.
    #[error("descriptor {number}: {problem}{remedy}", remedy = remedy(problem))]
    Passed {
        /// Its number.
        number: RawFd,
        /// What is wrong with it.
        problem: AdoptError,
    },
    /// The service manager has not passed what is to be served.
    #[error("--bind {bind}: {why}")]
    NotPassed {
        /// What was asked for.
        bind: Bind,
        /// What there is instead, and what to do.
        why: String,
    },
    /// The service manager has passed what nobody would serve.
    #[error(
        "descriptor {number} was passed as {key}, and no --bind serves it, so its clients would wait forever: give --bind systemd: to serve all passed sockets, or remove it from the socket unit"
    )]
    Unserved {
        /// Its number.
        number: RawFd,
        /// Its name.
        key: Key,
    },
    /// The socket for successors.
    #[error("--handoff-socket {path}: {obstacle}")]
    Door {
        /// Where it was to be.
        path: SocketPath,
        /// What is in the way.
        obstacle: net::Obstacle,
    },
    /// The endpoint for operators.
    #[error("--admin {address}: {obstacle}", obstacle = .error.obstacle())]
    Endpoint {
        /// Where it was to be.
        address: admin::Address,
        /// What is in the way.
        error: net::Error,
    },
    /// There can be no anchor.
    #[error(transparent)]
    Anchor(#[from] anchor::Error),
    /// The file with the process id.
    #[error(transparent)]
    PidFile(#[from] pidfile::Error),
    /// The user to become.
    #[error(transparent)]
    Privilege(#[from] privilege::Error),
    /// A path cannot be given to that user.
    #[error("--user: cannot change the owner of {what}: {source}")]
    Ownership {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The file of the log.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The predecessor does not hand over.
    #[error(transparent)]
    Handoff(#[from] adopt::Error),
    /// The system refused signal handlers.
    #[error("signal handlers: {0}")]
    Signals(io::Error),
    /// The system refused threads or a reactor.
    #[error("--workers: cannot start threads or a reactor: {0}")]
    Runtime(io::Error),
    /// The system refused what is needed to watch plugins.
    #[error("--watch: {0}")]
    Watch(io::Error),
    /// This program is wrong.
    #[error("a bug in uninterruptible-host: {0}")]
    Bug(String),
}

impl Error {
    /// The exit code that says whose fault it is.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::Contradiction { .. }
            | Self::Passed { .. }
            | Self::NotPassed { .. }
            | Self::Unserved { .. } => Exit::Usage,
            Self::Service(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::Service(_) => Exit::Usage,
            Self::PidFile(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::PidFile(_) => Exit::Usage,
            Self::Log(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::Log(_) => Exit::Usage,
            Self::Handoff(error) if error.is_refusal_of_the_predecessor() => Exit::HandedBack,
            Self::Anchor(_)
            | Self::Bind(_)
            | Self::Offered(_)
            | Self::Door { .. }
            | Self::Endpoint { .. }
            | Self::Handoff(_)
            | Self::Privilege(_)
            | Self::Ownership { .. }
            | Self::Signals(_)
            | Self::Runtime(_)
            | Self::Watch(_) => Exit::System,
            Self::Bug(_) => Exit::Bug,
        }
    }
}

fn remedy(problem: &AdoptError) -> &'static str {
    match problem {
        AdoptError::NoSocket(_) | AdoptError::NoStream(_) | AdoptError::NotListening(_) => {
            "; a socket unit passes what can be served with ListenStream= and Accept=no"
        }
        AdoptError::Elsewhere { .. } => "; only tcp and unix sockets with an absolute path can be served",
        AdoptError::OtherNetwork(_) | AdoptError::System(..) => "",
    }
}
