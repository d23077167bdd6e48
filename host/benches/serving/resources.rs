//! The cost of a process, as the kernel counts it under `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, anyhow};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// CPU time, as the kernel counts it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl CpuTime {
    /// Of a process so far: of all its threads, and of all children that have ended and that it has
    /// waited for. The kernel counts in ticks of mostly 10 ms.
    pub(crate) fn of(process: Pid) -> anyhow::Result<Self> {
        let path = format!("/proc/{process}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // The second field is the program's name in parentheses and may hold spaces: `utime`,
        // `stime`, `cutime` and `cstime`, fields 14 to 17, are counted from its end.
        let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: Vec<f64> =
            after_name.split_ascii_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
        let [user, system, children_user, children_system] = ticks[..] else {
            return Err(anyhow!("{path} is not as proc(5) describes it: {text:?}"));
        };
        let ticks_per_second = sysconf(SysconfVar::CLK_TCK)?.context("this system has no clock ticks")? as f64;
        let time = |ticks: f64| Duration::from_secs_f64(ticks / ticks_per_second);
        Ok(Self { user: time(user + children_user), system: time(system + children_system) })
    }

    /// The time since an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// RSS: pages of its address space that are in memory. A page that it maps twice counts twice.
    pub(crate) resident: u64,
    /// PSS: the same with each page divided by the number of its mappings, so that a page counts
    /// once.
    pub(crate) proportional: u64,
}

impl Memory {
    /// By how much it has grown.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            resident: self.resident.saturating_sub(earlier.resident),
            proportional: self.proportional.saturating_sub(earlier.proportional),
        }
    }
}

/// Memory of a process now. `smaps_rollup` walks the page tables; `status` lacks counts that CPUs
/// have not added up yet.
pub(crate) fn memory(process: Pid) -> anyhow::Result<Memory> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let bytes = |name: &str| -> anyhow::Result<u64> {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path} has no {name}"))?;
        let kibibytes: u64 =
            line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{path}: {name}{line}"))?;
        Ok(kibibytes * 1024)
    };
    Ok(Memory { resident: bytes("Rss:")?, proportional: bytes("Pss:")? })
}

/// How many descriptors a process has open: the way to see from outside how many connections it has
/// accepted.
pub(crate) fn descriptors(process: Pid) -> anyhow::Result<usize> {
    let path = format!("/proc/{process}/fd");
    Ok(fs::read_dir(&path).with_context(|| format!("read {path}"))?.count())
}
