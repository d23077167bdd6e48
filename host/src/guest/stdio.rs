//! A guest's standard output and error: lines in the host's log, escaped, cut, and limited in rate.

use super::{facts::ConnectionId, late_start::Learner};
use crate::log::{self, Limiter};
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

/// The most of one line that is kept; the log cuts there too.
const LONGEST_LINE: usize = 4 << 10;

/// Lines a guest may say at once, and a second after that.
const BURST: u32 = 50;
const RATE: u32 = 10;

/// What one guest says on both of its streams.
#[derive(Debug)]
pub(super) struct Speech {
    plugin: Arc<str>,
    connection: ConnectionId,
    /// This guest's share, and that of all guests of the plugin.
    own: Limiter,
    shared: Arc<Limiter>,
}

impl Speech {
    pub(super) fn new(plugin: &Arc<str>, connection: ConnectionId, shared: &Arc<Limiter>) -> Arc<Self> {
        Arc::new(Self {
            plugin: Arc::clone(plugin),
            connection,
            own: Limiter::new(BURST, RATE),
            shared: Arc::clone(shared),
        })
    }

    fn say(&self, stream: &'static str, line: &[u8]) {
        let Some(suppressed) = self.own.pass() else { return };
        let Some(suppressed_of_others) = self.shared.pass() else { return };
        let line = log::escaped(&String::from_utf8_lossy(line));
        info!(plugin = %self.plugin, connection = %self.connection, stream, suppressed = suppressed + suppressed_of_others, "guest: {line}");
    }
}

impl Drop for Speech {
    fn drop(&mut self) {
        let suppressed = self.own.suppressed();
        if suppressed > 0 {
            info!(plugin = %self.plugin, connection = %self.connection, suppressed, "the guest said more than is logged");
        }
    }
}

/// One of the two streams. All that a guest opens of it share the line that is being written.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    stream: &'static str,
    speech: Arc<Speech>,
    learner: Learner,
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    kept: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: &'static str, speech: &Arc<Speech>, learner: &Learner) -> Self {
        Self { stream, speech: Arc::clone(speech), learner: learner.clone(), line: Arc::default() }
    }

    fn write(&self, bytes: &[u8]) {
        self.learner.observable();
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = LONGEST_LINE.saturating_sub(line.kept.len());
            line.kept.extend_from_slice(text.get(..room).unwrap_or(text));
            if complete {
                self.speech.say(self.stream, &mem::take(&mut line.kept));
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // The last holder says what was begun; a line that others still write to is theirs to end.
        if Arc::strong_count(&self.line) == 1 {
            let rest = mem::take(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner).kept);
            if !rest.is_empty() {
                self.speech.say(self.stream, &rest);
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
