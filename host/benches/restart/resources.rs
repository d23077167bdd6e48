//! The resources of a service, as the kernel counts them.

use std::fs;
use std::path::Path;

use anyhow::Context;
use nix::unistd::Pid;

use crate::family::Family;

/// The resources of a service at rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resources {
    pub(crate) descriptors: usize,
    /// VmRSS, in KiB.
    pub(crate) resident: u64,
    pub(crate) mappings: usize,
    pub(crate) processes: usize,
    pub(crate) zombies: usize,
    /// In the service's folder.
    pub(crate) files: usize,
}

impl Resources {
    /// Of the serving process, its family and its folder, now.
    pub(crate) fn of(process: Pid, folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            fs::read_to_string(&path).with_context(|| format!("read {path}"))
        };
        let status = read("status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let family = Family::now()?;
        Ok(Self {
            descriptors: entries(Path::new(&format!("/proc/{process}/fd")))?,
            resident: resident.and_then(|kibibytes| kibibytes.parse().ok()).context("no VmRSS in its status")?,
            mappings: read("maps")?.lines().count(),
            processes: family.alive.len(),
            zombies: family.zombies.len(),
            files: files(folder)?,
        })
    }
}

fn entries(folder: &Path) -> anyhow::Result<usize> {
    Ok(fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?.count())
}

/// Everything but folders, at any depth.
fn files(folder: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
