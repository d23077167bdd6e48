//! A directory of this machine that guests see at a path of their own. It is opened when the plugin
//! is loaded: a later change of its path has no effect until the next load.

use super::Error;
use crate::component::sandboxed_dir;
use rustix::{
    fs::{Access, AtFlags, Mode, OFlags, accessat, open},
    io::Errno,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    str::FromStr,
};
use wasmtime_wasi::{FsPerms, OpenMode, filesystem::Dir};

/// `HOST::GUEST`, or `HOST::GUEST:rw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    host: PathBuf,
    guest: String,
    access: FsPerms,
}

impl FromStr for Directory {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "is not HOST::GUEST or HOST::GUEST:rw, as in /srv/www::/www";
        let (host, guest) = text.split_once("::").ok_or(FORM)?;
        let (guest, access) = match guest.split_once(':') {
            None => (guest, FsPerms::ReadOnly),
            Some((guest, "rw")) => (guest, FsPerms::ReadWrite),
            Some(_) => {
                return Err(
                    "has an unknown word after the guest's path; write :rw for writing, or nothing for reading only",
                );
            }
        };
        if host.is_empty() {
            return Err(FORM);
        }
        let Some(below) = guest.strip_prefix('/') else {
            return Err("gives the guest a path that is not absolute; begin it with a slash, as in /srv/www::/www");
        };
        if guest != "/" && below.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("gives the guest a path that is not in its shortest form");
        }
        if text.contains('\0') {
            return Err("contains a NUL byte, which is not allowed in a path");
        }
        Ok(Self { host: host.into(), guest: guest.to_owned(), access })
    }
}

impl Directory {
    /// The path in the guest.
    pub fn guest_path(&self) -> &str {
        &self.guest
    }

    /// The path on this machine.
    pub fn host_path(&self) -> &Path {
        &self.host
    }

    /// Opens the directory that is at the path now.
    pub(super) fn open(&self) -> Result<(Dir, String), Error> {
        let refused =
            |problem: &str| Error::new("--guest-dir", format!("{}::{}", self.host.display(), self.guest), problem);
        let dir =
            open(&self.host, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|error| match error {
                Errno::NOENT => refused("the directory does not exist; create it first"),
                Errno::NOTDIR => refused("is not a directory; grant the directory that contains the file"),
                error => refused(&format!("cannot be opened: {error}")),
            })?;
        let dir = File::from(dir);
        if sandboxed_dir::is_of_processes(&dir) {
            return Err(refused("shows the system's processes, and the secrets of this one; grant another directory"));
        }
        let mode = match self.access {
            FsPerms::ReadOnly => OpenMode::READ,
            FsPerms::ReadWrite => {
                accessat(&dir, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
                    .map_err(|error| refused(&format!("this process cannot write there ({error}); leave :rw out")))?;
                OpenMode::READ | OpenMode::WRITE
            }
        };
        sandboxed_dir::supported(&dir).map_err(|error| {
            refused(&format!("the kernel cannot confine a guest to a directory (openat2 needs Linux 5.6: {error})"))
        })?;
        Ok((Dir::new(dir, self.access, mode, false), self.guest.clone()))
    }
}
