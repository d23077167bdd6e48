//! The id of a connection in records.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// An id for a connection that is unique within its service, across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    process: u64,
    ordinal: u64,
}

impl ConnectionId {
    /// The next id.
    pub fn next() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static ORDINAL: AtomicU64 = AtomicU64::new(1);
        // The microsecond of the first connection identifies the process: its successor starts
        // later.
        let process = *PROCESS.get_or_init(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_micros()).unwrap_or_default()
        });
        Self { process, ordinal: ORDINAL.fetch_add(1, Ordering::Relaxed) }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.process, self.ordinal)
    }
}
