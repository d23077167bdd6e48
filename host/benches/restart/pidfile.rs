//! The pidfile as its readers see it, each of whom may come at any moment.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use nix::unistd::Pid;

/// A pidfile that is read again and again.
pub(crate) struct PidFile {
    path: PathBuf,
    reads: u64,
}

impl PidFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, reads: 0 }
    }

    /// Whom it names. That it is missing, empty or not whole is an error at every read.
    pub(crate) fn read(&mut self) -> anyhow::Result<Pid> {
        let content = fs::read_to_string(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        self.reads += 1;
        let number = content.strip_suffix('\n').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let pid = number.and_then(|number| number.parse().ok()).filter(|pid| *pid > 1);
        ensure!(
            pid.is_some(),
            "read {}: it holds {content:?}, which is no process id and a line end",
            self.path.display()
        );
        Ok(Pid::from_raw(pid.unwrap_or_default()))
    }

    /// How often it was read, and was whole.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }
}
