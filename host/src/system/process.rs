//! The process on the other side, held so that its end is seen and that no other process is ever taken for it.

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

/// A process that lives, or has lived.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Holds the process with this number, which must have been seen alive just now.
    ///
    /// # Errors
    ///
    /// Where it is gone, or cannot be seen from here.
    pub fn hold(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { pid, pidfd: kernel::watched(pidfd_open(number, PidfdFlags::empty())?)? })
    }

    /// One that another process held.
    ///
    /// # Errors
    ///
    /// Where the descriptor is not that process's, or the reactor cannot watch it.
    pub fn held(pid: i32, pidfd: OwnedFd) -> io::Result<Self> {
        // Of a process that is gone the kernel says -1, and of one in a pid namespace that cannot be seen 0.
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

    /// Waits until it has ended. May be dropped and called again.
    pub async fn ended(&self) {
        // A pidfd turns readable when its process ends, and stays so.
        match self.pidfd.readable().await {
            Ok(mut ready) => ready.retain_ready(),
            Err(_shutting_down) => std::future::pending().await,
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut ended, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Whether this process may signal it.
    pub fn can_be_signalled(&self) -> bool {
        signal::kill(unistd::Pid::from_raw(self.pid), None).is_ok()
    }

    /// Sends it HUP, where it can be signalled.
    pub fn hang_up(&self) {
        if let Err(error) = pidfd_send_signal(self, Signal::HUP) {
            debug!(process = self.pid, %error, "an earlier generation could not be signalled");
        }
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// Where it has ended, or belongs to somebody else.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(self, Signal::KILL)?)
    }
}

impl AsFd for Process {
    /// The pidfd, to be handed on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }
}
