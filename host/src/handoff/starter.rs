//! The process between a predecessor and the successor that it starts.
//!
//! A service manager gives only its own children time to end. A successor therefore has to be its
//! child when it is named as the main process. When a process ends, its children are reparented to
//! the nearest subreaper: the service manager, or an anchor. So this program runs once more,
//! single-threaded, as the starter. It starts the successor, and exits when the predecessor lets it
//! go or is gone. Until then it acts as the parent: it reports the exit status of the successor,
//! and keeps its process id from being reused while its group is killed.
//!
//! ```text
//!  predecessor ◄── process id, or why there is none ── starter ── starts ──► successor
//!              ◄──────────────────── wait status ──
//!              ── KILL, or the end of the line ───►
//! ```

use crate::record::exit::Exit;
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid},
};
use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitCode},
};

/// The name (`argv[0]`) under which this program runs as the starter.
pub const NAME: &str = "uninterruptible-host: starts a successor";

/// The predecessor sends this to have the successor and its process group killed.
pub(super) const KILL: u8 = 9;

/// The program to start, and its channels.
#[derive(Debug)]
pub struct StartRequest {
    /// The channel to the predecessor.
    pub line: UnixStream,
    /// The successor's end of the handoff channel, which must not stay open here.
    pub channel: OwnedFd,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Starts a successor, and stays as long as its predecessor needs it.
pub fn run(order: StartRequest) -> ExitCode {
    // Only the predecessor could be told of an error, and it sees the channel close.
    stand_in(order).map_or_else(|_error| Exit::System, |()| Exit::Finished).into()
}

fn stand_in(StartRequest { mut line, channel, program, arguments }: StartRequest) -> io::Result<()> {
    let mut start = Command::new(program);
    start.args(arguments).process_group(0);
    nix::fcntl::fcntl(&channel, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    let started = start.spawn();
    drop(channel);
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return line.write_all(&(-error.raw_os_error().unwrap_or(Errno::EINVAL as i32)).to_le_bytes()),
    };
    let number = i32::try_from(child.id()).map_err(io::Error::other)?;
    line.write_all(&number.to_le_bytes())?;
    let process = rustix::process::Pid::from_child(&child);
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    let mut reported = false;
    loop {
        let mut sources = [PollFd::new(&line, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
        // A status that was reported is not waited for again.
        let awaited = if reported { &mut sources[..1] } else { &mut sources[..] };
        match poll(awaited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [said, ended] = sources.map(|source| !source.revents().is_empty());
        if ended && let Some(status) = status_of(process) {
            line.write_all(&status.to_le_bytes())?;
            reported = true;
        }
        if said {
            // If the predecessor closed the channel with unread data, that is an error.
            if line.read(&mut [0]).unwrap_or_default() > 0 {
                killpg(Pid::from_raw(number), Signal::SIGKILL).ok();
                let status = std::os::unix::process::ExitStatusExt::into_raw(child.wait()?);
                if !reported {
                    line.write_all(&status.to_le_bytes())?;
                }
            }
            return reap(child);
        }
    }
}

/// The wait status of a process that has ended; the process stays a zombie.
fn status_of(process: rustix::process::Pid) -> Option<i32> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(process), options).ok().flatten()?;
    status.exit_status().map(|code| (code & 0xff) << 8).or(status.terminating_signal())
}

/// A live successor becomes the child of the subreaper from here on.
fn reap(mut child: Child) -> io::Result<()> {
    child.try_wait().map(drop)
}
