//! The pidfile: the number of the process that serves, for scripts that signal it.
//!
//! At any instant a reader finds the file of one process or that of the next, whole. Alive is whoever holds the lock
//! (flock(2)) on the very file that the path names: a number alone may have become another program's. What is no pidfile is
//! never replaced on a cold start, and what another process wrote is never removed.

use crate::system::privilege::Owner;
use rustix::{
    fs::{FlockOperation, OFlags, flock},
    process::geteuid,
};
use std::{
    fmt,
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    process,
};
use tracing::{info, warn};

/// More than the longest number and its end.
const LONGEST_CONTENT: usize = 16;

/// How often a claim begins anew because another process replaced the file meanwhile. Each time one of them has won.
const ATTEMPTS: u32 = 64;

/// The pidfile that this process has written. Removed when this is dropped, where the path still names that file and the file
/// this process.
#[derive(Debug)]
pub struct PidFile {
    place: Place,
    /// Open and locked for as long as this process answers for the path.
    file: File,
    ownership: Ownership,
}

#[derive(Debug, PartialEq, Eq)]
enum Ownership {
    Ours,
    Released,
}

/// Why there can be no pidfile.
#[derive(Debug, thiserror::Error)]
#[error("--pidfile {}: {problem}", crate::record::secret::Shown::bare(path))]
pub struct Error {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("is not the name of a file: give one, as in /run/uninterruptible-host.pid")]
    NoName,
    #[error("its directory does not exist: create it, or name another")]
    NoDirectory,
    #[error("is {0}: name a file")]
    Kind(&'static str),
    #[error("holds something other than a process id: remove it, or name another file")]
    Foreign,
    #[error("belongs to another user, in a directory where only that user may replace it: remove it, or name another")]
    Owner,
    #[error("is held by {0}, which is alive: stop it, or name another file")]
    Held(Holder),
    #[error("{0}{remedy}", remedy = remedy(.0))]
    System(#[from] io::Error),
}

impl Error {
    /// Whether the path itself may be fine.
    pub fn is_refusal_of_the_system(&self) -> bool {
        matches!(self.problem, Problem::Owner | Problem::Held(_) | Problem::System(_))
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name a file in a directory that this user may write"
        }
        _ => "",
    }
}

/// Proves that the pidfile can be written, by writing one under another name and removing it. What is at the path stays as it
/// is, whoever holds it.
///
/// # Errors
///
/// Where it could not be written, or would replace something that is no pidfile.
pub fn check(path: &Path) -> Result<(), Error> {
    let prove = |place: Place| {
        place.existing()?;
        place.draft()?;
        Ok(())
    };
    Place::of(path).and_then(prove).map_err(|problem| Error { path: path.to_owned(), problem })
}

impl PidFile {
    /// Writes it on a cold start. A file whose process is gone is replaced, with a record in the log.
    ///
    /// # Errors
    ///
    /// Where a live process holds it, where the path names something that is no pidfile, or where the system refuses.
    pub fn claim(path: &Path) -> Result<Self, Error> {
        Place::of(path).and_then(Place::claim).map_err(|problem| Error { path: path.to_owned(), problem })
    }

    /// Writes it in the place of a predecessor, whether that still holds it or is gone.
    ///
    /// # Errors
    ///
    /// Where the system refuses.
    pub fn take_over(path: &Path) -> Result<Self, Error> {
        let replace = |place: Place| {
            let draft = place.draft()?;
            fs::rename(&draft.name.0, &place.path)?;
            Ok(draft.publish(place))
        };
        Place::of(path).and_then(replace).map_err(|problem| Error { path: path.to_owned(), problem })
    }

    /// Gives it to whom this process becomes, so that those that come after it may replace it.
    ///
    /// # Errors
    ///
    /// Where the system does not allow it.
    pub fn give_to(&self, owner: Owner) -> Result<(), Error> {
        let given = fchown(&self.file, owner.user, owner.group);
        given.map_err(|error| Error { path: self.place.path.clone(), problem: error.into() })
    }

    /// Leaves the file to a successor, who will replace it: from here on nobody holds it, and it is not removed.
    pub fn release(mut self) {
        self.ownership = Ownership::Released;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Between these questions and the removal no other host replaces the file: it would need the lock, or our release.
        let ours = self.ownership == Ownership::Ours
            && self.place.names(&self.file)
            && content(&self.file).is_ok_and(|holder| holder == Holder::this_process());
        if ours && let Err(error) = fs::remove_file(&self.place.path) {
            warn!(path = %self.place.path.display(), %error, "pidfile removal failed");
        }
    }
}

/// Where the pidfile is, and where it is written before it gets there.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    directory: PathBuf,
    /// In the same directory. The same for each attempt of a process, so that a killed one leaves one file at most, which the
    /// next process of that number replaces.
    draft: PathBuf,
}

impl Place {
    fn of(path: &Path) -> Result<Self, Problem> {
        let name = path.file_name().ok_or(Problem::NoName)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".{}", process::id()));
        match fs::metadata(&directory) {
            Ok(found) if found.is_dir() => Ok(Self { path: path.to_owned(), draft: directory.join(draft), directory }),
            Ok(_) => Err(Problem::NoDirectory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Problem::NoDirectory),
            Err(error) => Err(error.into()),
        }
    }

    /// What is there: nothing, or a pidfile.
    fn existing(&self) -> Result<Option<(File, Holder)>, Problem> {
        let absent_is_none = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => Err(error.into()),
        };
        // Opening a device or a pipe could do something, so that the kind is asked for first; and again of what was opened.
        let found = match fs::symlink_metadata(&self.path) {
            Ok(found) => found,
            Err(error) => return absent_is_none(error),
        };
        refuse_other_kinds(&found)?;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let options = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).to_owned();
        let file = match options.open(&self.path) {
            Ok(file) => file,
            Err(error) => return absent_is_none(error),
        };
        let found = file.metadata()?;
        refuse_other_kinds(&found)?;
        let user = geteuid().as_raw();
        let directory = fs::metadata(&self.directory)?;
        let sticky = directory.mode() & rustix::fs::Mode::SVTX.bits() != 0;
        if sticky && user != 0 && found.uid() != user && directory.uid() != user {
            return Err(Problem::Owner);
        }
        let holder = content(&file)?;
        Ok(Some((file, holder)))
    }

    fn claim(self) -> Result<PidFile, Problem> {
        let draft = self.draft()?;
        let mut last = Holder::Nobody;
        for _ in 0..ATTEMPTS {
            let Some((old, holder)) = self.existing()? else {
                // A link, unlike a rename, fails where another process was faster.
                match fs::hard_link(&draft.name.0, &self.path) {
                    Ok(()) => return Ok(draft.publish(self)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    Err(error) => return Err(error.into()),
                }
            };
            match flock(&old, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Problem::Held(holder)),
                Err(error) => return Err(error.into()),
            }
            if self.names(&old) {
                // Whoever else finds it stale waits for this lock, and then finds that the path names another file.
                fs::rename(&draft.name.0, &self.path)?;
                info!(path = %self.path.display(), stale = %holder, "stale pidfile replaced");
                return Ok(draft.publish(self));
            }
            last = holder;
        }
        Err(Problem::Held(last))
    }

    /// Whether the path names this very file.
    fn names(&self, file: &File) -> bool {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let there = fs::symlink_metadata(&self.path).map(identity);
        matches!((there, file.metadata().map(identity)), (Ok(there), Ok(ours)) if there == ours)
    }

    /// The whole file under its other name, already locked.
    fn draft(&self) -> io::Result<Draft> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = match options.open(&self.draft) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&self.draft)?;
                options.open(&self.draft)?
            }
            opened => opened?,
        };
        let mut draft = Draft { file, name: Temporary(self.draft.clone()) };
        flock(&draft.file, FlockOperation::NonBlockingLockExclusive)?;
        // Whatever the umask is: everyone may know whom to signal.
        draft.file.set_permissions(Permissions::from_mode(0o644))?;
        writeln!(draft.file, "{}", process::id())?;
        Ok(draft)
    }
}

/// A pidfile under its other name.
struct Draft {
    file: File,
    name: Temporary,
}

impl Draft {
    /// What it is once it has the right name.
    fn publish(self, place: Place) -> PidFile {
        PidFile { place, file: self.file, ownership: Ownership::Ours }
    }
}

/// A name that is removed when this is dropped; after a rename it is gone already.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %self.0.display(), %error, "temporary file removal failed");
            }
            _ => {}
        }
    }
}

/// Whom a pidfile names.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// It is empty, as what other programs write may be for an instant, or for ever after a crash.
    Nobody,
    Process(u32),
}

impl Holder {
    fn this_process() -> Self {
        Self::Process(process::id())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("a process that it does not name"),
            Self::Process(pid) => write!(f, "process {pid}"),
        }
    }
}

fn content(file: &File) -> Result<Holder, Problem> {
    let mut bytes = [0; LONGEST_CONTENT];
    let length = file.read_at(&mut bytes, 0)?;
    let text = bytes.get(..length).and_then(|bytes| str::from_utf8(bytes).ok()).ok_or(Problem::Foreign)?;
    match text.trim() {
        "" if length < LONGEST_CONTENT => Ok(Holder::Nobody),
        // `parse` alone would take a sign.
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Holder::Process).map_err(|_number| Problem::Foreign)
        }
        _ => Err(Problem::Foreign),
    }
}

fn refuse_other_kinds(found: &Metadata) -> Result<(), Problem> {
    let kind = found.file_type();
    match () {
        () if kind.is_file() => Ok(()),
        () if kind.is_dir() => Err(Problem::Kind("a directory")),
        () if kind.is_symlink() => Err(Problem::Kind("a symbolic link")),
        () if kind.is_fifo() => Err(Problem::Kind("a named pipe")),
        () if kind.is_socket() => Err(Problem::Kind("a socket")),
        () => Err(Problem::Kind("a device")),
    }
}

#[cfg(test)]
mod tests;
