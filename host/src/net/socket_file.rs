//! The file of a unix listener: created where no process serves, recognised by device and inode,
//! and removed only while the path leads to it.

use super::{
    address::SocketPath,
    path_lock::{CLAIM_TIMEOUT, PathLock},
    uri::Mode,
};
use crate::system::privilege::Owner;
use rustix::{
    fs::{Access, AtFlags, FileType, Gid, OFlags, Stat, Uid, access, chownat, fstat, lstat, open},
    io::Errno,
    net::listen,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::PathBuf,
};
use tracing::warn;

/// Why the host cannot listen at a path.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// Another process listens there.
    #[error("another process listens there: stop it, or bind another path")]
    Live,
    /// It is not a socket, and not ours to remove.
    #[error("the path is not a socket, and the host does not replace it: move it away, or bind another path")]
    NoSocket,
    /// It is a socket, and the system does not tell whether a process listens on it.
    #[error(
        "a socket is there, and the host cannot tell whether a process serves it ({0}): remove it, or bind another path"
    )]
    Unknown(Errno),
    /// Another process is about to listen there.
    #[error(
        "another process is about to listen there, and has locked {} for {} s: retry later, or bind another path", .0.display(),
        CLAIM_TIMEOUT.as_secs()
    )]
    Claimed(PathBuf),
    /// Its directory is missing, or is not a directory.
    #[error("its directory {0}: create it, or bind a path in another one")]
    NoDirectory(&'static str),
    /// The system refused.
    #[error("{error}{remedy}", error = .0, remedy = remedy(.0))]
    System(io::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; this user must be able to write to its directory",
        io::ErrorKind::ReadOnlyFilesystem => "; bind a path that can be written, as in /run",
        // The path was free a moment ago, and only other programs ignore the lock.
        io::ErrorKind::AddrInUse => "; another program has just created something there: stop it, or bind another path",
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

/// The identity of a file, wherever its path leads now. While a listener is open, its inode is not
/// reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl From<Stat> for FileId {
    fn from(stat: Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A socket's file, recognised wherever its path leads now.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: SocketPath,
    id: FileId,
}

/// A socket that is bound to a path and does not listen yet. Other hosts cannot take the path
/// meanwhile. Dropping it removes the file.
#[derive(Debug)]
pub struct Claim {
    socket: OwnedFd,
    file: SocketFile,
    in_vain: Removal,
    /// Released last.
    lock: PathLock,
}

impl Claim {
    /// Binds a socket to `path`. Replaces a dead socket, and nothing else.
    ///
    /// bind(2) itself gives the file its name, not a rename. bind never replaces a file, so two
    /// processes cannot both believe that they have the path. The kernel also keeps the name that
    /// it was given, so that a successor, the peers and ss(8) see the real path and not a temporary
    /// one. The price is a moment in which the file is there and refuses connections, as the dead
    /// one did. Its mode is right before it accepts.
    ///
    /// # Errors
    ///
    /// If something else is at the path, or the system refuses a step.
    pub fn new(kind: Type, path: &SocketPath, mode: Option<Mode>) -> Result<Self, Obstacle> {
        let lock = PathLock::of(path)?;
        if let Some(dead) = SocketFile::probe(path)? {
            dead.remove()?;
        }
        let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile::at(path)?.ok_or(Errno::NOENT)?;
        let in_vain = Removal(Some(file.clone()));
        let claim = Self { socket: socket.into(), file, in_vain, lock };
        mode.map_or(Ok(()), |mode| claim.file.set_mode(mode))?;
        Ok(claim)
    }

    /// Gives the file to another user.
    ///
    /// # Errors
    ///
    /// If the system does not allow it.
    pub fn give_to(&self, owner: Owner) -> io::Result<()> {
        self.file.give_to(owner)
    }

    /// Listens: from now on the kernel queues connections.
    ///
    /// # Errors
    ///
    /// If the system refuses. The path is then removed.
    pub fn listen(self, backlog: i32) -> io::Result<(OwnedFd, SocketFile)> {
        let Self { socket, file, mut in_vain, lock } = self;
        listen(&socket, backlog)?;
        in_vain.0 = None;
        drop(lock);
        Ok((socket, file))
    }
}

/// Removes a file when it is dropped.
#[derive(Debug)]
struct Removal(Option<SocketFile>);

impl Drop for Removal {
    fn drop(&mut self) {
        if let Some(file) = &self.0
            && let Err(error) = file.remove()
        {
            warn!(path = %file.path, %error, "socket removal failed");
        }
    }
}

impl SocketFile {
    /// The file that a predecessor has bound at `path`, by its `id`; without an `id`, the file that
    /// is there.
    pub fn adopted(path: &SocketPath, id: Option<FileId>) -> io::Result<Option<Self>> {
        match id {
            Some(id) => Ok(Some(Self { path: path.clone(), id })),
            None => Self::at(path),
        }
    }

    /// The identity of the file, for a successor.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Whether a socket could be bound at the path. Does not connect to a live socket.
    ///
    /// # Errors
    ///
    /// If something else is at the path, or its directory cannot be written.
    pub fn check(path: &SocketPath) -> Result<(), Obstacle> {
        let directory = path.as_ref().parent().unwrap_or("/".as_ref());
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => access(directory, Access::WRITE_OK | Access::EXEC_OK)?,
            Ok(_) => return Err(Obstacle::NoDirectory("is not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Obstacle::NoDirectory("does not exist"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Obstacle::NoDirectory("is not a directory"));
            }
            Err(error) => return Err(error.into()),
        }
        match Self::at(path)? {
            None if fs::symlink_metadata(path).is_ok() => Err(Obstacle::NoSocket),
            _ => Ok(()),
        }
    }

    /// The socket at the path; `None` if there is nothing, or something else.
    pub fn at(path: &SocketPath) -> io::Result<Option<Self>> {
        match lstat(path.as_ref()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
                Ok(Some(Self { path: path.clone(), id: stat.into() }))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A socket at the path on which no process listens; `None` if there is nothing.
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

    /// Sets the mode, if the path still leads to this file.
    pub fn set_mode(&self, mode: Mode) -> io::Result<()> {
        let Some(file) = self.held()? else { return Ok(()) };
        // An O_PATH descriptor cannot be changed directly, only through its path in /proc.
        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(held, fs::Permissions::from_mode(mode.bits()))
    }

    /// Gives the file to another user, if the path still leads to it.
    pub fn give_to(&self, owner: Owner) -> io::Result<()> {
        let Some(file) = self.held()? else { return Ok(()) };
        let (user, group) = (owner.user.map(Uid::from_raw), owner.group.map(Gid::from_raw));
        Ok(chownat(&file, "", user, group, AtFlags::EMPTY_PATH)?)
    }

    /// Opens the file, so that later steps act on it wherever its path leads: in a directory that
    /// other users can write, they must not make root change another file. `None` if the path
    /// already leads elsewhere.
    fn held(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open(self.path.as_ref(), flags, rustix::fs::Mode::empty()) {
            Ok(file) => Ok(Some(file).filter(|file| fstat(file).is_ok_and(|found| FileId::from(found) == self.id))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the file, if the path still leads to it.
    pub fn remove(&self) -> io::Result<()> {
        if self.is_there()? { fs::remove_file(&self.path) } else { Ok(()) }
    }

    /// Whether the path still leads to the file.
    pub fn is_there(&self) -> io::Result<bool> {
        Ok(Self::at(&self.path)?.is_some_and(|there| there.id == self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FlockOperation, flock};
    use std::{
        fs::File,
        os::unix::net::{UnixDatagram, UnixListener, UnixStream},
        thread,
    };

    fn bind(path: &SocketPath) -> Result<(OwnedFd, SocketFile), Obstacle> {
        Ok(Claim::new(Type::STREAM, path, None)?.listen(1)?)
    }

    fn path(directory: &tempfile::TempDir, name: &str) -> SocketPath {
        directory.path().join(name).to_str().unwrap().parse().unwrap()
    }

    #[test]
    fn a_dead_socket_is_replaced_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let there = path(&directory, "socket");
        drop(UnixListener::bind(&there).unwrap());
        let (socket, file) = bind(&there).unwrap();
        assert!(file.is_there().unwrap());
        assert!(matches!(bind(&there), Err(Obstacle::Live)));
        // The probe waits in the queue, which is now full.
        assert!(matches!(bind(&there), Err(Obstacle::Live)));
        assert!(matches!(bind(&there), Err(Obstacle::Live)));
        drop(socket);
        bind(&there).unwrap();

        let datagrams = path(&directory, "datagrams");
        let _live = UnixDatagram::bind(&datagrams).unwrap();
        assert!(matches!(bind(&datagrams), Err(Obstacle::Live)));

        let (regular, link) = (path(&directory, "file"), path(&directory, "link"));
        fs::write(&regular, "kept").unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        assert!(matches!(bind(&regular), Err(Obstacle::NoSocket)));
        assert!(matches!(bind(&link), Err(Obstacle::NoSocket)));
        assert_eq!(fs::read(&regular).unwrap(), b"kept");
    }

    #[test]
    fn a_file_that_replaced_the_socket_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let there = path(&directory, "socket");
        let (_ours, file) = bind(&there).unwrap();
        fs::remove_file(&there).unwrap();
        file.remove().unwrap();
        let _theirs = UnixListener::bind(&there).unwrap();
        let before = fs::metadata(&there).unwrap().permissions();
        file.remove().unwrap();
        file.set_mode(Mode(0)).unwrap();
        assert_eq!(fs::metadata(&there).unwrap().permissions(), before);
    }

    #[test]
    fn one_of_many_hosts_that_find_a_dead_socket_gets_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let there = path(&directory, "socket");
        for _ in 0..20 {
            drop(UnixListener::bind(&there).unwrap());
            let claims: Vec<_> = (0..8)
                .map(|_| {
                    let there = there.clone();
                    thread::spawn(move || bind(&there))
                })
                .collect();
            let claims: Vec<_> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
            assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1, "{claims:?}");
            assert!(claims.iter().all(|claim| matches!(claim, Ok(_) | Err(Obstacle::Live))), "{claims:?}");
            fs::remove_file(&there).unwrap();
        }
    }

    #[test]
    fn a_claimed_path_refuses_connections_and_other_binds() {
        let directory = tempfile::tempdir().unwrap();
        let there = path(&directory, "socket");
        let claim = Claim::new(Type::STREAM, &there, None).unwrap();
        assert_eq!(UnixStream::connect(&there).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(matches!(Claim::new(Type::STREAM, &there, None), Err(Obstacle::Claimed(_))));
        drop(claim);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "the file is removed");
        bind(&there).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the lock is removed");
    }

    /// Regression: a user who could read the directory could keep hosts from binding there.
    #[test]
    fn a_lock_on_the_directory_does_not_block_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let locked = File::open(directory.path()).unwrap();
        flock(&locked, FlockOperation::LockExclusive).unwrap();
        bind(&path(&directory, "socket")).unwrap();
    }

    #[test]
    fn the_lock_of_a_killed_process_is_reused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".socket.lock"), "").unwrap();
        bind(&path(&directory, "socket")).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
