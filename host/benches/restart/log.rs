//! The log of all generations of a service, with the time at which each line arrived.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use nix::unistd::Pid;

use crate::patience::wait_for;

/// The length of the excerpt that is shown with a failure.
const SHOWN: usize = 30;

/// A line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) arrived: Instant,
    /// The process that wrote it; `None` for a line without a pid.
    pub(crate) pid: Option<Pid>,
    pub(crate) text: String,
}

/// The lines since the last [`Log::forget`].
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    /// Collects lines from a pipe until every process has closed the other end.
    pub(crate) fn collect(&self, pipe: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                let arrived = Instant::now();
                log.lines().push(Line { arrived, pid: author(&text), text });
            }
        });
    }

    /// Forgets all lines.
    pub(crate) fn forget(&self) {
        self.lines().clear();
    }

    /// The lines, in the order in which they arrived.
    pub(crate) fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        // A thread that ended while it held them has pushed a line or has not: the lines are
        // complete.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a line with `words`, from `pid` where that is given.
    pub(crate) fn await_line(&self, pid: Option<Pid>, words: &str, within: Duration) -> anyhow::Result<Line> {
        let is_it = |line: &&Line| line.text.contains(words) && (pid.is_none() || line.pid == pid);
        let found = || Ok(self.lines().iter().find(is_it).cloned());
        wait_for(&format!("a line with {words:?}"), within, found).map_err(|error| self.explain(&error))
    }

    /// An error with the end of the log.
    pub(crate) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let lines = self.lines();
        let end: Vec<&str> = lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| line.text.as_str()).collect();
        anyhow!("{error:#}; the end of the log:\n  {}", end.join("\n  "))
    }
}

/// Each record of a host begins with `[PID/GENERATION]`.
fn author(text: &str) -> Option<Pid> {
    let (pid, _generation) = text.strip_prefix('[')?.split_once('/')?;
    pid.parse().ok().map(Pid::from_raw)
}
