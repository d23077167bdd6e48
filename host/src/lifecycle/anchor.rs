//! One process id for supervisors that need one: pid 1 of a container, tini, runit, s6,
//! supervisord.
//!
//! ```text
//!  supervisor ──signals──► anchor ──TERM, INT, HUP, USR1──► current generation ──starts──► the
//! next
//!      ▲                    │  ▲                              │
//!      └─ all but MAINPID= ─┘  └────── READY=1, MAINPID= ─────┘
//! ```
//!
//! The anchor is this program before it has any thread. It starts the first generation, keeps its
//! own process id through all restarts, and reaps every process that ends below it. It does not
//! serve, holds no listener, reads no configuration beyond its own option, and trusts only its
//! descendants. It owns one socket, on which generations report which process is current.

mod notification;

use self::notification::Notification;
use super::notify::Notifier;
use crate::{
    config::{ANCHORED_VARIABLE, Launch},
    net,
    system::{kernel, signals},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, bind, setsockopt, socket, sockopt},
};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, geteuid, getpid, pidfd_open,
    pidfd_send_signal, set_child_subreaper, wait, waitid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{ffi::OsStringExt, net::UnixDatagram, process::CommandExt},
    },
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// Twice the limit that supervisors set for a notification, in bytes.
const LONGEST_NOTIFICATION: usize = 8 << 10;

/// Most descriptors that one notification may bring. A barrier has one.
const MOST_DESCRIPTORS: usize = 16;

/// Notifications that are read before signals are checked again; more than the kernel queues.
const NOTIFICATIONS_AT_ONCE: usize = 1024;

/// How long the anchor waits for another generation to report that it serves, after the current one
/// has ended. That is a successor on probation or a predecessor in its window.
const SUCCESSION_GRACE: Duration = Duration::from_secs(2);

/// Most levels of processes between the anchor and a sender. Each restart adds one until its
/// predecessor ends.
const DEEPEST: usize = 64;

/// A process that signal n killed has this plus n as exit status, as in shells.
const KILLED: u8 = 128;

/// Why the anchor could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first generation cannot be executed.
    #[error("--anchor: {} cannot be started: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system refused a socket, a handler or a pidfd.
    #[error("--anchor: cannot set up {what}: {source}; --anchor=never works without it")]
    System {
        /// The operation.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Stays until the service has ended. Returns the exit status of the generation that was current.
///
/// # Errors
///
/// If the first generation cannot be started.
pub fn run(launch: &Launch, mut handlers: signals::Handlers) -> Result<ExitCode, Error> {
    handlers.watch_children().map_err(refused("a signal handler"))?;
    set_child_subreaper(Some(getpid())).map_err(refused("to let it reap orphans"))?;
    let (inbox, name) = inbox().map_err(refused("a socket"))?;
    let current = start(launch, name)?;
    net::close_passed(launch.passed);
    let supervisor = Notifier::new(launch.notify_socket.as_deref());
    let mut anchor = Anchor { inbox, supervisor, current, ended: None, older: Vec::new() };
    loop {
        anchor.wait(&handlers);
        // In this order: a process whose end shows here has sent all its notifications. It is
        // reaped if it is a child.
        anchor.note_ends();
        anchor.read_notifications();
        anchor.reap();
        if let Some(status) = anchor.outcome() {
            return Ok(status.into());
        }
        for number in handlers.caught() {
            anchor.forward(number);
        }
    }
}

fn refused<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::System { what, source: error.into() }
}

/// The socket on which generations report, at an abstract address that the kernel chooses, and its
/// name for `NOTIFY_SOCKET`.
fn inbox() -> io::Result<(UnixDatagram, OsString)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let inbox = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    // Any process may send to it; the kernel adds the credentials of the sender.
    setsockopt(&inbox, sockopt::PassCred, &true)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&inbox), &UnixAddr::new_unnamed())?;
    let inbox = UnixDatagram::from(inbox);
    let mut name = vec![b'@'];
    name.extend_from_slice(inbox.local_addr()?.as_abstract_name().unwrap_or_default());
    Ok((inbox, OsString::from_vec(name)))
}

fn start(launch: &Launch, notify_socket: OsString) -> Result<Generation, Error> {
    let mut command = Command::new(&launch.program);
    command.args(&launch.arguments);
    command.env(ANCHORED_VARIABLE, getpid().as_raw_pid().to_string()).env("NOTIFY_SOCKET", notify_socket);
    // In a process group of its own. A signal from a terminal goes to the foreground group, so it
    // arrives once, by way of the anchor.
    command.process_group(0);
    // The child starts with these signals blocked and unblocks them once it has handlers. Before
    // that they would end it.
    let held_back = signals::meaningful();
    held_back.thread_block().map_err(refused("a signal mask"))?;
    let started = command.spawn();
    held_back.thread_unblock().map_err(refused("a signal mask"))?;
    let child = started.map_err(|source| Error::Start { program: launch.program.clone(), source })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData);
    Generation::hold(pid.map_err(refused("a process id"))?).map_err(refused("a pidfd"))
}

/// Whether no descendant is left to reap: no generation and no orphan of one.
fn no_process_left() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, look).is_err()
}

struct Anchor {
    inbox: UnixDatagram,
    supervisor: Notifier,
    current: Generation,
    /// When the anchor saw the current generation end.
    ended: Option<Instant>,
    /// Generations that were current and still drain.
    older: Vec<Generation>,
}

/// A process that serves or has served, held by its pidfd so that its id cannot be reused.
struct Generation {
    pid: Pid,
    pidfd: OwnedFd,
    /// The exit status that it has announced. Only its parent learns the real one, and its parent
    /// may be an older generation.
    announced: Option<u8>,
    /// Whether the anchor has seen it end.
    gone: bool,
    status: Option<u8>,
}

impl Generation {
    fn hold(pid: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd, announced: None, gone: false, status: None })
    }

    fn signal(&self, signal: Signal) {
        // It may have ended just now.
        pidfd_send_signal(&self.pidfd, signal).ok();
    }

    /// Its exit status, once it has ended. A process that is not a child and announced no status
    /// was killed.
    fn status(&self) -> Option<u8> {
        self.status.or_else(|| self.gone.then(|| self.announced.unwrap_or(KILLED + 9)))
    }
}

impl Anchor {
    /// Waits for a signal, a notification or the end of a process.
    fn wait(&self, handlers: &signals::Handlers) {
        let mut sources =
            vec![PollFd::new(handlers.as_fd(), PollFlags::POLLIN), PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN)];
        let alive = self.older.iter().chain([&self.current]).filter(|generation| !generation.gone);
        sources.extend(alive.map(|generation| PollFd::new(generation.pidfd.as_fd(), PollFlags::POLLIN)));
        // Once the current one has ended, only the ends and notifications of older ones are left to
        // wait for.
        let patience = match self.current.status() {
            Some(_) => PollTimeout::try_from(self.succession_grace()).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        // It fails only if a signal interrupts it, which it waits for.
        poll(&mut sources, patience).ok();
    }

    fn note_ends(&mut self) {
        for generation in self.older.iter_mut().chain([&mut self.current]) {
            let mut ended = [PollFd::new(generation.pidfd.as_fd(), PollFlags::POLLIN)];
            generation.gone |= poll(&mut ended, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        }
        if self.current.gone {
            self.ended.get_or_insert_with(Instant::now);
        }
        self.older.retain(|generation| !generation.gone);
    }

    /// Reaps every child that has ended: generations, and orphans that were reparented to the
    /// anchor.
    fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.current.pid => self.current.status = Some(code(status)),
                Ok(Some(_)) => {}
                Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Forwards a signal. A stop goes to older generations as well: they drain anyway, but a second
    /// stop ends them at once.
    fn forward(&self, number: i32) {
        let (signal, older): (_, &[Generation]) = match number {
            SIGTERM => (Signal::TERM, &self.older),
            SIGINT => (Signal::INT, &self.older),
            SIGHUP => (Signal::HUP, &[]),
            SIGUSR1 => (Signal::USR1, &[]),
            _ => return,
        };
        for generation in older.iter().chain([&self.current]) {
            generation.signal(signal);
        }
    }

    /// How long the end of the current generation may not be the end of the service yet.
    fn succession_grace(&self) -> Duration {
        match (self.current.status(), self.ended) {
            // Older generations end in their own time.
            (Some(0), _) if !self.older.is_empty() => Duration::MAX,
            (Some(_), _) if no_process_left() => Duration::ZERO,
            // A live process may be a successor that has not reported yet that it serves alone.
            (Some(_), Some(ended)) => SUCCESSION_GRACE.saturating_sub(ended.elapsed()),
            _ => Duration::MAX,
        }
    }

    /// The exit status of the service once it has ended. If the current generation failed, that is
    /// as soon as no process can replace it; otherwise with the last process.
    fn outcome(&self) -> Option<u8> {
        self.current.status().filter(|_| self.succession_grace().is_zero())
    }

    /// Reads the queued notifications.
    fn read_notifications(&mut self) {
        let mut buffer = [0; LONGEST_NOTIFICATION];
        for _ in 0..NOTIFICATIONS_AT_ONCE {
            match kernel::receive(&self.inbox, &mut buffer, MOST_DESCRIPTORS) {
                Ok(packet) => {
                    // A notification that fills the buffer may have been cut.
                    let text = buffer.get(..packet.length).filter(|text| text.len() < LONGEST_NOTIFICATION);
                    let text = text.and_then(|text| str::from_utf8(text).ok()).filter(|_| !packet.lost_descriptors);
                    let sender = packet.sender.and_then(|sender| self.trusted_sender(&sender));
                    if let (Some(text), Some(sender)) = (text, sender) {
                        self.handle(sender, text, &packet.descriptors);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The queue is empty. Another error has no recipient either.
                Err(_) => return,
            }
        }
    }

    /// The process id of a sender that the anchor trusts.
    fn trusted_sender(&self, sender: &UnixCredentials) -> Option<Pid> {
        let user = geteuid();
        // Generations may have dropped root.
        let trusted = user.is_root() || sender.uid() == user.as_raw();
        let pid = Some(sender.pid()).filter(|pid| trusted && *pid > 0).and_then(Pid::from_raw)?;
        // A generation may have ended since it sent this, and then it has no parent to check.
        let known = self.older.iter().chain([&self.current]).any(|generation| generation.pid == pid);
        (known || descends_from_anchor(pid)).then_some(pid)
    }

    fn handle(&mut self, sender: Pid, text: &str, descriptors: &[OwnedFd]) {
        let said = Notification::parse(text);
        if let Some(status) = said.exit_status {
            for generation in self.older.iter_mut().chain([&mut self.current]).filter(|known| known.pid == sender) {
                generation.announced = Some(status);
            }
        }
        // A status from any other process than the current one is ignored, as a supervisor with
        // `NotifyAccess=main` does.
        let mut heeded = sender == self.current.pid;
        if let Some(main) = said.main.or_else(|| said.ready.then_some(sender)).filter(|main| *main != self.current.pid)
        {
            heeded |= self.name(main) && said.ready;
        }
        // A barrier may come from a predecessor that waits for it. If the supervisor has not taken
        // its descriptor, closing it here answers it.
        if (heeded || said.barrier) && !said.to_relay.is_empty() {
            self.supervisor.relay(said.to_relay.as_bytes(), descriptors);
        }
    }

    /// Makes another process the current generation, if it is a live descendant.
    fn name(&mut self, main: Pid) -> bool {
        let Ok(next) = Generation::hold(main) else { return false };
        // Checked after the process is held, so that its id cannot be reused in between.
        if !descends_from_anchor(main) {
            return false;
        }
        self.older.retain(|generation| generation.pid != main);
        let previous = std::mem::replace(&mut self.current, next);
        if previous.status().is_none() {
            self.older.push(previous);
        }
        self.ended = None;
        true
    }
}

fn descends_from_anchor(pid: Pid) -> bool {
    let mut above = pid.as_raw_pid();
    for _ in 0..DEEPEST {
        match parent(above) {
            Some(parent) if parent == getpid().as_raw_pid() => return true,
            Some(parent) if parent > 0 => above = parent,
            _ => return false,
        }
    }
    false
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the state and the parent come after it.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The exit status in the way of shells.
fn code(status: WaitStatus) -> u8 {
    let killed = status.terminating_signal().map(|signal| i32::from(KILLED) + signal);
    killed.or(status.exit_status()).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process;

    #[test]
    fn only_descendants_are_trusted() {
        let own = getpid();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]).stdout(process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        for (pid, expected) in [
            (grandchild, true),
            (i32::try_from(child.id()).unwrap(), true),
            (own.as_raw_pid(), false),
            (i32::try_from(std::os::unix::process::parent_id()).unwrap(), false),
            (1, false),
            (i32::MAX, false),
        ] {
            assert_eq!(descends_from_anchor(Pid::from_raw(pid).unwrap()), expected, "{pid}");
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(grandchild), nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
}
