//! Waits for a condition, or for time that a test is about.

use std::{
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

/// The longest that any wait may take. It is far more than a wait needs, so only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until the condition has a value, for at most [`PATIENCE`].
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

/// Pauses where a test is about time that passes: a client that must be slow, or a period of
/// measuring. A wait for an event uses [`wait_for`] instead.
pub fn pace(pause: Duration, reason: &str) {
    assert!(!reason.is_empty() && pause < PATIENCE, "{reason}");
    thread::park_timeout(pause);
}

pub(super) fn wait_for_exit(child: &mut Child, what: &str) -> ExitStatus {
    wait_for(&format!("the end of {what}"), || child.try_wait().unwrap())
}
