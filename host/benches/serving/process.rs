//! A child process that writes lines to its standard output, and that leaves nothing behind.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How much of a failed process's log is shown.
const LOG_LINES: usize = 20;

/// A running child. Dropping it kills it.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    /// Its standard output, line by line; disconnected when it has exited.
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`. Its standard error goes to the file `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let (sender, lines) = sync_channel(16);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name, child, lines, log })
    }

    pub(crate) fn pid(&self) -> Pid {
        // The kernel's ids are positive `i32`; std has them as `u32`.
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The next line of its output.
    pub(crate) fn line(&self, within: Duration) -> anyhow::Result<String> {
        self.lines.recv_timeout(within).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.failure(&format!("said nothing for {within:?}")),
            RecvTimeoutError::Disconnected => self.failure("ended too early"),
        })
    }

    /// Gives it a line to read.
    pub(crate) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.child.stdin.as_mut().context("standard input is a pipe")?;
        writeln!(stdin, "{line}").with_context(|| format!("tell {} to {line}", self.name))
    }

    /// Waits until it ends by itself, without another line.
    pub(crate) fn finish(mut self, within: Duration) -> anyhow::Result<()> {
        let status = self.end(within)?;
        if status.success() { Ok(()) } else { Err(self.failure(&status.to_string())) }
    }

    /// The same for a process with successors, which keep its standard output open.
    pub(crate) fn succeeded(mut self, within: Duration) -> anyhow::Result<()> {
        let child = &mut self.child;
        let status = wait_for("a predecessor to end", within, || Ok(child.try_wait()?));
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failure(&status.to_string())),
            Err(error) => Err(self.failure(&format!("{error:#}"))),
        }
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn terminate(mut self, within: Duration) -> anyhow::Result<()> {
        kill(self.pid(), Signal::SIGTERM).with_context(|| format!("terminate {}", self.name))?;
        let status = self.end(within)?;
        if status.success() { Ok(()) } else { Err(self.failure(&format!("after SIGTERM: {status}"))) }
    }

    fn end(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        match self.lines.recv_timeout(within) {
            Err(RecvTimeoutError::Disconnected) => Ok(self.child.wait()?),
            Err(RecvTimeoutError::Timeout) => Err(self.failure(&format!("still runs after {within:?}"))),
            Ok(line) => Err(self.failure(&format!("unexpectedly said {line:?}"))),
        }
    }

    /// An error with the end of the log.
    pub(crate) fn failure(&self, what: &str) -> anyhow::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        anyhow!("the {} process {what}; the end of its log:\n  {tail}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only after it has ended and was reaped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Makes this process end with the one that started it, so that an interrupted benchmark leaves
/// nothing behind.
pub(crate) fn end_with_parent() -> anyhow::Result<()> {
    Ok(set_pdeathsig(Signal::SIGKILL)?)
}

/// Allows this process, and those that it starts, as many descriptors as the system lets it have.
pub(crate) fn raise_descriptor_limit() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// How many descriptors a process may have.
pub(crate) fn descriptor_limit() -> anyhow::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// How many memory mappings a process may have.
pub(crate) fn mapping_limit() -> anyhow::Result<usize> {
    const PATH: &str = "/proc/sys/vm/max_map_count";
    let text = fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    text.trim().parse().with_context(|| format!("{PATH} is {text:?}"))
}

/// Polls until `condition` has a value.
pub(crate) fn wait_for<T>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = condition()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {within:?} in vain for {what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A folder for logs and caches, empty at the start.
pub(crate) fn work_folder() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serving-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}
