//! Where a change of a file can be noticed: in the file itself and in every directory whose names
//! or links lead to it.

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use rustix::fs::statfs;
use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Component, Path, PathBuf},
};

/// The events that are requested. The kernel keeps one mask for each inode, so files and
/// directories share it.
const ASKED: AddWatchFlags = AddWatchFlags::IN_MODIFY
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO);

/// Most symbolic links on one path, as in the kernel.
const MOST_LINKS: usize = 40;

/// File systems whose files other machines change without this kernel noticing.
const SHARED: [(u32, &str); 8] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
];

/// Why changes of a file cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error("{}: {}", .0.display(), said(*.1))]
    Refused(PathBuf, Errno),
    #[error("{}: {kind} does not report changes by other machines", .directory.display())]
    Shared { directory: PathBuf, kind: &'static str },
}

fn said(refusal: Errno) -> String {
    match refusal {
        Errno::ENOSPC => "no inotify watches are left (see fs.inotify.max_user_watches)".to_owned(),
        refusal => refusal.desc().to_owned(),
    }
}

/// The watched places of a set of files.
pub(super) struct Places {
    inotify: Inotify,
    watched: HashMap<WatchDescriptor, Names>,
    /// Files that another process has opened for writing and has not closed.
    written: HashSet<(WatchDescriptor, Option<OsString>)>,
}

/// The names that matter in a watched place, each with the index of its file; `None` is the file
/// itself.
type Names = HashMap<Option<OsString>, usize>;

impl Places {
    pub(super) fn new() -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { inotify, watched: HashMap::new(), written: HashSet::new() })
    }

    /// Watches everything that leads to these files now, and nothing else.
    pub(super) fn arm(&mut self, paths: &[PathBuf]) -> Result<(), Obstacle> {
        let mut watched = HashMap::new();
        let mut outcome = Ok(());
        for (index, path) in paths.iter().enumerate() {
            outcome = outcome.and(self.follow(path, index, &mut watched));
        }
        for gone in self.watched.keys().filter(|place| !watched.contains_key(place)) {
            // This fails if the watched inode was removed; the kernel has then dropped the watch.
            self.inotify.rm_watch(*gone).ok();
        }
        self.watched = watched;
        self.written.retain(|(place, name)| self.watched.get(place).is_some_and(|names| names.contains_key(name)));
        outcome
    }

    /// Resolves a path as the kernel does. It watches each directory before it reads the entry, so
    /// that it misses no change.
    fn follow(&self, path: &Path, index: usize, watched: &mut HashMap<WatchDescriptor, Names>) -> Result<(), Obstacle> {
        let mut directory = PathBuf::from("/");
        let mut rest = steps(path);
        let mut links = 0;
        while let Some(step) = rest.pop() {
            if step == ".." {
                directory.pop();
                continue;
            }
            let place = match self.inotify.add_watch(&directory, ASKED) {
                Ok(place) => place,
                // The entry has just disappeared. The watch on its directory reports that.
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
                Err(refusal) => return Err(Obstacle::Refused(directory, refusal)),
            };
            watched.entry(place).or_default().insert(Some(step.clone()), index);
            let next = directory.join(&step);
            match fs::read_link(&next) {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        directory = PathBuf::from("/");
                    }
                    rest.extend(steps(&target));
                }
                _ if rest.is_empty() => {
                    // The inode may also be reached by other names. It need not exist or be
                    // readable.
                    if let Ok(file) = self.inotify.add_watch(&next, ASKED) {
                        watched.entry(file).or_default().insert(None, index);
                    }
                    let kind = shared(&directory);
                    return kind.map_or(Ok(()), |kind| Err(Obstacle::Shared { directory, kind }));
                }
                _ => directory = next,
            }
        }
        Ok(())
    }

    /// Reads the events since the last call. Returns the index of the last file that they concern,
    /// if any.
    pub(super) fn happened(&mut self) -> Option<usize> {
        let mut concerned = None;
        // Reading fails when the queue is empty.
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    // The queue overflowed: any file may have changed.
                    self.written.clear();
                    concerned = Some(concerned.unwrap_or_default());
                }
                let Some(index) = self.watched.get(&event.wd).and_then(|names| names.get(&event.name)) else {
                    continue;
                };
                concerned = Some(*index);
                let file = (event.wd, event.name);
                if event.mask.contains(AddWatchFlags::IN_MODIFY) {
                    self.written.insert(file);
                } else if !event.mask.contains(AddWatchFlags::IN_ATTRIB) {
                    // The file was closed or replaced.
                    self.written.remove(&file);
                }
            }
        }
        concerned
    }

    /// Whether a process currently writes to one of the files.
    pub(super) fn are_written(&self) -> bool {
        !self.written.is_empty()
    }
}

impl AsFd for Places {
    /// Readable when an event is queued.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The components of a path in reverse order, so that `pop` returns the first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    });
    steps.map(OsStr::to_owned).collect()
}

/// The kind of file system, if other machines can change its files unnoticed.
fn shared(directory: &Path) -> Option<&'static str> {
    // The type is a 32-bit number, in a wider field on some platforms.
    let kind = statfs(directory).ok()?.f_type as u32;
    SHARED.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// The metadata that shows a change of a file, for polling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<[i64; 7]>);

impl Stamp {
    pub(super) fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|file| {
            [
                file.dev().cast_signed(),
                file.ino().cast_signed(),
                file.size().cast_signed(),
                file.mtime(),
                file.mtime_nsec(),
                file.ctime(),
                file.ctime_nsec(),
            ]
        }))
    }
}
