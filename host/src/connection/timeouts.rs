//! How long a connection may last.

use crate::record::failure::{Failure, Reason};
use std::time::Duration;

/// How long a connection may last.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// In all.
    pub connection: Option<Duration>,
    /// While it moves no byte.
    pub idle: Option<Duration>,
}

impl Timeouts {
    /// The failure of what has met one of them: which, how long that is, and the option that sets it.
    pub(crate) fn failure(&self, reason: Reason) -> Failure {
        let of = |what: &str, timeout: Option<Duration>, option: &str| {
            timeout.map_or_else(String::new, |timeout| {
                format!("{what} for {} ({option})", humantime::format_duration(timeout))
            })
        };
        let message = match reason {
            Reason::WallTime => of("open", self.connection, "--connection-timeout"),
            Reason::Idle => of("no byte moved", self.idle, "--idle-timeout"),
            _ => String::new(),
        };
        Failure { reason, message }
    }
}
