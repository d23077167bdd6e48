//! The pidfile as its readers see it at any moment.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use nix::unistd::Pid;

/// A pidfile that the benchmark reads all the time.
pub(crate) struct PidFile {
    path: PathBuf,
    reads: u64,
}

impl PidFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, reads: 0 }
    }

    /// The process that it names. A missing, empty or incomplete file is an error at every read.
    pub(crate) fn read(&mut self) -> anyhow::Result<Pid> {
        let content = fs::read_to_string(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        self.reads += 1;
        let number = content.strip_suffix('\n').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let pid = number.and_then(|number| number.parse().ok()).filter(|pid| *pid > 1);
        ensure!(
            pid.is_some(),
            "read {}: it holds {content:?}, which is not a process id and a line end",
            self.path.display()
        );
        Ok(Pid::from_raw(pid.unwrap_or_default()))
    }

    /// The number of complete reads.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }
}
