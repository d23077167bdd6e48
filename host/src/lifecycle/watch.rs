//! `--watch`: watches the files of plugins and reports finished changes. It does not know what a
//! change leads to.
//!
//! A change is finished when no process has the file open for writing and nothing has happened for
//! a moment. It may be made in place, by a rename, or by a link that was flipped anywhere on the
//! path. A separate thread waits for that, since it blocks on disks. The receiver of a change
//! answers with the error, if it failed. That error is logged after a quiet time, and not at all if
//! the file has changed again: a file that is replaced in several steps is often broken in between.

mod places;

use self::places::{Places, Stamp};
use crate::config::Config;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, PipeReader, PipeWriter},
    mem,
    os::fd::AsFd,
    path::{self, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, field, info, warn};

/// How long nothing may happen for a change to be finished. A linker, a copy or a flip of two links
/// takes less.
const QUIET: Duration = Duration::from_millis(25);

/// A file that is replaced again and again without a pause is read this often anyway.
const LONGEST_UNREST: Duration = Duration::from_secs(1);

/// A file that a process keeps open for writing this long gets a log record, since the process may
/// have forgotten it.
const LONG_WRITE: Duration = Duration::from_secs(10);

/// How long a failure may be corrected before it is logged.
const SETTLED: Duration = Duration::from_secs(1);

/// How often files that cannot be watched are polled. More than once in the time in which a failure
/// may be corrected.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Watches the plugins of a configuration until it is dropped.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Saved>,
    /// The thread ends when this is closed.
    _alive: PipeWriter,
}

/// A finished change.
#[derive(Debug)]
pub struct Saved {
    /// The plugin's path.
    pub path: PathBuf,
    /// When it was last noticed.
    pub at: Instant,
    failure: oneshot::Sender<String>,
}

impl Saved {
    /// Reports that the new content cannot be served. If it is served, the value is just dropped.
    pub fn failed(self, reason: String) {
        // The receiver is gone if other files are watched by now.
        self.failure.send(reason).ok();
    }
}

impl Watch {
    /// Watches all plugins that a configuration names, if it says so. What is loaded afterwards is
    /// either the last content or reported later. Call this where blocking is allowed.
    ///
    /// # Errors
    ///
    /// If the system refuses a pipe or a thread.
    pub fn over(config: &Config) -> io::Result<Option<Self>> {
        if !config.watch {
            return Ok(None);
        }
        let mut paths = Vec::new();
        for path in config.plugins() {
            // As it is opened: from the working directory.
            let path = path::absolute(path)?;
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let (ended, alive) = io::pipe()?;
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = Watcher::new(paths, ended, sender);
        thread::Builder::new().name("watch".into()).spawn(move || watcher.run())?;
        Ok(Some(Self { changes, _alive: alive }))
    }

    /// The next change. May be dropped and called again; changes wait until they are received.
    pub async fn saved(&mut self) -> Saved {
        match self.changes.recv().await {
            Some(saved) => saved,
            None => std::future::pending().await, // The thread ends when this does.
        }
    }
}

struct Watcher {
    paths: Vec<PathBuf>,
    /// `None` if the system has no more inotify instances.
    places: Option<Places>,
    /// The metadata of the files at the last poll, if they cannot all be watched.
    looked: Option<Vec<Stamp>>,
    ended: PipeReader,
    changes: mpsc::Sender<Saved>,
}

/// The result of a wait.
enum Woken {
    /// The plugin of this index has changed.
    Changed(usize),
    /// The wait timed out.
    Quiet,
    /// The receiver is gone.
    Ended,
}

impl Watcher {
    fn new(paths: Vec<PathBuf>, ended: PipeReader, changes: mpsc::Sender<Saved>) -> Self {
        let mut watcher = Self { paths, places: None, looked: None, ended, changes };
        match Places::new() {
            Ok(places) => watcher.places = Some(places),
            Err(error) => watcher.look_again(&format!("{error} (see fs.inotify.max_user_instances)")),
        }
        watcher.arm();
        watcher
    }

    fn run(&mut self) {
        let mut wrong: Option<String> = None;
        loop {
            let until = wrong.as_ref().map(|_| Instant::now() + SETTLED);
            match self.next(until) {
                Woken::Changed(index) => {
                    let Some((index, at)) = self.settle(index) else { return };
                    let (failure, outcome) = oneshot::channel();
                    let path = self.paths.get(index).cloned().unwrap_or_default();
                    if self.changes.blocking_send(Saved { path, at, failure }).is_err() {
                        return;
                    }
                    // Events that happen meanwhile are in the kernel's queue.
                    wrong = outcome.blocking_recv().ok();
                }
                Woken::Quiet => {
                    if let Some(reason) = wrong.take() {
                        error!(error = %reason, "reload failed, nothing changed");
                    }
                }
                Woken::Ended => return,
            }
        }
    }

    /// Waits until a change is finished: which file changed last, and when. `None` if the receiver
    /// is gone.
    fn settle(&mut self, mut index: usize) -> Option<(usize, Instant)> {
        let began = Instant::now();
        let mut last = began;
        let mut logged = false;
        loop {
            let writing = self.places.as_ref().is_some_and(Places::are_written);
            let until = match writing {
                false => Some((last + QUIET).min(began + LONGEST_UNREST)),
                true => Some(began + LONG_WRITE).filter(|_| !logged),
            };
            if !writing && until.is_some_and(|until| until <= Instant::now()) {
                return Some((index, last));
            }
            match self.next(until) {
                Woken::Changed(latest) => (index, last) = (latest, Instant::now()),
                Woken::Quiet if writing => {
                    logged = true;
                    let path = self.paths.get(index).map(|path| path.display());
                    info!(path = path.map(field::display), "plugin file still open, waiting");
                }
                Woken::Quiet => {}
                Woken::Ended => return None,
            }
        }
    }

    /// Waits for an event.
    fn next(&mut self, until: Option<Instant>) -> Woken {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let pause = self.looked.as_ref().map(|_| LOOK_AGAIN);
            let timeout = left.into_iter().chain(pause).min();
            // Rounded up, or the last millisecond would be a busy loop.
            let timeout = timeout.map(|timeout| timeout.as_millis().saturating_add(1));
            let timeout = timeout.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
            let mut awaited = vec![PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
            awaited.extend(self.places.iter().map(|places| PollFd::new(places.as_fd(), PollFlags::POLLIN)));
            // It fails only if a signal interrupts it.
            poll(&mut awaited, timeout).ok();
            // The pipe is never written to.
            if awaited.first().is_some_and(|ended| ended.any().unwrap_or_default()) {
                return Woken::Ended;
            }
            let happened = self.places.as_mut().and_then(Places::happened);
            if let Some(index) = happened {
                self.arm();
                return Woken::Changed(index);
            }
            if let Some(index) = self.look() {
                return Woken::Changed(index);
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Woken::Quiet;
            }
        }
    }

    /// Watches everything that leads to the files now.
    fn arm(&mut self) {
        let refused = self.places.as_mut().and_then(|places| places.arm(&self.paths).err());
        if let Some(obstacle) = refused {
            self.look_again(&obstacle.to_string());
        }
    }

    fn look_again(&mut self, why: &str) {
        if self.looked.is_none() {
            warn!(error = %why, "inotify unavailable, polling plugins");
            self.looked = Some(self.paths.iter().map(|path| Stamp::of(path)).collect());
        }
    }

    /// The file that has changed since the last poll.
    fn look(&mut self) -> Option<usize> {
        let before = self.looked.as_mut()?;
        let now: Vec<_> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        let before = mem::replace(before, now);
        before.iter().zip(self.looked.iter().flatten()).position(|(before, now)| before != now)
    }
}
