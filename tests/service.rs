//! A service that outlives its processes: hosts that take over from each other, until the last one
//! stops.

use crate::harness::{Host, Setup, wait_for};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::{fs, path::PathBuf};

/// A host and all its successors. When dropped, the serving process must exit with 0 on TERM.
pub struct Service {
    pub host: Host,
    faults: PathBuf,
    /// A test has waited for its end.
    over: bool,
    _directory: tempfile::TempDir,
}

/// A process of a service, as its records in the log name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    pub pid: i32,
    pub number: u64,
}

impl Service {
    /// Starts the first generation. This process becomes the parent of successors whose own parents
    /// have ended.
    pub fn start(setup: Setup) -> Self {
        prctl::set_child_subreaper(true).unwrap();
        let directory = crate::harness::directory();
        let faults = directory.path().join("faults");
        let host = setup.environment("UNINTERRUPTIBLE_FAULTS", faults.to_str().unwrap()).start();
        Self { host, faults, over: false, _directory: directory }
    }

    /// Sets the faults that processes read from here on; see host/src/handoff/fault.rs.
    pub fn inject(&self, faults: &str) {
        // In one step, since processes read the file at any time.
        let draft = self.faults.with_extension("draft");
        fs::write(&draft, faults).unwrap();
        fs::rename(draft, &self.faults).unwrap();
    }

    /// The last process that has logged that it serves, or serves again.
    pub fn current(&self) -> Generation {
        let log = self.host.log();
        let says_so =
            |line: &&str| ["restart settled", "serving again", "serving alone"].iter().any(|word| line.contains(word));
        match log.lines().rev().find(says_so) {
            Some(line) => generation(line),
            None => Generation { pid: self.host.pid(), number: 1 },
        }
    }

    /// No process serves any more, as the test has seen: nothing is left to stop.
    pub fn abandon(mut self) {
        self.over = true;
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.current().pid), signal).unwrap();
    }

    /// Sends USR1, and waits until the successor is the service.
    pub fn restart(&self) -> Generation {
        let before = self.current();
        self.signal(Signal::SIGUSR1);
        wait_for("a successor that is the service", || {
            let now = self.current();
            (now.number == before.number + 1).then_some(now)
        })
    }

    /// Sends USR1, and waits until the restart has failed. Returns the record with the reason.
    pub fn restart_that_fails(&self) -> String {
        let failures = |log: &str| {
            log.lines().filter(|line| line.contains("restart failed")).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = failures(&self.host.log()).len();
        self.signal(Signal::SIGUSR1);
        wait_for("a restart that fails", || failures(&self.host.log()).get(before).cloned())
    }

    /// Waits for the end of the first generation and of a successor, after a stop: both exit with
    /// 0.
    pub fn ends(mut self, successor: i32) {
        self.over = true;
        assert_eq!(self.host.exit_code(), 0, "the first generation's end; it said:\n{}", self.host.log());
        assert_eq!(exit_code(successor), Some(0), "the successor's end; it said:\n{}", self.host.log());
    }

    /// Stops the serving process, after the first generation has ended. It must exit with 0.
    pub fn stops(mut self) {
        self.over = true;
        let current = self.current().pid;
        kill(Pid::from_raw(current), Signal::SIGTERM).unwrap();
        assert_eq!(exit_code(current), Some(0), "the service's end; it said:\n{}", self.host.log());
    }

    /// Ends a service whose last successor is still watched: the predecessor forwards the stop to
    /// it.
    pub fn forgo_window(mut self) {
        const SERVES: &str = "serving, predecessor watching";
        self.over = true;
        let served = |line: &&str| line.contains(SERVES);
        // The client of the command gets its answer without waiting for the log.
        self.host.logged(&[SERVES]);
        let log = self.host.log();
        let last = generation(log.lines().rev().find(served).unwrap());
        let watching = self.current().pid;
        kill(Pid::from_raw(watching), Signal::SIGTERM).unwrap();
        if watching == self.host.pid() {
            assert_eq!(self.host.exit_code(), 0, "the first generation's end; it said:\n{}", self.host.log());
        } else {
            assert_eq!(exit_code(watching), Some(0), "the predecessor's end; it said:\n{}", self.host.log());
        }
        assert_eq!(exit_code(last.pid), Some(0), "the successor's end; it said:\n{}", self.host.log());
    }
}

/// The process that wrote a record.
pub fn generation(record: &str) -> Generation {
    let named =
        record.strip_prefix('[').and_then(|rest| rest.split_once(']')).and_then(|(name, _)| name.split_once('/'));
    let (pid, number) = named.unwrap_or_else(|| panic!("no record of a host: {record}"));
    Generation { pid: pid.parse().unwrap(), number: number.parse().unwrap() }
}

/// Waits for the end of a child of this process, or of an orphan that it inherits, and returns the
/// exit code.
pub fn exit_code(pid: i32) -> Option<i32> {
    wait_for(&format!("the end of process {pid}"), || {
        match waitpid(Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Some(Some(code)),
            Ok(WaitStatus::Signaled(..)) => Some(None),
            // Its parent still lives.
            Ok(_) | Err(Errno::ECHILD) if fs::exists(format!("/proc/{pid}")).unwrap() => None,
            // Its parent has reaped it.
            _ => Some(Some(0)),
        }
    })
}

impl Drop for Service {
    fn drop(&mut self) {
        let current = self.current();
        if std::thread::panicking() {
            kill(Pid::from_raw(current.pid), Signal::SIGKILL).ok();
            return;
        }
        if self.over || current.pid == self.host.pid() {
            return; // The host's own end.
        }
        kill(Pid::from_raw(current.pid), Signal::SIGTERM).unwrap();
        assert_eq!(exit_code(current.pid), Some(0), "the service's end; it said:\n{}", self.host.log());
        if !self.host.has_been_awaited() {
            assert_eq!(self.host.exit_code(), 0, "the first generation's end; it said:\n{}", self.host.log());
        }
    }
}
