//! Which files the next generation can reopen. It is checked after this process has changed to
//! `--user`, since the successor runs as that user.

use super::pidfile;
use crate::{
    admin,
    config::{self, Config},
    net::{Bind, SocketPath},
};
use nix::unistd::{AccessFlags, eaccess};
use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file that this user cannot open and root could.
#[derive(Debug)]
pub enum ReopenProblem {
    /// A hot restart will fail.
    Restart(String),
    /// A hot restart will fail: this program does not exist, or this user cannot execute it.
    Program(PathBuf, io::Error),
    /// The file stays behind when the host stops.
    LeftBehind(SocketPath, io::Error),
}

impl fmt::Display for ReopenProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart(what) => write!(f, "a hot restart will fail: this user cannot open {what}"),
            Self::Program(path, error) => write!(
                f,
                "a hot restart will fail: {} cannot be executed ({error}); put the program there, or correct --start-command",
                path.display()
            ),
            Self::LeftBehind(path, error) => {
                write!(
                    f,
                    "unix://{path} will be left behind when this host stops: its directory cannot be written ({error})"
                )
            }
        }
    }
}

/// All files with such a problem.
pub fn problems(config: &Config) -> Vec<ReopenProblem> {
    let start = &config.handoff.start;
    let needed = [
        ("--config", config.file(), config.file().map_or(Ok(()), readable)),
        ("--log-file", config.log.file.as_deref(), config.log.file.as_deref().map_or(Ok(()), append)),
        ("the working directory", Some(&*start.directory), accessible(&start.directory, AccessFlags::X_OK)),
        ("the program", Some(&*start.program), accessible(&start.program, AccessFlags::X_OK)),
    ];
    let files = config
        .listeners
        .iter()
        .flat_map(config::Listener::files)
        .map(|(option, path)| (option, Some(path), readable(path)));
    let refused = needed.into_iter().chain(files).filter_map(|(option, path, opened)| {
        Some(ReopenProblem::Restart(format!("{option} {}: {}", path?.display(), opened.err()?)))
    });
    let pidfile = config.pidfile.as_deref().and_then(|path| pidfile::check(path).err());
    let binds =
        config.listeners.iter().map(|listener| &listener.bind).chain(config.admin.iter().map(admin::Address::bind));
    let paths = binds.filter_map(|bind| match bind {
        Bind::Unix(path, _) => Some(path),
        Bind::Tcp(_) | Bind::Systemd(_) => None,
    });
    let left_behind = paths.chain(&config.handoff.socket).filter_map(|path| {
        let directory = path.as_ref().parent().unwrap_or(Path::new("/"));
        Some(ReopenProblem::LeftBehind(path.clone(), accessible(directory, AccessFlags::W_OK).err()?))
    });
    refused.chain(pidfile.map(|error| ReopenProblem::Restart(error.to_string()))).chain(left_behind).collect()
}

/// Whether the program that starts a successor is missing. Later it may be there: this is not an
/// error.
pub fn program(config: &Config) -> Option<ReopenProblem> {
    let path = &config.handoff.start.program;
    let executable = accessible(path, AccessFlags::X_OK).and_then(|()| match path.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(()),
    });
    Some(ReopenProblem::Program(path.clone(), executable.err()?))
}

fn readable(path: &Path) -> io::Result<()> {
    File::open(path).map(drop)
}

fn accessible(path: &Path, how: AccessFlags) -> io::Result<()> {
    Ok(eaccess(path, how)?)
}

/// Does not block on a pipe without a reader.
fn append(path: &Path) -> io::Result<()> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    OpenOptions::new().append(true).custom_flags(flags).open(path).map(drop)
}
