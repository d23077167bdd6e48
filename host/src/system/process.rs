//! Another process, held by a pidfd: its end is seen, and a later process with the same id is not
//! taken for it.

use super::kernel;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal,
    unistd,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};
use tokio::io::unix::AsyncFd;
use tracing::debug;

/// A process that runs, or has run.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Holds the process with this id. The caller must have seen it alive just now.
    ///
    /// # Errors
    ///
    /// If it has ended, or is not visible from here.
    pub fn hold(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { pid, pidfd: kernel::watched(pidfd_open(number, PidfdFlags::empty())?)? })
    }

    /// Holds a process by a pidfd from another process.
    ///
    /// # Errors
    ///
    /// If the descriptor is not a pidfd of that process, or the reactor does not accept it.
    pub fn held(pid: i32, pidfd: OwnedFd) -> io::Result<Self> {
        // The kernel reports -1 for a process that has ended, and 0 for one outside this pid
        // namespace.
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
        let named =
            about.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse::<i32>().ok());
        match named {
            Some(named) if named == pid || named <= 0 => Ok(Self { pid, pidfd: kernel::watched(pidfd)? }),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the process has ended. Cancel safe.
    pub async fn ended(&self) {
        // A pidfd becomes readable when its process ends, and stays readable.
        match self.pidfd.readable().await {
            Ok(mut ready) => ready.retain_ready(),
            Err(_shutting_down) => std::future::pending().await,
        }
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut ended, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Whether this process may signal it.
    pub fn can_be_signalled(&self) -> bool {
        signal::kill(unistd::Pid::from_raw(self.pid), None).is_ok()
    }

    /// Sends HUP to the process, if it can be signalled.
    pub fn hang_up(&self) {
        if let Err(error) = pidfd_send_signal(self, Signal::HUP) {
            debug!(process = self.pid, %error, "draining generation not signalled");
        }
    }

    /// Kills the process.
    ///
    /// # Errors
    ///
    /// If it has ended, or belongs to another user.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(self, Signal::KILL)?)
    }
}

impl AsFd for Process {
    /// The pidfd, for passing it on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }
}
