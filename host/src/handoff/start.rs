//! Starting a successor: a child that inherits one end of the exchange.

use super::peer::Peer;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    time::Duration,
};
use tokio::time;

/// The variable that tells a successor which descriptor is its end of the channel.
pub const CHANNEL_VARIABLE: &str = "UNINTERRUPTIBLE_HANDOFF_FD";

/// What must not reach a child: what was meant for this process alone.
const NOT_INHERITED: [&str; 5] = [CHANNEL_VARIABLE, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How long a child that was killed may take to end. One that the kernel cannot end yet is reaped when it has.
const DEATH: Duration = Duration::from_secs(5);

/// How a successor is started.
#[derive(Clone, Debug)]
pub struct StartCommand {
    /// The program. Its path is followed anew at each start, symbolic links and all.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its working directory, likewise.
    pub directory: PathBuf,
}

/// It could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such directory.
    #[error("the working directory {directory} cannot be entered: {source}")]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such program, or it is none.
    #[error("{program} cannot be executed: {source}")]
    Program {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No descriptors, no processes.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
}

/// A child, in a process group of its own. It is reaped only by the methods here, so that nobody else can have its number.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    process: Peer,
}

impl Successor {
    /// Starts it with the far end of the channel.
    ///
    /// # Errors
    ///
    /// Where it cannot be executed.
    pub fn start(command: &StartCommand, far: OwnedFd) -> Result<Self, Error> {
        let StartCommand { program, arguments, directory } = command;
        // A missing directory and a missing program would be told by one and the same error.
        std::fs::metadata(directory).map_err(|source| Error::Directory { directory: directory.clone(), source })?;
        // The only process that this program ever starts, so that nothing else can inherit the descriptor in between.
        fcntl(&far, FcntlArg::F_SETFD(FdFlag::empty())).map_err(io::Error::from)?;
        let mut start = Command::new(program);
        start.args(arguments).current_dir(directory).process_group(0);
        // Without clearing it all, which would keep the standard library from spawning without a fork of all that guests map.
        for variable in NOT_INHERITED {
            start.env_remove(variable);
        }
        start.env(CHANNEL_VARIABLE, far.as_raw_fd().to_string());
        let mut child = start.spawn().map_err(|source| Error::Program { program: program.clone(), source })?;
        match i32::try_from(child.id()).map_err(io::Error::other).and_then(Peer::hold) {
            Ok(process) => Ok(Self { child, process }),
            Err(error) => {
                drop(child.kill());
                drop(child.wait());
                Err(error.into())
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Waits until it has ended. May be dropped and called again.
    pub async fn ended(&self) {
        self.process.ended().await;
    }

    /// Whether it has ended, and not well. It is not reaped.
    pub fn has_failed(&self) -> bool {
        let number = rustix::process::Pid::from_raw(self.process.pid());
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = number.and_then(|number| waitid(WaitId::Pid(number), options).ok().flatten());
        status.is_some_and(|status| status.exit_status() != Some(0))
    }

    /// Its status, once it has ended; then it is reaped.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Gives it time to end by itself, then kills whatever is left of its group, and reaps it.
    pub async fn end(mut self, grace: Duration) -> Option<ExitStatus> {
        drop(time::timeout(grace, self.process.ended()).await);
        // It is not reaped yet, so that the number is still its own.
        killpg(Pid::from_raw(self.process.pid()), Signal::SIGKILL).ok();
        if time::timeout(DEATH, self.process.ended()).await.is_ok() {
            return self.status();
        }
        tokio::spawn(async move {
            self.process.ended().await;
            self.status();
        });
        None
    }
}
