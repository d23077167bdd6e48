//! Waits for a condition, or for time that a test is about.

use std::{
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

/// The longest that anything here may take. Far more than it does, so that only what hangs is caught.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer, for at most [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Pauses where a test is about time that passes: a client that must be slow, or a period over which something is measured.
/// Whatever waits for an event calls [`wait_for`] instead.
pub fn pace(pause: Duration, reason: &str) {
    assert!(!reason.is_empty() && pause < PATIENCE, "{reason}");
    thread::park_timeout(pause);
}

pub(super) fn wait_for_exit(child: &mut Child, what: &str) -> ExitStatus {
    wait_for(&format!("the end of {what}"), || child.try_wait().unwrap())
}
