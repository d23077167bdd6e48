//! How each part is measured: servers take turns, and only one of them is busy at a time.

pub(crate) mod alternatives;
pub(crate) mod claim;
pub(crate) mod echo;
pub(crate) mod handshakes;
pub(crate) mod hello;
pub(crate) mod languages;
pub(crate) mod memory;
pub(crate) mod plugins;
mod series;
pub(crate) mod start;
pub(crate) mod succession;
pub(crate) mod syscalls;

use std::cell::{Cell, RefCell};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;

use crate::aims::{Aim, Bound};
use crate::cores::Cores;
use crate::load::outcome::Outcome;
use crate::options::{Options, Work};
use crate::plot::Plot;
use crate::process::{Process, descriptor_limit, mapping_limit, work_folder};
pub(crate) use crate::report::Section;
use crate::resources::CpuTime;
use crate::servers::{Launch, Server, plugin, private_folder};

/// Room beyond the clients' open connections: the server counts a finished one a little longer than
/// its client.
const SPARE_CONNECTIONS: usize = 128;
/// Mappings that the host keeps for each possible guest of WASI 0.3, even without a guest.
const MAPPINGS_OF_A_ROOM: usize = 4;
/// Mappings of a process beside those.
const SPARE_MAPPINGS: usize = 2000;
/// Descriptors of a process beside its connections.
const SPARE_DESCRIPTORS: usize = 80;

/// Which server does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The native server that a person would write first.
    Lean,
    /// The native server that does all that the host does. All others are compared with it.
    Native,
    /// The host, with the plugin on WASI 0.2.
    Host,
    /// The host, with the same plugin on WASI 0.3.
    HostAsync,
}

impl Side {
    /// Those of most tables, in the order in which they take turns.
    pub(crate) const USUAL: [Self; 3] = [Self::Native, Self::Host, Self::HostAsync];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lean => "lean native",
            Self::Native => "native",
            Self::Host => "host, 0.2",
            Self::HostAsync => "host, 0.3",
        }
    }
}

/// One of the servers that take turns.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) server: Server,
}

/// The state that all parts share.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    cores: Cell<Cores>,
    folder: PathBuf,
    started: Cell<u32>,
    failures: RefCell<Vec<String>>,
    aims: RefCell<Vec<Aim>>,
    plots: RefCell<Vec<Plot>>,
}

impl<'a> Bench<'a> {
    pub(crate) fn prepare(options: &'a Options) -> anyhow::Result<Self> {
        ensure!(options.host.is_file(), "--host {}: no such file", options.host.display());
        Ok(Self {
            options,
            cores: Cell::new(Cores::shared()?),
            folder: work_folder()?,
            started: Cell::new(0),
            failures: RefCell::default(),
            aims: RefCell::default(),
            plots: RefCell::default(),
        })
    }

    /// Measures with the cores divided in this way.
    pub(crate) fn with_cores<T>(&self, cores: Cores, measure: impl FnOnce() -> T) -> T {
        let before = self.cores.replace(cores);
        let measured = measure();
        self.cores.set(before);
        measured
    }

    /// Starts a server.
    fn start(&self, launch: Launch) -> anyhow::Result<Server> {
        Server::start(launch, &self.cores.get(), self.log())
    }

    /// How to start one side for `work`, with room for `connections` open ones.
    fn launch(&self, side: Side, work: Work, connections: usize) -> anyhow::Result<Launch> {
        let name = match side {
            Side::Lean => return Launch::lean(self.workers()),
            Side::Native => return Launch::native(self.workers(), work, connections + SPARE_CONNECTIONS),
            Side::Host => work.name().to_owned(),
            Side::HostAsync => format!("{}-async", work.name()),
        };
        Ok(self.host(connections)?.plugin(&plugin(&name)?, 1))
    }

    /// How to start the host with something else, with room for `connections` open ones.
    fn host(&self, connections: usize) -> anyhow::Result<Launch> {
        let most = (connections + SPARE_CONNECTIONS).to_string();
        let launch = self.host_with_defaults()?.option("--max-connections", most);
        Ok(launch.option("--workers", self.workers().to_string()))
    }

    /// How to start the host as it is without `--max-connections`.
    fn host_with_defaults(&self) -> anyhow::Result<Launch> {
        Ok(Launch::host(&self.options.host, &self.cache("cache")?))
    }

    /// As many threads serve in each server as it has cores.
    fn workers(&self) -> usize {
        self.cores.get().of_server()
    }

    /// Starts these sides for `work`.
    fn start_all(&self, sides: &[Side], work: Work, connections: usize) -> anyhow::Result<Vec<Contestant>> {
        let start = |side| self.start(self.launch(side, work, connections)?);
        sides.iter().map(|&side| Ok(Contestant { name: side.name().to_owned(), server: start(side)? })).collect()
    }

    fn cache(&self, name: &str) -> anyhow::Result<PathBuf> {
        private_folder(&self.folder, name)
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts clients: this program as `load`, with arguments as they would be typed.
    fn start_load(&self, arguments: &str) -> anyhow::Result<Process> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("load").args(arguments.split(' '));
        self.cores.get().as_load(|| Process::start("load", &mut command, self.log()))?
    }

    /// Runs clients against a server until they are done, and takes the time that the server spends
    /// on them.
    fn run_load(&self, contestant: &Contestant, arguments: &str, within: Duration) -> anyhow::Result<Round> {
        let Contestant { name, server } = contestant;
        let before = CpuTime::of(server.pid())?;
        let load = self.start_load(arguments)?;
        let outcome: Outcome = load.line(within)?.parse()?;
        load.finish(within)?;
        self.note_failures(name, arguments, &outcome);
        Ok(Round { outcome, cpu: CpuTime::of(server.pid())?.since(before) })
    }

    /// As many of the wanted connections as the limits of descriptors and of mappings leave a
    /// server, or a load.
    fn most_connections(&self, wanted: usize) -> anyhow::Result<usize> {
        let descriptors = usize::try_from(descriptor_limit()?).unwrap_or(usize::MAX).saturating_sub(SPARE_DESCRIPTORS);
        let rooms = mapping_limit()?.saturating_sub(SPARE_MAPPINGS) / MAPPINGS_OF_A_ROOM;
        Ok(wanted.min(descriptors.min(rooms).saturating_sub(SPARE_CONNECTIONS)))
    }

    /// A failed connection does not end the run, so that the rest can be seen too; it makes the run
    /// fail at its end.
    fn note_failures(&self, server: &str, arguments: &str, outcome: &Outcome) {
        let Outcome { failures, first_failure, .. } = outcome;
        if *failures > 0 {
            let failure = format!("{server}, {arguments}: {failures} connections failed; the first: {first_failure}");
            eprintln!("{failure}");
            self.failures.borrow_mut().push(failure);
        }
    }

    /// The failures so far.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.borrow().clone()
    }

    /// Puts a figure beside what it should be.
    fn aim(&self, what: &'static str, bound: Bound, measured: f64, unit: &'static str) {
        self.aims.borrow_mut().push(Aim { what, bound, measured, unit });
    }

    pub(crate) fn take_aims(&self) -> Vec<Aim> {
        self.aims.take()
    }

    /// Adds a picture; returns the link for the text.
    fn plot(&self, plot: Plot) -> String {
        let link = plot.link();
        self.plots.borrow_mut().push(plot);
        link
    }

    pub(crate) fn take_plots(&self) -> Vec<Plot> {
        self.plots.take()
    }

    fn log(&self) -> PathBuf {
        self.started.set(self.started.get() + 1);
        self.folder.join(format!("{}.log", self.started.get()))
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // Logs and caches of a finished run are worth nothing. Leftovers are in Cargo's own folder.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// The result of one round.
struct Round {
    outcome: Outcome,
    cpu: CpuTime,
}
