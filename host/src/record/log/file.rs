//! The file of `--log-file`: opened for appending, written a record at a time, and reopened after a
//! rotation.

use crate::system::privilege::Owner;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

/// Not readable by every user: records contain the addresses of peers and the output of guests.
const MODE: u32 = 0o640;

/// The open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// The owner of the file if the host creates it.
    owner: Option<Owner>,
    file: File,
    /// Whether the last line is incomplete, because the disk was full.
    torn: bool,
}

/// The log file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("--log-file {}: {source}{remedy}", crate::record::secret::Shown::bare(path), remedy = remedy(source))]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Error {
    /// Whether the system refused, rather than the path being wrong.
    pub fn is_refusal_of_the_system(&self) -> bool {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
        !matches!(self.source.kind(), IsADirectory | NotADirectory | NotFound)
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; create its directory, or name another file",
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => "; name a file",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name a file that this user can write, or give this file to the user"
        }
        _ if error.raw_os_error() == Some(nix::libc::ENXIO) => {
            "; the pipe has no reader, or the path is a socket: start the reader first, or leave the option out"
        }
        _ => "",
    }
}

impl LogFile {
    /// Opens the file, and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// If it cannot be opened for writing.
    pub(super) fn open(path: &Path, owner: Option<Owner>) -> Result<Self, Error> {
        match open(path, owner) {
            Ok(file) => Ok(Self { path: path.to_owned(), owner, file, torn: false }),
            Err(source) => Err(Error { path: path.to_owned(), source }),
        }
    }

    /// Opens the file that is at the path now.
    ///
    /// # Errors
    ///
    /// If that file cannot be opened for writing. The current one then stays open.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        *self = Self::open(&self.path, self.owner)?;
        Ok(())
    }

    /// Writes one record with one call, because other processes write to the same file.
    ///
    /// # Errors
    ///
    /// If the record was not written, or not all of it.
    pub(super) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let mended: Vec<u8>;
        let line = if self.torn {
            mended = [b"\n", record].concat();
            &mended
        } else {
            record
        };
        let written = loop {
            match self.file.write(line) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        if let Some(last) = written.checked_sub(1).and_then(|last| line.get(last)) {
            self.torn = *last != b'\n';
        }
        if written == line.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

fn open(path: &Path, owner: Option<Owner>) -> io::Result<File> {
    // Opening a pipe without a reader does not block, and a terminal does not become the
    // controlling one.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.append(true).mode(MODE).custom_flags(flags);
    let file = match (owner, options.clone().create_new(true).open(path)) {
        // An existing file may belong to any user, and keeps its owner.
        (_, Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => options.create(true).open(path)?,
        (None, made) => made?,
        (Some(owner), made) => {
            let made = made?;
            fchown(&made, owner.user, owner.group)?;
            made
        }
    };
    // From here on writes may block: only the writing thread waits for them.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_incomplete_line_is_ended_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path, None).unwrap();
        log.write(b"one\n").unwrap();
        log.write(b"cut").unwrap();
        log.write(b"two\n").unwrap();
        log.write(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ncut\ntwo\nthree\n");
    }

    #[test]
    fn a_moved_file_is_created_again_and_a_failed_reopen_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let mut log = LogFile::open(&path, None).unwrap();
        log.write(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        log.write(b"two\n").unwrap();
        fs::create_dir(&path).unwrap();
        log.reopen().unwrap_err();
        log.write(b"three\n").unwrap();
        fs::remove_dir(&path).unwrap();
        log.reopen().unwrap();
        log.write(b"four\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
    }

    #[test]
    fn a_full_disk_is_reported() {
        let mut log = LogFile::open(Path::new("/dev/full"), None).unwrap();
        assert_eq!(log.write(b"one\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
