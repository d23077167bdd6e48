//! A host that is restarted and reloaded. Its answers show from the outside which generation
//! serves.
//!
//! The plugin's file is exchanged before each signal. So the first answer that only the new plugin
//! gives is the first one of the successor, or of the reloaded host, whatever else is written or
//! logged.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::load::hello::QUESTION;
use crate::process::wait_for;
use crate::servers::Server;

/// The longest that a restart may take, and the end of a generation.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two questions: short beside the measured times.
const PAUSE: Duration = Duration::from_micros(200);

/// Two plugins that answer the same question with another first byte.
pub(crate) struct Pair {
    pub(crate) hello: PathBuf,
    pub(crate) echo: PathBuf,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Hello,
    Echo,
}

impl Which {
    /// How its answer begins.
    fn first_byte(self) -> u8 {
        match self {
            Self::Hello => b'H',
            Self::Echo => QUESTION[0],
        }
    }
}

/// A running host and its successors. Dropping it kills them.
pub(crate) struct Generations {
    /// The first one; `None` once it has ended.
    first: Option<Server>,
    address: SocketAddr,
    pair: Pair,
    plugin: PathBuf,
    pidfile: PathBuf,
    /// All but the first, in their order.
    successors: Vec<Pid>,
}

impl Generations {
    /// Makes the folder's link to the plugin with which the first generation is to start. Returns
    /// its path, and that of the pidfile to be.
    pub(crate) fn files(folder: &Path, pair: &Pair) -> anyhow::Result<(PathBuf, PathBuf)> {
        let plugin = folder.join("plugin.wasm");
        exchange(&plugin, &pair.hello)?;
        Ok((plugin, folder.join("pid")))
    }

    /// Of a host that was started with these files.
    pub(crate) fn of(first: Server, pair: Pair, (plugin, pidfile): (PathBuf, PathBuf)) -> anyhow::Result<Self> {
        let address = first.address();
        let generations = Self { first: Some(first), address, pair, plugin, pidfile, successors: Vec::new() };
        // It names its process when it serves.
        generations.await_answer(Which::Hello)?;
        Ok(generations)
    }

    /// Where they all listen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long it takes from the signal to the first answer of the other plugin.
    pub(crate) fn turn_to(&mut self, which: Which, signal: Signal) -> anyhow::Result<Duration> {
        let path = match which {
            Which::Hello => &self.pair.hello,
            Which::Echo => &self.pair.echo,
        };
        exchange(&self.plugin, path)?;
        let current = self.current()?;
        let start = Instant::now();
        kill(current, signal).with_context(|| format!("send {signal} to {current}"))?;
        self.await_answer(which)?;
        let elapsed = start.elapsed();
        if signal == Signal::SIGUSR1 {
            let named = || Ok(Some(self.current()?).filter(|pid| *pid != current));
            let successor = wait_for("the pidfile to name the successor", PATIENCE, named)?;
            self.successors.push(successor);
        }
        Ok(elapsed)
    }

    /// Waits until only the last one serves. Call it when all connections of earlier generations
    /// are over.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        let Some((last, earlier)) = self.successors.split_last() else { return Ok(()) };
        if let Some(first) = self.first.take() {
            first.succeeded().context("wait for the first generation to end")?;
        }
        earlier.iter().try_for_each(|pid| ended(*pid))?;
        self.successors = vec![*last];
        Ok(())
    }

    /// Ends the last one as an operator would; all have to have ended well.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.settle()?;
        match (self.first.take(), self.successors.pop()) {
            (Some(first), _) => first.stop(),
            (None, Some(last)) => {
                kill(last, Signal::SIGTERM)?;
                ended(last)
            }
            (None, None) => Ok(()),
        }
    }

    fn current(&self) -> anyhow::Result<Pid> {
        let text = fs::read_to_string(&self.pidfile).with_context(|| format!("read {}", self.pidfile.display()))?;
        let pid = text.trim().parse().with_context(|| format!("{} holds {text:?}", self.pidfile.display()))?;
        Ok(Pid::from_raw(pid))
    }

    fn await_answer(&self, which: Which) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.ask()? != which.first_byte() {
            ensure!(Instant::now() < deadline, "no answer by {which:?} within {PATIENCE:?}");
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The first byte of an answer. A restart rejects no connection, so every question gets one.
    fn ask(&self) -> anyhow::Result<u8> {
        let mut connection = TcpStream::connect_timeout(&self.address, PATIENCE).context("connect while restarting")?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(QUESTION)?;
        let mut first = [0];
        connection.read_exact(&mut first).context("read an answer while restarting")?;
        Ok(first[0])
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        // These were not reaped yet, so their numbers still belong to them.
        for pid in &self.successors {
            kill(*pid, Signal::SIGKILL).ok();
        }
    }
}

/// Puts another file in the plugin's place, in one step as an operator should.
fn exchange(plugin: &Path, by: &Path) -> anyhow::Result<()> {
    let draft = plugin.with_extension("draft");
    fs::remove_file(&draft).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    symlink(by, &draft).with_context(|| format!("link {}", draft.display()))?;
    fs::rename(&draft, plugin).with_context(|| format!("put {} in its place", plugin.display()))
}

/// Waits until a successor has ended, well. It is left to this process when its predecessor has
/// ended.
fn ended(pid: Pid) -> anyhow::Result<()> {
    let status =
        wait_for(&format!("generation {pid} to end"), PATIENCE, || match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) if Path::new(&format!("/proc/{pid}")).exists() => Ok(None),
            // Its predecessor was still there, and has waited for it.
            Err(Errno::ECHILD) => Ok(Some(WaitStatus::Exited(pid, 0))),
            Ok(WaitStatus::StillAlive) => Ok(None),
            Ok(status) => Ok(Some(status)),
            Err(error) => Err(error.into()),
        })?;
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => bail!("a generation ended badly: {status:?}"),
    }
}
