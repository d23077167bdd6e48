//! The timeouts of a connection.

use crate::record::failure::{Failure, Reason};
use std::time::Duration;

/// The timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// In total.
    pub connection: Option<Duration>,
    /// Without a moving byte.
    pub idle: Option<Duration>,
}

impl Timeouts {
    /// The failure for a timeout: which one, its length, and the option that sets it.
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
