//! A guest's standard output and error: lines in the host's log, escaped, shortened and
//! rate-limited.

use crate::{
    guest::late_start::Learner,
    record::connection_id::ConnectionId,
    record::log::{self, Limiter},
};
use bytes::Bytes;
use std::{
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use tracing::info;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi_io::{
    async_trait,
    poll::Pollable,
    streams::{OutputStream, StreamResult},
};

/// The most bytes of a line that are kept. The log has the same limit.
const LONGEST_LINE: usize = 4 << 10;

/// Rust's text before the place of a panic.
const PANICKED: &[u8] = b"panicked at ";

/// Lines that a guest may log at once, and each second after that.
const BURST: u32 = 50;
const RATE: u32 = 10;

/// The output of one guest on both of its streams.
#[derive(Debug)]
pub(in crate::guest) struct GuestLog {
    plugin: Arc<str>,
    connection: ConnectionId,
    /// The rate limit of this guest; the plugin's guests share another one.
    own: Limiter,
    shared: Arc<Limiter>,
}

impl GuestLog {
    pub(in crate::guest) fn new(plugin: &Arc<str>, connection: ConnectionId, shared: &Arc<Limiter>) -> Arc<Self> {
        Arc::new(Self {
            plugin: Arc::clone(plugin),
            connection,
            own: Limiter::new(BURST, RATE),
            shared: Arc::clone(shared),
        })
    }

    fn log_line(&self, stream: &'static str, line: &[u8]) {
        let Some(suppressed) = self.own.pass() else { return };
        let Some(suppressed_of_others) = self.shared.pass() else { return };
        let line = log::escaped(&String::from_utf8_lossy(line));
        let suppressed = log::counted(suppressed + suppressed_of_others);
        info!(plugin = %self.plugin, connection = %self.connection, stream, suppressed, "guest: {line}");
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        let suppressed = self.own.suppressed();
        if suppressed > 0 && self.shared.pass().is_some() {
            info!(plugin = %self.plugin, connection = %self.connection, suppressed, "guest output suppressed");
        }
    }
}

/// One of the two streams. All handles of a guest to it share its current line.
#[derive(Clone, Debug)]
pub(in crate::guest) struct Lines {
    stream: &'static str,
    guest_log: Arc<GuestLog>,
    learner: Learner,
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    kept: Vec<u8>,
    last: LastOutput,
}

/// The last output: of a panic its message, otherwise one line.
#[derive(Clone, Debug, Default)]
struct LastOutput {
    text: Vec<u8>,
    panic: Panic,
}

/// Whether the last output is a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Panic {
    #[default]
    None,
    /// Its message may continue.
    Begun,
    Complete,
}

impl LastOutput {
    /// The most bytes that are kept.
    const LONGEST: usize = 1 << 10;

    fn observe(&mut self, line: &[u8]) {
        // Rust prints the place first; Go and others print the message first.
        let rust = line.windows(PANICKED.len()).position(|window| window == PANICKED);
        let panic =
            rust.or_else(|| [&b"panic: "[..], b"fatal error: "].iter().any(|word| line.starts_with(word)).then_some(0));
        let text = match (panic, self.panic) {
            (Some(start), _) => {
                self.text.clear();
                self.panic = Panic::Begun;
                line.get(start..).unwrap_or(line)
            }
            (None, Panic::Begun) if !line.trim_ascii().is_empty() && !line.starts_with(b"note: ") => {
                self.text.push(b' ');
                line
            }
            (None, Panic::Begun) => {
                self.panic = Panic::Complete;
                return;
            }
            // The hint about RUST_BACKTRACE is of no use in a log.
            (None, Panic::None) if !line.trim_ascii().is_empty() && !line.starts_with(b"note: ") => {
                self.text.clear();
                line
            }
            (None, _) => return,
        };
        let room = Self::LONGEST.saturating_sub(self.text.len());
        self.text.extend_from_slice(text.get(..room).unwrap_or(text));
    }
}

impl Lines {
    pub(in crate::guest) fn new(stream: &'static str, guest_log: &Arc<GuestLog>, learner: &Learner) -> Self {
        Self { stream, guest_log: Arc::clone(guest_log), learner: learner.clone(), line: Arc::default() }
    }

    /// The last output, whether or not its line has ended.
    pub(in crate::guest) fn last_output(&self) -> Option<String> {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = line.last.clone();
        last.observe(&line.kept);
        let text = String::from_utf8_lossy(last.text.trim_ascii()).into_owned();
        match last.panic {
            _ if text.is_empty() => None,
            Panic::None => Some(format!("its last output: {text}")),
            Panic::Begun | Panic::Complete => Some(text),
        }
    }

    pub(in crate::guest) fn write(&self, bytes: &[u8]) {
        self.learner.observable();
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = LONGEST_LINE.saturating_sub(line.kept.len());
            line.kept.extend_from_slice(text.get(..room).unwrap_or(text));
            if complete {
                let text = mem::take(&mut line.kept);
                line.last.observe(&text);
                self.guest_log.log_line(self.stream, &text);
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // The last handle logs an unfinished line. Other handles may still write to it before that.
        if Arc::strong_count(&self.line) == 1 {
            let rest = mem::take(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner).kept);
            if !rest.is_empty() {
                self.guest_log.log_line(self.stream, &rest);
            }
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Self::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_preferred_as_last_output() {
        let cases: [(&[&str], &str); 7] = [
            (&["a line", "another"], "another"),
            (
                &[
                    "",
                    "thread 'main' panicked at src/lib.rs:8:5:",
                    "on purpose",
                    "note: run with `RUST_BACKTRACE=1`",
                    "x",
                ],
                "panicked at src/lib.rs:8:5: on purpose",
            ),
            (&["panicked at a.rs:1:1:", "first", "panicked at b.rs:2:2:", "second"], "panicked at b.rs:2:2: second"),
            (&["panic: boom", "", "goroutine 1 [running]:"], "panic: boom"),
            (
                &["memory allocation of 9 bytes failed", "note: run with `RUST_BACKTRACE=1`"],
                "memory allocation of 9 bytes failed",
            ),
            (&["Traceback (most recent call last):", "ValueError: 5", ""], "ValueError: 5"),
            (&[], ""),
        ];
        for (lines, expected) in cases {
            let mut last = LastOutput::default();
            lines.iter().for_each(|line| last.observe(line.as_bytes()));
            assert_eq!(String::from_utf8_lossy(&last.text), expected, "{lines:?}");
        }
        let mut last = LastOutput::default();
        (0..100).for_each(|_| last.observe(b"panicked at x"));
        last.observe(&[b'x'; 5000]);
        assert!(last.text.len() <= LastOutput::LONGEST);
    }
}
