//! A service that outlives its processes, in a folder of its own.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::family::{Family, reap};
use crate::load::Address;
use crate::log::{Line, Log};
use crate::options::Transport;
use crate::patience::{PATIENCE, wait_for};
use crate::pidfile::PidFile;

/// An unoptimised compiler compiles a large plugin in this time.
const START_DEADLINE: Duration = Duration::from_secs(600);

/// The log level, by the records that a measurement needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// The events of the service.
    Service,
    /// Each connection too, with its process.
    Connections,
}

/// The service to start.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) host: &'a Path,
    pub(crate) plugin: &'a Path,
    pub(crate) cache: &'a Path,
    pub(crate) transport: Transport,
    pub(crate) logged: Logged,
}

/// A host and all its successors. Dropping it kills the remaining ones.
pub(crate) struct Service {
    folder: tempfile::TempDir,
    address: Address,
    log: Log,
    pidfile: PidFile,
    /// The serving process.
    current: Pid,
    /// The exits of processes that ended badly.
    ended_badly: RefCell<Vec<String>>,
    /// Reaped like all others, by its pid.
    _first: Child,
}

/// The times of the steps of a restart.
pub(crate) struct Restart {
    pub(crate) asked: Instant,
    /// When the pidfile first named the successor.
    pub(crate) named: Instant,
    pub(crate) successor: Pid,
}

impl Service {
    /// Starts the first generation, and returns when it listens and has written its pidfile.
    pub(crate) fn start(setup: Setup<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the service")?;
        let path = |name: &str| folder.path().join(name);
        let bind = match setup.transport {
            Transport::Tcp => "tcp://127.0.0.1:0".to_owned(),
            Transport::Unix => format!("unix://{}", path("socket").display()),
        };
        let level = match setup.logged {
            Logged::Service => "info",
            Logged::Connections => "debug",
        };
        let mut command = Command::new(setup.host);
        command.arg("--plugin").arg(setup.plugin).arg("--cache-dir").arg(setup.cache).args(["--bind", &bind]);
        command.arg("--pidfile").arg(path("pid")).args(["--rollback-window", "0s", "--log-level", level]);
        // Variables of the user's environment (options of the host, RUST_BACKTRACE) would change
        // the measurement. Signals from the terminal are for this process, which ends the others.
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut first = command.spawn().with_context(|| format!("start {}", setup.host.display()))?;
        let (log, output) = (Log::default(), Log::default());
        let pipes = first.stderr.take().zip(first.stdout.take());
        // The kernel's ids are positive `i32`; std has them as `u32`.
        let current = Pid::from_raw(first.id().cast_signed());
        let pidfile = PidFile::new(path("pid"));
        // From here on, dropping it ends the started processes.
        let mut service = Self {
            folder,
            address: Address::Unix(PathBuf::new()),
            log,
            pidfile,
            current,
            ended_badly: RefCell::default(),
            _first: first,
        };
        let (errors, lines) = pipes.context("both outputs are pipes")?;
        service.log.collect(errors);
        output.collect(lines);
        let ready = wait_for("the host to listen", START_DEADLINE, || {
            if let Some(status) = reap()?.first() {
                return Err(service.log.explain(&anyhow!("the host has ended: {status:?}")));
            }
            Ok(output.lines().first().cloned())
        })?;
        service.address = address(&ready).with_context(|| format!("where it listens: {:?}", ready.text))?;
        service.current = service.pidfile.read()?;
        Ok(service)
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn current(&self) -> Pid {
        self.current
    }

    pub(crate) fn pidfile_reads(&self) -> u64 {
        self.pidfile.reads()
    }

    /// Signals the serving process, and returns the time.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<Instant> {
        let now = Instant::now();
        kill(self.current, signal).with_context(|| format!("send {signal} to {}", self.current))?;
        Ok(now)
    }

    /// Sends USR1, and polls the pidfile until it names the successor.
    pub(crate) fn restart(&mut self) -> anyhow::Result<Restart> {
        self.log.forget();
        let asked = self.signal(Signal::SIGUSR1)?;
        let predecessor = self.current;
        let (pidfile, log) = (&mut self.pidfile, &self.log);
        let named = || Ok(Some(pidfile.read()?).filter(|pid| *pid != predecessor).map(|pid| (pid, Instant::now())));
        let what = format!("the pidfile to name the successor of {predecessor}");
        let (successor, named) = wait_for(&what, PATIENCE, named).map_err(|error| log.explain(&error))?;
        self.current = successor;
        self.reap()?;
        Ok(Restart { asked, named, successor })
    }

    /// Waits until all earlier generations have ended.
    pub(crate) fn drained(&self) -> anyhow::Result<()> {
        let alone = || {
            self.reap()?;
            let family = Family::now()?;
            Ok((family.alive == [self.current] && family.zombies.is_empty()).then_some(()))
        };
        wait_for("earlier generations to end", PATIENCE, alone).map_err(|error| self.log.explain(&error))
    }

    /// Waits until every signalled process has ended. Returns the bad exits of all generations.
    pub(crate) fn end(self) -> anyhow::Result<Vec<String>> {
        let gone = || {
            self.reap()?;
            let family = Family::now()?;
            Ok((family.alive.is_empty() && family.zombies.is_empty()).then_some(()))
        };
        wait_for("the service to end", PATIENCE, gone).map_err(|error| self.log.explain(&error))?;
        Ok(self.ended_badly.take())
    }

    /// TERM, then the same.
    pub(crate) fn stop(self) -> anyhow::Result<Vec<String>> {
        self.signal(Signal::SIGTERM)?;
        self.end()
    }

    fn reap(&self) -> anyhow::Result<()> {
        let badly = reap()?.into_iter().filter(|status| !matches!(status, WaitStatus::Exited(_, 0)));
        for status in badly {
            let failure = self.log.explain(&anyhow!("a process of the service ended badly: {status:?}"));
            eprintln!("{failure:#}");
            self.ended_badly.borrow_mut().push(format!("{failure:#}"));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A service that has ended by itself leaves nothing. Otherwise a killed process cannot
        // start a successor any more, and the next pass finds one that it was starting.
        let killed = wait_for("killed processes to end", PATIENCE, || {
            let family = Family::now()?;
            for pid in &family.alive {
                kill(*pid, Signal::SIGKILL).ok();
            }
            reap()?;
            Ok((family.alive.is_empty() && family.zombies.is_empty()).then_some(()))
        });
        if let Err(error) = killed {
            eprintln!("processes are left behind: {error:#}");
        }
    }
}

fn address(ready: &Line) -> Option<Address> {
    match ready.text.strip_prefix("listening ")?.split_once("://")? {
        ("tcp", address) => address.parse().ok().map(Address::Tcp),
        ("unix", path) => Some(Address::Unix(PathBuf::from(path))),
        _ => None,
    }
}
