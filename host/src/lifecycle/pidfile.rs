//! The pidfile: the id of the serving process, for scripts that signal it.
//!
//! At any instant a reader finds the complete file of one process or of the next. The process that
//! holds the lock (flock(2)) on the file at the path owns it; its id alone proves nothing, since
//! the kernel reuses ids. A cold start never replaces a file that is not a pidfile, and no process
//! removes a file that another process wrote.

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

/// More than the longest number and its line end, in bytes.
const LONGEST_CONTENT: usize = 16;

/// Most attempts to claim the file while other processes replace it. Each time one of them has won.
const ATTEMPTS: u32 = 64;

/// The pidfile that this process has written. Dropping this removes it, if the path still names
/// that file and the file names this process.
#[derive(Debug)]
pub struct PidFile {
    place: Place,
    /// Open and locked for as long as this process owns the path.
    file: File,
    ownership: Ownership,
}

#[derive(Debug, PartialEq, Eq)]
enum Ownership {
    Ours,
    Released,
}

/// Why the pidfile could not be written.
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
    /// Whether the system refused, so that the path itself may be right.
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

/// Checks that the pidfile could be written, by writing and removing one under a temporary name.
/// The file at the path stays unchanged, whichever process holds it.
///
/// # Errors
///
/// If it could not be written, or would replace a file that is not a pidfile.
pub fn check(path: &Path) -> Result<(), Error> {
    let prove = |place: Place| {
        place.existing()?;
        place.draft()?;
        Ok(())
    };
    Place::of(path).and_then(prove).map_err(|problem| Error { path: path.to_owned(), problem })
}

impl PidFile {
    /// Writes it on a cold start. It replaces the file of a dead process, and logs that.
    ///
    /// # Errors
    ///
    /// If a live process holds it, the path names a file that is not a pidfile, or the system
    /// refuses.
    pub fn claim(path: &Path) -> Result<Self, Error> {
        Place::of(path).and_then(Place::claim).map_err(|problem| Error { path: path.to_owned(), problem })
    }

    /// Replaces the file of a predecessor, whether that still holds it or is gone.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn take_over(path: &Path) -> Result<Self, Error> {
        let replace = |place: Place| {
            let draft = place.draft()?;
            fs::rename(&draft.name.0, &place.path)?;
            Ok(draft.publish(place))
        };
        Place::of(path).and_then(replace).map_err(|problem| Error { path: path.to_owned(), problem })
    }

    /// Gives the file to the user that this process becomes, so that later generations may replace
    /// it.
    ///
    /// # Errors
    ///
    /// If the system does not allow it.
    pub fn give_to(&self, owner: Owner) -> Result<(), Error> {
        let given = fchown(&self.file, owner.user, owner.group);
        given.map_err(|error| Error { path: self.place.path.clone(), problem: error.into() })
    }

    /// Leaves the file for a successor to replace: releases the lock and does not remove it.
    pub fn release(mut self) {
        self.ownership = Ownership::Released;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Between these checks and the removal no other host replaces the file: it would need the
        // lock, or this process to release it.
        let ours = self.ownership == Ownership::Ours
            && self.place.names(&self.file)
            && content(&self.file).is_ok_and(|holder| holder == Holder::this_process());
        if ours && let Err(error) = fs::remove_file(&self.place.path) {
            warn!(path = %self.place.path.display(), %error, "pidfile removal failed");
        }
    }
}

/// The path of the pidfile, and its temporary path.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    directory: PathBuf,
    /// In the same directory. Each attempt of a process uses the same name, so a killed process
    /// leaves one file at most. The next process with that id replaces it.
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

    /// The pidfile at the path, if there is one.
    fn existing(&self) -> Result<Option<(File, Holder)>, Problem> {
        let absent_is_none = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => Err(error.into()),
        };
        // Opening a device or a pipe could have effects, so its kind is checked first; and again on
        // the opened file.
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
                // link(2), unlike rename(2), fails if another process was faster.
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
                // Another process that finds it stale waits for this lock, and then sees that the
                // path names another file.
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

    /// The complete file under its temporary name, already locked.
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
        // Whatever the umask is: every user may read the id.
        draft.file.set_permissions(Permissions::from_mode(0o644))?;
        writeln!(draft.file, "{}", process::id())?;
        Ok(draft)
    }
}

/// A pidfile under its temporary name.
struct Draft {
    file: File,
    name: Temporary,
}

impl Draft {
    /// The pidfile, once it has its final name.
    fn publish(self, place: Place) -> PidFile {
        PidFile { place, file: self.file, ownership: Ownership::Ours }
    }
}

/// A path that is removed on drop; after a rename it is already gone.
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

/// The process that a pidfile names.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// The file is empty. Files of other programs are for an instant, or forever after a crash.
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
        // `parse` alone would accept a sign.
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
