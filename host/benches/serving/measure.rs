//! How each part is measured: native and host take turns, and only one of them is busy at a time.

pub(crate) mod echo;
pub(crate) mod handshakes;
pub(crate) mod hello;
pub(crate) mod idle;
pub(crate) mod start;

use std::cell::{Cell, RefCell};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;

use crate::cores::Cores;
use crate::encryption::Files;
use crate::load::outcome::Outcome;
use crate::options::{Options, Work};
use crate::process::{Process, work_folder};
pub(crate) use crate::report::Section;
use crate::resources::cpu_time;
use crate::servers::{Kind, Server, cache_folder, plugin};

/// More than the connections that clients have open: one that its client has finished with is counted a little longer.
const SPARE_CONNECTIONS: usize = 512;

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Native,
    Host,
}

/// A value for each of the two.
pub(crate) struct Both<T> {
    pub(crate) native: T,
    pub(crate) host: T,
}

impl<T> Both<T> {
    pub(crate) fn get(&self, side: Side) -> &T {
        match side {
            Side::Native => &self.native,
            Side::Host => &self.host,
        }
    }
}

impl<S> Both<Vec<S>> {
    /// Native, host, native, host…
    pub(crate) fn alternate(rounds: u32, mut sample: impl FnMut(Side) -> anyhow::Result<S>) -> anyhow::Result<Self> {
        let mut samples = Self { native: Vec::new(), host: Vec::new() };
        for _ in 0..rounds {
            samples.native.push(sample(Side::Native)?);
            samples.host.push(sample(Side::Host)?);
        }
        Ok(samples)
    }

    /// One figure of each sample.
    pub(crate) fn figures(&self, figure: impl Fn(&S) -> f64) -> Both<Vec<f64>> {
        Both { native: self.native.iter().map(&figure).collect(), host: self.host.iter().map(&figure).collect() }
    }
}

/// What all parts need.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    cores: Cores,
    folder: PathBuf,
    started: Cell<u32>,
    failures: RefCell<Vec<String>>,
}

impl<'a> Bench<'a> {
    pub(crate) fn prepare(options: &'a Options) -> anyhow::Result<Self> {
        ensure!(options.host.is_file(), "--host {}: no such file", options.host.display());
        let cores = if options.pin { Cores::pinned()? } else { Cores::shared()? };
        Ok(Self { options, cores, folder: work_folder()?, started: Cell::new(0), failures: RefCell::default() })
    }

    pub(crate) fn cores(&self) -> &Cores {
        &self.cores
    }

    /// Starts one server that can hold `connections` open ones.
    fn start(&self, kind: Kind<'_>, connections: usize) -> anyhow::Result<Server> {
        Server::start(kind, None, connections + SPARE_CONNECTIONS, &self.cores, self.log())
    }

    /// Starts one server for `work` over TLS.
    fn start_encrypted(&self, side: Side, work: Work, connections: usize, files: &Files) -> anyhow::Result<Server> {
        let (plugin, cache) = (plugin(work)?, self.cache("cache")?);
        let kind = match side {
            Side::Native => Kind::Native(work),
            Side::Host => self.host(&plugin, &cache),
        };
        Server::start(kind, Some(files), connections + SPARE_CONNECTIONS, &self.cores, self.log())
    }

    /// Starts both servers for `work`.
    fn start_both(&self, work: Work, connections: usize) -> anyhow::Result<Both<Server>> {
        let start = |side| self.start_side(side, work, connections);
        Ok(Both { native: start(Side::Native)?, host: start(Side::Host)? })
    }

    fn start_side(&self, side: Side, work: Work, connections: usize) -> anyhow::Result<Server> {
        match side {
            Side::Native => self.start(Kind::Native(work), connections),
            Side::Host => self.start(self.host(&plugin(work)?, &self.cache("cache")?), connections),
        }
    }

    fn host<'b>(&'b self, plugin: &'b Path, cache: &'b Path) -> Kind<'b> {
        Kind::Host { binary: &self.options.host, plugin, cache }
    }

    fn cache(&self, name: &str) -> anyhow::Result<PathBuf> {
        cache_folder(&self.folder, name)
    }

    /// Starts clients: this program as `load`, with arguments as they would be typed.
    fn start_load(&self, arguments: &str) -> anyhow::Result<Process> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("load").args(arguments.split(' '));
        self.cores.as_load(|| Process::start("load", &mut command, self.log()))?
    }

    /// Runs clients against `server` until they are done, and takes the time that the server spends on them.
    fn run_load(&self, side: Side, server: &Server, arguments: &str, within: Duration) -> anyhow::Result<Round> {
        let before = cpu_time(server.pid())?;
        let load = self.start_load(arguments)?;
        let outcome: Outcome = load.line(within)?.parse()?;
        load.finish(within)?;
        self.note_failures(side, arguments, &outcome);
        Ok(Round { outcome, server_cpu_time: cpu_time(server.pid())?.saturating_sub(before) })
    }

    /// A failed connection does not end the run, so that the rest can be seen too; it makes the run fail at its end.
    fn note_failures(&self, side: Side, arguments: &str, outcome: &Outcome) {
        let Outcome { failures, first_failure, .. } = outcome;
        if *failures > 0 {
            let failure = format!("{side:?}, {arguments}: {failures} connections failed; the first: {first_failure}");
            eprintln!("{failure}");
            self.failures.borrow_mut().push(failure);
        }
    }

    /// What has failed so far.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.borrow().clone()
    }

    fn log(&self) -> PathBuf {
        self.started.set(self.started.get() + 1);
        self.folder.join(format!("{}.log", self.started.get()))
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // Logs and caches of a finished run are worth nothing; what could not be removed lies in Cargo's own folder.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// What one round showed.
struct Round {
    outcome: Outcome,
    server_cpu_time: Duration,
}
