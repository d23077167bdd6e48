//! The processes of a service: this process's child and all descendants. The benchmark signals and
//! reaps only these.

use std::collections::HashMap;
use std::fs;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

/// Makes this process the parent of descendants whose own parents have ended.
pub(crate) fn adopt_orphans() -> anyhow::Result<()> {
    set_child_subreaper(true).context("become the parent of orphaned processes")
}

/// Descendants of this process.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) alive: Vec<Pid>,
    /// Ended, and not waited for by their parent.
    pub(crate) zombies: Vec<Pid>,
}

impl Family {
    /// All that exist now.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let mut children: HashMap<Pid, Vec<(Pid, bool)>> = HashMap::new();
        for entry in fs::read_dir("/proc").context("read /proc")? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw);
            // A process that has ended meanwhile is no longer part of it.
            if let Some(pid) = pid
                && let Some((parent, is_zombie)) = parent(pid)
            {
                children.entry(parent).or_default().push((pid, is_zombie));
            }
        }
        let mut family = Self::default();
        let mut parents = vec![getpid()];
        while let Some(parent) = parents.pop() {
            for (pid, is_zombie) in children.remove(&parent).unwrap_or_default() {
                if is_zombie {
                    family.zombies.push(pid)
                } else {
                    family.alive.push(pid)
                }
                parents.push(pid);
            }
        }
        Ok(family)
    }
}

/// The parent of a process, and whether the process is a zombie.
fn parent(pid: Pid) -> Option<(Pid, bool)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before these fields may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_zombie = fields.next()? == "Z";
    Some((Pid::from_raw(fields.next()?.parse().ok()?), is_zombie))
}

/// Reaps ended children of this process, and returns how they ended.
pub(crate) fn reap() -> anyhow::Result<Vec<WaitStatus>> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(status) => ended.push(status),
            Err(error) => return Err(error).context("wait for children"),
        }
    }
}
