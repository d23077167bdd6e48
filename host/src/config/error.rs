//! A configuration that cannot be served, told so that whoever reads it knows what to change, and where.

use super::{
    file::{FileError, Place},
    layers::Origins,
    listener::LONGEST_KEYS,
};
use crate::{
    net::{ActivationError, Bind},
    record::secret::{Shown, without_words_of},
    wire::tls,
};
use std::{ffi::OsString, fmt::Display, io, path::Path};

/// A configuration that cannot be served, as one line that names the option, the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gem's way of handing over was asked for.
    #[error(
        "FILE_DESCRIPTOR_SERVER_PATH is the protocol of the gem uninterruptible, which this program does not speak; unset it, and use \
         --handoff-socket and --take-over where the successor is not started by this process"
    )]
    Gem,
    /// The value that a predecessor should have set is not a descriptor.
    #[error(
        "UNINTERRUPTIBLE_HANDOFF_FD {number}: is not a descriptor; only a host that starts its successor sets it: unset it",
        number = Shown::path(Path::new(.0))
    )]
    Channel(OsString),
    /// The boot directory is gone, or cannot be named.
    #[error("the working directory is unknown ({0}); start in a directory that exists, or set APP_ROOT")]
    Directory(io::Error),
    /// Whoever started this program gave it no name.
    #[error("the path of this program is unknown (argv[0] is {0:?}); give --start-command")]
    Program(OsString),
    /// A host is to be asked, and nothing says where.
    #[error("--admin is missing: give the address that the host was given, or the --config that it is in")]
    NoAdmin,
    /// A required option is missing.
    #[error("--plugin is missing for {0}: name the component to serve, as in --plugin hello.wasm")]
    NoPlugin(Bind),
    /// A route that no connection can take.
    #[error(
        "{place}: a [[listener.route]] needs TLS, and {bind} has none: give it a tls-certificate, or remove the route"
    )]
    RouteWithoutTls {
        /// The listener.
        bind: Bind,
        /// Where the route is written.
        place: Place,
    },
    /// A route that comes too late.
    #[error(
        "--config {place}: this [[listener.route]] never matches, because the route of {first} takes all of its connections; move it before that route, or remove it"
    )]
    RouteNeverTaken {
        /// Where it is written.
        place: Place,
        /// Where the other is.
        first: Place,
    },
    /// A value does not parse.
    #[error("{option} {value}{}: {remedy}", .origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default(), value = Shown::of(value), remedy = without_words_of(value, remedy))]
    Value {
        /// The option.
        option: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        remedy: String,
        /// Where that was written, where it was not typed.
        origin: Option<String>,
    },
    /// The file is no configuration.
    #[error(transparent)]
    File(FileError),
    /// A path that cannot be told in a file or on a terminal.
    #[error("a path on the command line is not text: with --config, every path must be UTF-8")]
    NotText,
    /// This program is wrong.
    #[error("a bug in uninterruptible-host: {0}")]
    Bug(String),
    /// Listeners are asked for in two ways.
    #[error("--bind: the configuration file has a [[listener]] for each address; leave --bind out, or add one there")]
    TwoWaysToBind,
    /// More listeners than can be handed over.
    #[error(
        "--bind: the names of {count} listeners take {bytes} bytes, and {LONGEST_KEYS} can be handed over; bind fewer, or shorter paths"
    )]
    TooManyListeners {
        /// How many were asked for.
        count: usize,
        /// What their names take.
        bytes: usize,
    },
    /// TLS options that do not go together.
    #[error(transparent)]
    Tls(#[from] tls::Unusable),
    /// Sockets were passed in a way that cannot be understood.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// No descriptors for any connection.
    #[error(
        "the descriptor limit of {limit} leaves room for no connection; raise it (ulimit -n 1024, or LimitNOFILE=)"
    )]
    NoDescriptors {
        /// The hard limit.
        limit: u64,
    },
    /// More connections than descriptors.
    #[error(
        "--max-connections {asked}: the descriptor limit of {limit} leaves room for {room}{each}; raise it (ulimit -n {needed}, or LimitNOFILE= in \
         the systemd unit) or ask for fewer"
    )]
    Descriptors {
        /// What was asked for.
        asked: u32,
        /// The hard limit.
        limit: u64,
        /// What fits.
        room: u64,
        /// Why a connection takes more than one, where it does.
        each: &'static str,
        /// What the limit would have to be.
        needed: u64,
    },
}

impl Error {
    pub(super) fn value(option: &'static str, value: impl Display, remedy: impl Display) -> Self {
        Self::Value { option, value: value.to_string(), remedy: remedy.to_string(), origin: None }
    }

    /// With where the value was written, unless that is known already.
    pub(super) fn located(mut self, origins: &Origins) -> Self {
        if let Self::Value { option, origin, .. } = &mut self
            && origin.is_none()
        {
            *origin = origins.of(option);
        }
        self
    }
}
