//! `--watch`: looks after the files of plugins, and says when a change of one of them is over. What a change leads to is not known here.
//!
//! It is over when nobody writes to the file any more and nothing has happened for a moment, however it was made: in place, by a
//! rename, by a link that was flipped anywhere on the way to it. A thread of its own waits for that, since it has to look at
//! disks. Whoever is told answers with what went wrong: that is said when nothing has changed for a while, and not
//! at all where something has, since a file that is replaced in several steps is bound to be wrong in between.

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

/// How long nothing may happen for a change to be over. A linker, a copy or a flip of two links is done sooner.
const QUIET: Duration = Duration::from_millis(25);

/// A file that is replaced again and again without a pause is read this often all the same.
const LONGEST_UNREST: Duration = Duration::from_secs(1);

/// A file that somebody has kept open for writing for so long may have been forgotten: it is told why nothing happens.
const LONG_WRITE: Duration = Duration::from_secs(10);

/// For how long what was wrong may be mended before it is told.
const SETTLED: Duration = Duration::from_secs(1);

/// How often files are looked at that cannot be watched. More than once while something wrong may be mended.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Looks after the plugins of a configuration until it is dropped.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Saved>,
    /// The thread ends when this is closed.
    _alive: PipeWriter,
}

/// A change that is over.
#[derive(Debug)]
pub struct Saved {
    /// The plugin.
    pub path: PathBuf,
    /// When it was noticed last.
    pub at: Instant,
    failure: oneshot::Sender<String>,
}

impl Saved {
    /// What was saved cannot be served. Where it is served, this is just dropped.
    pub fn failed(self, reason: String) {
        // Nobody waits for it where other files are watched by now.
        self.failure.send(reason).ok();
    }
}

impl Watch {
    /// Looks after all plugins that a configuration names, if it says so; from here on, so that what is loaded afterwards is either
    /// the last content or told of later. To be called where blocking is allowed.
    ///
    /// # Errors
    ///
    /// Where the system refuses a pipe or a thread.
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

    /// The next change. May be dropped and called again; what nobody asks for waits.
    pub async fn saved(&mut self) -> Saved {
        match self.changes.recv().await {
            Some(saved) => saved,
            None => std::future::pending().await, // The thread ends when this does.
        }
    }
}

struct Watcher {
    paths: Vec<PathBuf>,
    /// `None` where the system has no more of them.
    places: Option<Places>,
    /// What the files were when they were looked at last, where they cannot all be watched.
    looked: Option<Vec<Stamp>>,
    ended: PipeReader,
    changes: mpsc::Sender<Saved>,
}

/// What the wait for a change has come to.
enum Woken {
    /// Something has happened to the plugin of this index.
    Changed(usize),
    /// Nothing has, for as long as was asked.
    Quiet,
    /// Nobody asks any more.
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
                    // What happens meanwhile is in the kernel's queue.
                    wrong = outcome.blocking_recv().ok();
                }
                Woken::Quiet => {
                    if let Some(reason) = wrong.take() {
                        error!("the reload failed, everything stays as it was: {reason}");
                    }
                }
                Woken::Ended => return,
            }
        }
    }

    /// Waits until a change is over: what has changed last, and when. `None` where nobody asks any more.
    fn settle(&mut self, mut index: usize) -> Option<(usize, Instant)> {
        let began = Instant::now();
        let mut last = began;
        let mut told = false;
        loop {
            let writing = self.places.as_ref().is_some_and(Places::are_written);
            let until = match writing {
                false => Some((last + QUIET).min(began + LONGEST_UNREST)),
                true => Some(began + LONG_WRITE).filter(|_| !told),
            };
            if !writing && until.is_some_and(|until| until <= Instant::now()) {
                return Some((index, last));
            }
            match self.next(until) {
                Woken::Changed(latest) => (index, last) = (latest, Instant::now()),
                Woken::Quiet if writing => {
                    told = true;
                    let path = self.paths.get(index).map(|path| path.display());
                    info!(
                        path = path.map(field::display),
                        "a plugin is still open for writing; it is loaded when it is closed"
                    );
                }
                Woken::Quiet => {}
                Woken::Ended => return None,
            }
        }
    }

    /// Waits for something to happen.
    fn next(&mut self, until: Option<Instant>) -> Woken {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let pause = self.looked.as_ref().map(|_| LOOK_AGAIN);
            let timeout = left.into_iter().chain(pause).min();
            // Rounded up, or it would be asked again and again for the last millisecond.
            let timeout = timeout.map(|timeout| timeout.as_millis().saturating_add(1));
            let timeout = timeout.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
            let mut awaited = vec![PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
            awaited.extend(self.places.iter().map(|places| PollFd::new(places.as_fd(), PollFlags::POLLIN)));
            // It fails only when a signal interrupts it.
            poll(&mut awaited, timeout).ok();
            // Nothing is ever written there.
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

    /// Watches what leads to the files by now.
    fn arm(&mut self) {
        let refused = self.places.as_mut().and_then(|places| places.arm(&self.paths).err());
        if let Some(obstacle) = refused {
            self.look_again(&obstacle.to_string());
        }
    }

    fn look_again(&mut self, why: &str) {
        if self.looked.is_none() {
            warn!("--watch: plugins cannot be watched here, and are looked at twice a second instead: {why}");
            self.looked = Some(self.paths.iter().map(|path| Stamp::of(path)).collect());
        }
    }

    /// Which of those that have to be looked at has changed since.
    fn look(&mut self) -> Option<usize> {
        let before = self.looked.as_mut()?;
        let now: Vec<_> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        let before = mem::replace(before, now);
        before.iter().zip(self.looked.iter().flatten()).position(|(before, now)| before != now)
    }
}
