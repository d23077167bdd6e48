//! Waits with an end, which also stop at a signal that ends this process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// The longest that any wait but a start may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between polls: short beside the measured times, and long enough to leave the machine
/// to others.
const PAUSE: Duration = Duration::from_micros(500);

static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Makes signals end every wait with an error, so that started processes are ended too. Successors
/// are in process groups of their own, where an interrupt from the terminal does not reach them.
pub(crate) fn end_on_signals() -> anyhow::Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(&STOPPED))?;
    }
    Ok(())
}

/// Polls until `condition` has a value.
pub(crate) fn wait_for<T>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = condition()? {
            return Ok(answer);
        }
        ensure!(!STOPPED.load(Ordering::Relaxed), "stopped by a signal while waiting for {what}");
        if Instant::now() >= deadline {
            bail!("waited {within:?} in vain for {what}");
        }
        thread::sleep(PAUSE);
    }
}

/// Pauses for this time.
pub(crate) fn pass(time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    wait_for("time to pass", time + PATIENCE, || Ok((Instant::now() >= end).then_some(())))
}
