//! Which process may use which cores.

use anyhow::ensure;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

const THIS_THREAD: Pid = Pid::from_raw(0);

/// How the cores are divided between the server and the load.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    all: CpuSet,
    server: CpuSet,
    load: CpuSet,
}

impl Cores {
    /// Server and load both use every core that this process may use: the whole machine.
    pub(crate) fn shared() -> anyhow::Result<Self> {
        let all = sched_getaffinity(THIS_THREAD)?;
        Ok(Self { all, server: all, load: all })
    }

    /// The server has the first core for itself and the load has all others, so that the server is
    /// what saturates.
    pub(crate) fn pinned() -> anyhow::Result<Self> {
        let all = sched_getaffinity(THIS_THREAD)?;
        let usable: Vec<usize> = (0..CpuSet::count()).filter(|&core| all.is_set(core).unwrap_or(false)).collect();
        ensure!(usable.len() > 1, "this needs two cores, and this process may use {}", usable.len());
        let (mut server, mut load) = (CpuSet::new(), CpuSet::new());
        server.set(usable[0])?;
        for &core in &usable[1..] {
            load.set(core)?;
        }
        Ok(Self { all, server, load })
    }

    /// How many cores the server has.
    pub(crate) fn of_server(&self) -> usize {
        (0..CpuSet::count()).filter(|&core| self.server.is_set(core).unwrap_or(false)).count()
    }

    /// Runs `start`, which starts a server, on the server's cores.
    pub(crate) fn as_server<T>(&self, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        self.within(&self.server, start)
    }

    /// Runs `start`, which starts the load, on the load's cores.
    pub(crate) fn as_load<T>(&self, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        self.within(&self.load, start)
    }

    /// A child inherits the cores of the thread that starts it. Set from outside after its start,
    /// they would come too late for threads that it has by then, and for the number of workers that
    /// its runtime derives from them.
    fn within<T>(&self, cores: &CpuSet, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        sched_setaffinity(THIS_THREAD, cores)?;
        let outcome = start();
        sched_setaffinity(THIS_THREAD, &self.all)?;
        Ok(outcome)
    }
}
