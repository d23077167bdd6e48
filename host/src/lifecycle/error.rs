//! Why a process could not start, and its exit code.

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
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A plugin or TLS file cannot be served.
    #[error(transparent)]
    Service(#[from] LoadError),
    /// The system refused a listener.
    #[error(transparent)]
    Bind(#[from] net::Error),
    /// A listener of the predecessor conflicts with one of this process.
    #[error(
        "--bind {wanted}: the predecessor listens on {served}, and one port cannot change between a specific and the wildcard address while it \
         is served; bind it as before, or stop and start"
    )]
    Contradiction {
        /// The listener to bind.
        wanted: Key,
        /// The listener of the predecessor.
        served: Key,
    },
    /// An offered listener is not what its entry says.
    #[error("the predecessor's offer is rejected: {0}")]
    Offered(#[from] AdoptError),
    /// A socket from the service manager cannot be served.
    #[error("descriptor {number}: {problem}{remedy}", remedy = remedy(problem))]
    Passed {
        /// Its descriptor number.
        number: RawFd,
        /// The problem.
        problem: AdoptError,
    },
    /// The service manager has not passed a socket that the configuration names.
    #[error("--bind {bind}: {why}")]
    NotPassed {
        /// The configured bind.
        bind: Bind,
        /// What was passed instead, and what to do.
        why: String,
    },
    /// The service manager has passed a socket that the configuration does not name.
    #[error(
        "descriptor {number} was passed as {key}, and no --bind serves it, so its clients would wait forever: give --bind systemd: to serve all passed sockets, or remove it from the socket unit"
    )]
    Unserved {
        /// Its descriptor number.
        number: RawFd,
        /// Its name.
        key: Key,
    },
    /// The handoff socket could not be opened.
    #[error("--handoff-socket {path}: {obstacle}")]
    HandoffSocket {
        /// Its path.
        path: SocketPath,
        /// The problem.
        obstacle: net::Obstacle,
    },
    /// The admin endpoint could not be opened.
    #[error("--admin {address}: {obstacle}", obstacle = .error.obstacle())]
    Endpoint {
        /// Its address.
        address: admin::Address,
        /// The problem.
        error: net::Error,
    },
    /// The anchor could not start.
    #[error(transparent)]
    Anchor(#[from] anchor::Error),
    /// The pidfile could not be written.
    #[error(transparent)]
    PidFile(#[from] pidfile::Error),
    /// The process could not change its user.
    #[error(transparent)]
    Privilege(#[from] privilege::Error),
    /// A file cannot be given to that user.
    #[error("--user: cannot change the owner of {what}: {source}")]
    Ownership {
        /// The file.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The log file could not be opened.
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
    /// The system refused a pipe or thread for watching plugins.
    #[error("--watch: {0}")]
    Watch(io::Error),
    /// A bug in this program.
    #[error("a bug in uninterruptible-host: {0}")]
    Bug(String),
}

impl Error {
    /// The exit code, by whose fault the error is.
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
            | Self::HandoffSocket { .. }
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
