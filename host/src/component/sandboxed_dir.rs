//! Opens files beneath a directory, without leaving it and without blocking. Opening a named pipe
//! would block until its other end is opened. So pipes, sockets and devices are rejected, and the
//! open itself does not block, in case one replaces a file at the last moment.

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Timestamps, fstat, fstatfs, openat2,
        statat, utimensat,
    },
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

/// How often to retry. The kernel gives up on a path with `..` if a rename happens at the same
/// time.
const ATTEMPTS: usize = 16;

/// How to open a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenRequest {
    pub(crate) follow: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) append: bool,
}

impl OpenRequest {
    /// Whether it can change anything, by the open itself or through the descriptor.
    pub(crate) fn writes(self) -> bool {
        self.create || self.truncate || self.write
    }

    /// Whether the descriptor can be read. The default if nothing is asked for.
    pub(crate) fn reads(self) -> bool {
        self.read || !self.write
    }

    fn flags(self) -> OFlags {
        let mut flags = match (self.reads(), self.writes()) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        flags.set(OFlags::NOFOLLOW, !self.follow);
        flags.set(OFlags::CREATE, self.create);
        flags.set(OFlags::EXCL, self.create && self.exclusive);
        flags.set(OFlags::TRUNC, self.truncate);
        flags.set(OFlags::DIRECTORY, self.directory);
        flags.set(OFlags::APPEND, self.append);
        // The open does not wait for the other end of a pipe, and a terminal does not become the
        // controlling one.
        flags | OFlags::NONBLOCK | OFlags::NOCTTY
    }
}

/// Checks that the system supports this, and permits it to this process.
///
/// # Errors
///
/// If it does not.
pub(super) fn supported(dir: &File) -> io::Result<()> {
    resolve(dir, ".", OFlags::PATH).map(drop)
}

/// Opens a regular file or a directory.
///
/// # Errors
///
/// Any error of `open(2)`; "not permitted" if the path leads out of the directory, or to anything
/// other than a file or a directory.
pub(crate) fn open(dir: &File, path: &str, request: OpenRequest) -> io::Result<(File, FileType)> {
    let mut look = OFlags::PATH;
    look.set(OFlags::NOFOLLOW, !request.follow);
    match resolve(dir, path, look) {
        // A link that must not be followed fails here, with the right error.
        Ok(found) => match file_type(&found)? {
            FileType::RegularFile | FileType::Directory | FileType::Symlink => {}
            _ => return Err(Errno::PERM.into()),
        },
        Err(error) if request.create && Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    let opened = resolve(dir, path, request.flags())?;
    match file_type(&opened)? {
        found @ (FileType::RegularFile | FileType::Directory) if !is_of_processes(&opened) => {
            Ok((opened.into(), found))
        }
        _ => Err(Errno::PERM.into()),
    }
}

/// Whether it belongs to procfs, where files show environment, memory and descriptors of this
/// process.
pub(super) fn is_of_processes(opened: impl AsFd) -> bool {
    fstatfs(opened).is_ok_and(|system| system.f_type == PROC_SUPER_MAGIC)
}

/// Sets the times of a file without opening it.
///
/// # Errors
///
/// Any error of `utimensat(2)`.
pub(crate) fn set_times(dir: &File, path: &str, follow: bool, times: &Timestamps) -> io::Result<()> {
    let mut look = OFlags::PATH;
    look.set(OFlags::NOFOLLOW, !follow);
    Ok(utimensat(resolve(dir, path, look)?, "", times, AtFlags::EMPTY_PATH)?)
}

/// A name in a directory, and the kind of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FileType,
    pub(crate) inode: u64,
}

/// The names in a directory, without `.` and `..`; `None` if there are more than `most`.
///
/// # Errors
///
/// Any error of `getdents(2)`.
pub(crate) fn list(dir: &File, most: usize) -> io::Result<Option<Vec<Name>>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if entries.len() == most {
            return Ok(None);
        }
        let mut kind = entry.file_type();
        // Some file systems do not report the kind. If the file is gone by now, the entry stays as
        // it was found.
        if kind == FileType::Unknown
            && let Ok(found) = statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
        {
            kind = FileType::from_raw_mode(found.st_mode);
        }
        entries.push(Name { name: name.to_owned(), kind, inode: entry.ino() });
    }
    Ok(Some(entries))
}

fn file_type(found: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(found)?.st_mode))
}

/// Opens a path beneath a directory with these flags. "Not permitted" if the path leads out of it.
pub(crate) fn resolve(dir: &File, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    for _ in 0..ATTEMPTS {
        match openat2(dir, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The path leads out of the directory.
            Err(Errno::XDEV) => return Err(Errno::PERM.into()),
            answer => return Ok(answer?),
        }
    }
    Err(Errno::INTR.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    const READ: OpenRequest = OpenRequest {
        follow: true,
        create: false,
        exclusive: false,
        truncate: false,
        directory: false,
        read: true,
        write: false,
        append: false,
    };

    fn refused(dir: &File, path: &str, request: OpenRequest) -> Errno {
        Errno::from_io_error(&open(dir, path, request).unwrap_err()).unwrap()
    }

    #[test]
    fn a_path_out_of_the_directory_is_rejected() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir_all(inner.join("deep")).unwrap();
        fs::write(outer.path().join("secret"), "").unwrap();
        fs::write(inner.join("file"), "").unwrap();
        symlink("../secret", inner.join("out")).unwrap();
        symlink(outer.path().join("secret"), inner.join("absolute")).unwrap();
        symlink("../file", inner.join("deep/in")).unwrap();
        symlink("/proc/self/root/etc", inner.join("magic")).unwrap();
        let dir = File::open(&inner).unwrap();
        assert_eq!(open(&dir, "file", READ).unwrap().1, FileType::RegularFile);
        assert_eq!(open(&dir, "deep/../file", READ).unwrap().1, FileType::RegularFile);
        assert_eq!(open(&dir, "deep/in", READ).unwrap().1, FileType::RegularFile);
        assert_eq!(open(&dir, ".", READ).unwrap().1, FileType::Directory);
        for path in ["../secret", "deep/../../secret", "/etc/passwd", "out", "absolute", "magic/passwd", "..", "/"] {
            assert_eq!(refused(&dir, path, READ), Errno::PERM, "{path}");
            let request = OpenRequest { write: true, create: true, ..READ };
            assert_eq!(refused(&dir, path, request), Errno::PERM, "{path}");
        }
        assert_eq!(refused(&dir, "out", OpenRequest { follow: false, ..READ }), Errno::LOOP);
        assert_eq!(refused(&dir, "absent", READ), Errno::NOENT);
        assert_eq!(refused(&dir, "", READ), Errno::NOENT);
    }

    #[test]
    fn opening_does_not_block() {
        let outer = tempfile::tempdir().unwrap();
        let dir = File::open(outer.path()).unwrap();
        nix::unistd::mkfifo(&outer.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(outer.path().join("socket")).unwrap();
        for request in
            [READ, OpenRequest { write: true, ..READ }, OpenRequest { write: true, read: false, create: true, ..READ }]
        {
            assert_eq!(refused(&dir, "pipe", request), Errno::PERM);
            assert_eq!(refused(&dir, "socket", request), Errno::PERM);
        }
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        set_times(&dir, "pipe", true, &Timestamps { last_access: now, last_modification: now }).unwrap();
        let root = File::open("/").unwrap();
        assert_eq!(refused(&root, "dev/null", READ), Errno::PERM);
        assert_eq!(refused(&root, "proc/self/environ", READ), Errno::PERM);
    }

    #[test]
    fn a_long_listing_is_rejected() {
        let outer = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(outer.path().join(name), "").unwrap();
        }
        let dir = File::open(outer.path()).unwrap();
        assert_eq!(list(&dir, 2).unwrap(), None);
        let mut names: Vec<_> = list(&dir, 3).unwrap().unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        assert_eq!(names, [b"a", b"b", b"c"]);
    }
}
