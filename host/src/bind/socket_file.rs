//! The file of a unix listener: made where nothing is served, known again by device and inode, removed only while it is
//! still that file.

use super::{Mode, SocketPath};
use crate::privilege::Owner;
use rustix::{
    fs::{Access, AtFlags, FileType, FlockOperation, Gid, OFlags, Uid, access, chownat, flock, fstat, lstat, open},
    io::Errno,
};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How long another process may hold the lock on the directory. Hosts hold it for less than a millisecond.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// Why there can be no listener at a path.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// Somebody listens there.
    #[error("another process listens there: stop it, or bind another path")]
    Live,
    /// It is no socket, and nobody's to remove.
    #[error("what is there is no socket, and stays: move it away, or bind another path")]
    NoSocket,
    /// It is a socket, and it cannot be told whether anyone listens.
    #[error("a socket is there, and it cannot be told whether anyone serves it ({0}): remove it, or bind another path")]
    Unknown(Errno),
    /// Another process is at work in its directory.
    #[error("another process has locked its directory for {} s: try again later, or bind a path in another one", LOCK_TIMEOUT.as_secs())]
    Locked,
    /// Its directory is missing, or is none.
    #[error("its directory {0}: create it, or bind a path in another one")]
    NoDirectory(&'static str),
    /// The system refused.
    #[error("{error}{remedy}", error = .0, remedy = remedy(.0))]
    System(io::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; its directory must be one that this user can read and write",
        io::ErrorKind::ReadOnlyFilesystem => "; bind a path that can be written, as in /run",
        // The path was free a moment ago, and only other programs heed no lock.
        io::ErrorKind::AddrInUse => "; another program has just made something there: stop it, or bind another path",
        _ => "",
    }
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for Obstacle {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// A socket's file, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: SocketPath,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Binds and listens at `path`. A dead socket that is there is replaced; anything else stays.
    ///
    /// The file gets its name from bind(2) itself, not from a rename: bind never replaces anything, so that no two processes can
    /// both believe to have the path, and the kernel keeps the name that it was given, so that a successor, the peers and
    /// ss(8) find the real path and not a temporary one. The price is a moment in which the file is there and refuses, as the
    /// dead one did; the mode is right before it accepts.
    ///
    /// # Errors
    ///
    /// Where something else is at the path, or the system refuses any step.
    pub fn bind(path: &SocketPath, mode: Option<Mode>, backlog: i32) -> Result<(OwnedFd, Self), Obstacle> {
        Self::bind_as(Type::STREAM, path, mode, backlog)
    }

    /// The same for a socket of another type.
    ///
    /// # Errors
    ///
    /// As [`Self::bind`].
    pub fn bind_as(
        kind: Type,
        path: &SocketPath,
        mode: Option<Mode>,
        backlog: i32,
    ) -> Result<(OwnedFd, Self), Obstacle> {
        let _lock = lock(parent(path))?;
        if let Some(dead) = Self::probe(path)? {
            dead.remove()?;
        }
        let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = Self::at(path)?.ok_or(Errno::NOENT)?;
        let listening = mode.map_or(Ok(()), |mode| file.set_mode(mode)).and_then(|()| socket.listen(backlog));
        if let Err(error) = listening {
            file.remove()?;
            return Err(error.into());
        }
        Ok((socket.into(), file))
    }

    /// Whether one could be bound, asked without touching what may be a live socket.
    ///
    /// # Errors
    ///
    /// Where something else is at the path, or its directory cannot be written.
    pub fn check(path: &SocketPath) -> Result<(), Obstacle> {
        let directory = parent(path);
        open_directory(directory)?;
        access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
        match Self::at(path)? {
            None if fs::symlink_metadata(path).is_ok() => Err(Obstacle::NoSocket),
            _ => Ok(()),
        }
    }

    /// The socket that is there; `None` where there is nothing, or something else.
    pub fn at(path: &SocketPath) -> io::Result<Option<Self>> {
        match lstat(path.as_ref()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
                Ok(Some(Self { path: path.clone(), device: stat.st_dev, inode: stat.st_ino }))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A socket that nobody listens on any more; `None` where there is nothing.
    fn probe(path: &SocketPath) -> Result<Option<Self>, Obstacle> {
        let Some(found) = Self::at(path)? else {
            return if fs::symlink_metadata(path).is_ok() { Err(Obstacle::NoSocket) } else { Ok(None) };
        };
        let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        let Err(error) = client.connect(&SockAddr::unix(path)?) else { return Err(Obstacle::Live) };
        match Errno::from_io_error(&error) {
            Some(Errno::CONNREFUSED) => Ok(Some(found)),
            Some(Errno::NOENT) => Ok(None),
            // Its queue is full, or it serves datagrams or packets.
            Some(Errno::AGAIN | Errno::PROTOTYPE) => Err(Obstacle::Live),
            Some(unknown) => Err(Obstacle::Unknown(unknown)),
            None => Err(error.into()),
        }
    }

    /// Lets those connect that `mode` lets, where this is still the file that it was.
    pub fn set_mode(&self, mode: Mode) -> io::Result<()> {
        if self.is_there()? { fs::set_permissions(&self.path, fs::Permissions::from_mode(mode.bits())) } else { Ok(()) }
    }

    /// Gives it to another user, where it is still the file that it was: held by a descriptor meanwhile, so that nobody can have
    /// root give away something else.
    pub fn give_to(&self, owner: Owner) -> io::Result<()> {
        let file = match open(
            self.path.as_ref(),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        let stat = fstat(&file)?;
        if (stat.st_dev, stat.st_ino) == (self.device, self.inode) {
            let (user, group) = (owner.user.map(Uid::from_raw), owner.group.map(Gid::from_raw));
            chownat(&file, "", user, group, AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }

    /// Removes it, where it is still the file that it was.
    pub fn remove(&self) -> io::Result<()> {
        if self.is_there()? { fs::remove_file(&self.path) } else { Ok(()) }
    }

    /// While a listener is open its inode cannot be given to another file.
    fn is_there(&self) -> io::Result<bool> {
        let there = Self::at(&self.path)?;
        Ok(there.is_some_and(|there| (there.device, there.inode) == (self.device, self.inode)))
    }
}

/// Keeps other hosts from the directory's sockets for as long as the result lives: of two that find the same dead socket, the
/// second must find that the first has replaced it.
fn lock(directory: &Path) -> Result<File, Obstacle> {
    let file = open_directory(directory)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::AGAIN) if Instant::now() < deadline => thread::sleep(LOCK_POLL),
            Err(Errno::AGAIN) => return Err(Obstacle::Locked),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn open_directory(directory: &Path) -> Result<File, Obstacle> {
    let open = OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECTORY).open(directory);
    open.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Obstacle::NoDirectory("does not exist"),
        io::ErrorKind::NotADirectory => Obstacle::NoDirectory("is no directory"),
        _ => Obstacle::System(error),
    })
}

fn parent(path: &SocketPath) -> &Path {
    path.as_ref().parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    fn path(directory: &tempfile::TempDir, name: &str) -> SocketPath {
        directory.path().join(name).to_str().unwrap().parse().unwrap()
    }

    #[test]
    fn a_dead_socket_is_replaced_and_everything_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let there = path(&directory, "socket");
        drop(UnixListener::bind(&there).unwrap());
        let (socket, file) = SocketFile::bind(&there, None, 1).unwrap();
        assert!(file.is_there().unwrap());
        assert!(matches!(SocketFile::bind(&there, None, 1), Err(Obstacle::Live)));
        // The probe waits in the queue, which is full now.
        assert!(matches!(SocketFile::bind(&there, None, 1), Err(Obstacle::Live)));
        assert!(matches!(SocketFile::bind(&there, None, 1), Err(Obstacle::Live)));
        drop(socket);
        SocketFile::bind(&there, None, 1).unwrap();

        let datagrams = path(&directory, "datagrams");
        let _live = UnixDatagram::bind(&datagrams).unwrap();
        assert!(matches!(SocketFile::bind(&datagrams, None, 1), Err(Obstacle::Live)));

        let (regular, link) = (path(&directory, "file"), path(&directory, "link"));
        fs::write(&regular, "kept").unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        assert!(matches!(SocketFile::bind(&regular, None, 1), Err(Obstacle::NoSocket)));
        assert!(matches!(SocketFile::bind(&link, None, 1), Err(Obstacle::NoSocket)));
        assert_eq!(fs::read(&regular).unwrap(), b"kept");
    }

    #[test]
    fn a_file_that_took_its_place_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let there = path(&directory, "socket");
        let (_ours, file) = SocketFile::bind(&there, None, 1).unwrap();
        fs::remove_file(&there).unwrap();
        file.remove().unwrap();
        let _theirs = UnixListener::bind(&there).unwrap();
        let before = fs::metadata(&there).unwrap().permissions();
        file.remove().unwrap();
        file.set_mode(Mode(0)).unwrap();
        assert_eq!(fs::metadata(&there).unwrap().permissions(), before);
    }

    #[test]
    fn of_many_that_find_a_dead_socket_one_gets_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let there = path(&directory, "socket");
        for _ in 0..20 {
            drop(UnixListener::bind(&there).unwrap());
            let claims: Vec<_> = (0..8)
                .map(|_| {
                    let there = there.clone();
                    thread::spawn(move || SocketFile::bind(&there, None, 16))
                })
                .collect();
            let claims: Vec<_> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
            assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1, "{claims:?}");
            assert!(claims.iter().all(|claim| matches!(claim, Ok(_) | Err(Obstacle::Live))), "{claims:?}");
            fs::remove_file(&there).unwrap();
        }
    }

    #[test]
    fn a_lock_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let _held = lock(directory.path()).unwrap();
        assert!(matches!(SocketFile::bind(&path(&directory, "socket"), None, 1), Err(Obstacle::Locked)));
    }
}
