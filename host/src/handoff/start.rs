//! Starting a successor: a process that inherits one end of the channel.

use super::starter;
use crate::system::process::Process;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
};
use std::{
    ffi::OsString,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            net::UnixStream as StdUnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    sync::OnceLock,
    time::Duration,
};
use tokio::{net::UnixStream, time};

/// The variable that tells a successor the descriptor of its channel.
pub const CHANNEL_VARIABLE: &str = "UNINTERRUPTIBLE_HANDOFF_FD";

/// Variables that were meant for this process alone and that a child must not inherit.
const NOT_INHERITED: [&str; 5] = [CHANNEL_VARIABLE, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How long a killed process may take to die. One that the kernel cannot end yet is reaped when it
/// has.
const DEATH: Duration = Duration::from_secs(5);

/// How long the starter may take to start the program, which is the first thing that it does.
const START: Duration = Duration::from_secs(5);

/// This very program, whatever file its path names by now.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The command that starts a successor.
#[derive(Clone, Debug)]
pub struct StartCommand {
    /// The program. Its path is resolved at each start, symbolic links included.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its working directory, resolved in the same way.
    pub directory: PathBuf,
}

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory does not exist.
    #[error("the working directory {directory} cannot be entered: {source}")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The program does not exist or cannot be executed.
    #[error("{program} cannot be executed: {source}{}", remedy(source))]
    Program {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// This program cannot be executed again as a starter.
    #[error("{}, which this process runs, cannot be executed again: {source}{}", this_program(), remedy(source))]
    Starter {
        /// The cause.
        source: io::Error,
    },
    /// The system refused descriptors or processes.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
}

/// The path of this program. Once it is removed, the system appends that to the path.
fn this_program() -> String {
    let path = std::fs::read_link(THIS_PROGRAM).unwrap_or_else(|_unknown| THIS_PROGRAM.into());
    path.to_string_lossy().trim_end_matches(" (deleted)").to_owned()
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; make it executable for this user (chmod +x), on a file system that is not mounted noexec"
        }
        io::ErrorKind::NotFound => "; put the program there, or give --start-command another one at the next start",
        _ if error.raw_os_error() == Some(Errno::ENOEXEC as i32) => {
            "; it is not an executable for this machine: check that the file is complete and built for this processor"
        }
        _ => "",
    }
}

/// A process in its own group, started by a `starter`, which keeps its process id from being
/// reused.
#[derive(Debug)]
pub struct Successor {
    pid: i32,
    starter: Child,
    /// The starter's process.
    process: Process,
    /// The channel to the starter; closing it lets the starter exit.
    line: Option<UnixStream>,
    /// The exit status of the successor, as far as the starter could tell.
    ended: OnceLock<Option<ExitStatus>>,
}

impl Successor {
    /// Starts it with the far end of the channel.
    ///
    /// # Errors
    ///
    /// If it cannot be executed.
    pub fn start(command: &StartCommand, far: OwnedFd) -> Result<Self, Error> {
        let StartCommand { program, arguments, directory } = command;
        // The same error reports a missing directory and a missing program.
        std::fs::metadata(directory).map_err(|source| Error::Directory { directory: directory.clone(), source })?;
        let (mut line, its_line) = StdUnixStream::pair()?;
        line.set_read_timeout(Some(START))?;
        // This program starts no other process, so nothing else can inherit the descriptors in
        // between.
        for inherited in [far.as_fd(), its_line.as_fd()] {
            fcntl(inherited, FcntlArg::F_SETFD(FdFlag::empty())).map_err(io::Error::from)?;
        }
        let mut start = Command::new(THIS_PROGRAM);
        start.arg0(starter::NAME).arg(its_line.as_raw_fd().to_string()).arg(program).args(arguments);
        start.current_dir(directory).process_group(0);
        // Without clearing the whole environment. That would make the standard library fork, with
        // all mappings of the guests.
        for variable in NOT_INHERITED {
            start.env_remove(variable);
        }
        start.env(CHANNEL_VARIABLE, far.as_raw_fd().to_string());
        let mut starter = start.spawn().map_err(|source| Error::Starter { source })?;
        drop((far, its_line));
        let begun = || {
            let mut answer = [0; 4];
            line.read_exact(&mut answer)?;
            line.set_nonblocking(true)?;
            let process = i32::try_from(starter.id()).map_err(io::Error::other).and_then(Process::hold)?;
            Ok::<_, io::Error>((i32::from_le_bytes(answer), process, UnixStream::from_std(line)?))
        };
        let refused = match begun() {
            Ok((pid, process, line)) if pid > 0 => {
                return Ok(Self { pid, starter, process, line: Some(line), ended: OnceLock::new() });
            }
            Ok((refusal, ..)) => {
                Error::Program { program: program.clone(), source: io::Error::from_raw_os_error(-refusal) }
            }
            Err(source) => Error::Starter { source },
        };
        drop(starter.kill());
        drop(starter.wait());
        Err(refused)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until it has ended, or its end cannot be seen any more. May be dropped and called
    /// again.
    pub async fn ended(&self) {
        let Some(line) = &self.line else { return };
        while self.ended.get().is_none() {
            // It fails only if the runtime ends.
            if line.readable().await.is_err() {
                return std::future::pending().await;
            }
            let mut status = [0; 4];
            match line.try_read(&mut status) {
                Ok(4) => drop(self.ended.set(Some(ExitStatus::from_raw(i32::from_le_bytes(status))))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => drop(self.ended.set(None)),
            }
        }
    }

    /// Whether it has ended with a failure.
    pub fn has_failed(&self) -> bool {
        self.ended.get().is_some_and(|status| status.is_some_and(|status| !status.success()))
    }

    /// Lets the starter exit. A live successor becomes the child of the service manager or anchor,
    /// and its end is no longer seen here.
    pub async fn let_go(&mut self) {
        self.line = None;
        if time::timeout(DEATH, self.process.ended()).await.is_ok() {
            drop(self.starter.try_wait());
        }
    }

    /// Has its process group killed. It is reaped only after that, so that the id stays its own.
    async fn kill(&self) {
        let Some(line) = &self.line else { return };
        while line.writable().await.is_ok() {
            match line.try_write(&[starter::KILL]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Gives it time to exit, then kills the rest of its group, and reaps it.
    pub async fn end(mut self, grace: Duration) -> Option<ExitStatus> {
        drop(time::timeout(grace, self.ended()).await);
        let ended = async {
            self.kill().await;
            self.ended().await;
            self.process.ended().await;
        };
        if time::timeout(DEATH, ended).await.is_ok() {
            drop(self.starter.try_wait());
            return self.ended.get().copied().flatten();
        }
        tokio::spawn(async move {
            self.process.ended().await;
            drop(self.starter.try_wait());
        });
        None
    }
}
