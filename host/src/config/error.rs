//! Configuration errors, with the place and the change that fixes them.

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

/// Why a configuration cannot be served: one line that names the option, the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The handoff of the Ruby gem was requested.
    #[error(
        "FILE_DESCRIPTOR_SERVER_PATH belongs to the Ruby gem uninterruptible, whose protocol this program does not speak; \
         unset it, and use --handoff-socket and --take-over if this process does not start the successor"
    )]
    Gem,
    /// The variable of a predecessor does not hold a descriptor.
    #[error(
        "UNINTERRUPTIBLE_HANDOFF_FD {number}: is not a descriptor; only a host that starts its successor sets it: unset it",
        number = Shown::path(Path::new(.0))
    )]
    Channel(OsString),
    /// The working directory is gone, or its path cannot be determined.
    #[error("the working directory is unknown ({0}); start in a directory that exists, or set APP_ROOT")]
    Directory(io::Error),
    /// The program was started without a name.
    #[error("the path of this program is unknown (argv[0] is {0:?}); give --start-command")]
    Program(OsString),
    /// The address of the host to ask is not configured.
    #[error("--admin is missing: give the host's --admin address, or its --config")]
    NoAdmin,
    /// A required option is missing.
    #[error("--plugin is missing for {0}: name the component to serve, as in --plugin hello.wasm")]
    NoPlugin(Bind),
    /// No connection can take this route.
    #[error(
        "{place}: a [[listener.route]] needs TLS, and {bind} has none: give it a tls-certificate, or remove the route"
    )]
    RouteWithoutTls {
        /// The listener.
        bind: Bind,
        /// The place of the route in the file.
        place: Place,
    },
    /// An earlier route takes every connection of this one.
    #[error(
        "--config {place}: this [[listener.route]] never matches, because the route of {first} takes all of its connections; move it before that route, or remove it"
    )]
    RouteNeverTaken {
        /// The place of this route.
        place: Place,
        /// The place of the earlier route.
        first: Place,
    },
    /// A value does not parse.
    #[error("{option} {value}{}: {remedy}", .origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default(), value = Shown::of(value), remedy = without_words_of(value, remedy))]
    Value {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// The values that it takes.
        remedy: String,
        /// The place of the value, unless it was typed.
        origin: Option<String>,
    },
    /// The file is not valid.
    #[error(transparent)]
    File(FileError),
    /// A path is not text, so that it cannot be written in a file or on a terminal.
    #[error("a path on the command line is not text: with --config, every path must be UTF-8")]
    NotText,
    /// A bug in this program.
    #[error("a bug in uninterruptible-host: {0}")]
    Bug(String),
    /// Listeners are configured in two ways.
    #[error("--bind: the configuration file has a [[listener]] for each address; leave --bind out, or add one there")]
    TwoWaysToBind,
    /// More listeners than a handoff can carry.
    #[error(
        "--bind: the names of {count} listeners take {bytes} bytes, and {LONGEST_KEYS} can be handed over; bind fewer, or shorter paths"
    )]
    TooManyListeners {
        /// Their number.
        count: usize,
        /// The bytes of their keys.
        bytes: usize,
    },
    /// TLS options that contradict each other.
    #[error(transparent)]
    Tls(#[from] tls::Unusable),
    /// The variables of passed sockets are not valid.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// No descriptors are left for connections.
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
        /// The configured connections.
        asked: u32,
        /// The hard limit.
        limit: u64,
        /// The connections that fit.
        room: u64,
        /// Why a connection takes more than one descriptor, if it does.
        each: &'static str,
        /// The limit that the configuration needs.
        needed: u64,
    },
}

impl Error {
    pub(super) fn value(option: &'static str, value: impl Display, remedy: impl Display) -> Self {
        Self::Value { option, value: value.to_string(), remedy: remedy.to_string(), origin: None }
    }

    /// Adds the place of the value, unless it is known already.
    pub(super) fn located(mut self, origins: &Origins) -> Self {
        if let Self::Value { option, origin, .. } = &mut self
            && origin.is_none()
        {
            *origin = origins.of(option);
        }
        self
    }
}
