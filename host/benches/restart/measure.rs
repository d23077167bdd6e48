//! The parts that all measurements share: compiled plugins, services, and one list of failures.

pub(crate) mod longest;
pub(crate) mod restarts;
pub(crate) mod signals;
pub(crate) mod succession;

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::load::Outcome;
use crate::median::median;
use crate::options::{Options, Transport};
pub(crate) use crate::section::Section;
use crate::section::milliseconds;
use crate::service::{Logged, Service, Setup};

/// One run.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    cache: tempfile::TempDir,
    failures: RefCell<Vec<String>>,
}

impl<'a> Bench<'a> {
    /// Compiles each plugin, so that no measured start has to.
    pub(crate) fn prepare(options: &'a Options) -> anyhow::Result<Self> {
        ensure!(options.host.is_file(), "--host {}: no such file", options.host.display());
        ensure!(options.plugin.is_file(), "--plugin {}: build it with `plugins/build hello`", options.plugin.display());
        let cache = tempfile::tempdir().context("make a folder for compiled plugins")?;
        let bench = Self { options, cache, failures: RefCell::default() };
        for plugin in bench.plugins() {
            ensure!(plugin.is_file(), "{}: no such file", plugin.display());
            eprintln!("compiling {}", plugin.display());
            let service = bench.start(plugin, Transport::Tcp, Logged::Service)?;
            bench.note(service.stop()?);
        }
        Ok(bench)
    }

    /// The plugins for the measurement of the succession.
    fn plugins(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.options.plugin), self.options.large_plugin.as_ref()].into_iter().flatten().map(AsRef::as_ref)
    }

    /// Each transport with each number of clients.
    fn combinations(&self) -> impl Iterator<Item = (Transport, usize)> {
        let clients = &self.options.clients;
        self.options.transport.iter().flat_map(|&transport| clients.iter().map(move |&clients| (transport, clients)))
    }

    fn start(&self, plugin: &Path, transport: Transport, logged: Logged) -> anyhow::Result<Service> {
        Service::start(Setup { host: &self.options.host, plugin, cache: self.cache.path(), transport, logged })
    }

    /// A failure does not end the run, so that the report is complete; the run fails at its end.
    fn note(&self, failures: Vec<String>) {
        self.failures.borrow_mut().extend(failures);
    }

    fn note_outcome(&self, outcome: &Outcome) {
        self.note(outcome.failures.clone());
    }

    /// The failures so far.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.borrow().clone()
    }
}

/// The median and the highest, of seconds, as milliseconds.
fn median_and_highest(seconds: &[f64]) -> [String; 2] {
    let highest = seconds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [milliseconds(median(seconds.iter().copied())), milliseconds(highest)]
}
