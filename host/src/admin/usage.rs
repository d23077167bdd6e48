//! The resources that the process uses, under the names that Prometheus exporters share.

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::TimeValLike,
};
use std::fs;

/// `None` if the system does not provide the value.
#[derive(Debug)]
pub(super) struct Usage {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_descriptors: Option<usize>,
    pub(super) most_descriptors: Option<u64>,
}

impl Usage {
    pub(super) fn this() -> Self {
        let used = getrusage(UsageWho::RUSAGE_SELF).ok();
        let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
        let status = fs::read_to_string("/proc/self/status").ok();
        let resident = status.as_deref().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        });
        Self {
            cpu_seconds: used.map(|used| seconds(used.user_time()) + seconds(used.system_time())),
            resident_bytes: resident.map(|kib| kib * 1024),
            // One of them is the descriptor that lists the others.
            open_descriptors: fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1)),
            most_descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _hard)| soft),
        }
    }
}
