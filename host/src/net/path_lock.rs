//! The lock that a host holds on a path while it starts to listen there: a file beside the socket.

use super::{
    address::SocketPath,
    socket_file::{FileId, Obstacle},
};
use rustix::{
    fs::{FlockOperation, OFlags, flock, fstat, lstat},
    io::Errno,
};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tracing::warn;

/// How long another process may hold the lock. On a cold start it takes less than a millisecond, in
/// a restart as long as two messages may.
pub(super) const CLAIM_TIMEOUT: Duration = Duration::from_secs(2);
const CLAIM_POLL: Duration = Duration::from_millis(10);

/// Keeps other hosts from a path while it lives: of two that find the same dead socket, the second
/// must find that the first has replaced it.
///
/// The lock is a file beside the socket that only its owner can open. So a process can hold it only
/// if it could also take the path itself. Dropping the lock removes the file; a file that a killed
/// process left behind is reused.
#[derive(Debug)]
pub(super) struct PathLock {
    file: File,
    path: PathBuf,
}

impl PathLock {
    /// Takes the lock, for the life of the result.
    ///
    /// # Errors
    ///
    /// If another process holds it for too long, or the directory cannot be written.
    pub(super) fn of(socket: &SocketPath) -> Result<Self, Obstacle> {
        let path = socket.as_ref();
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".lock");
        let path = path.with_file_name(name);
        let deadline = Instant::now() + CLAIM_TIMEOUT;
        loop {
            let file = open_lock(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The previous holder may have removed the file since it was opened here.
                Ok(()) if leads_to(&path, &file) => return Ok(Self { file, path }),
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => thread::sleep(CLAIM_POLL),
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                return Err(Obstacle::Claimed(path));
            }
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        if leads_to(&self.path, &self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!(path = %self.path.display(), %error, "socket lock removal failed");
        }
    }
}

fn leads_to(path: &Path, file: &File) -> bool {
    let ids = (fstat(file).map(FileId::from), lstat(path).map(FileId::from));
    matches!(ids, (Ok(ours), Ok(there)) if ours == there)
}

fn open_lock(path: &Path) -> Result<File, Obstacle> {
    // Does not follow or wait for a file that another user has put there.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Obstacle::NoDirectory("does not exist"),
        io::ErrorKind::NotADirectory => Obstacle::NoDirectory("is not a directory"),
        _ => Obstacle::System(error),
    })
}
