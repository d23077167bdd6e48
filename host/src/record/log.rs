//! The log: one record a line, on standard error or in a file, with the process id. Logging never
//! blocks serving.
//!
//! Records pass through a bounded queue to a thread that writes them. If the reader is slow or
//! gone, or the disk is full, records are dropped and counted.

mod file;
pub(crate) mod limiter;
mod record;

pub use file::Error;
pub use limiter::{Limiter, counted};

use self::file::LogFile;
use super::generation::Generation;
use crate::system::privilege::Owner;
use std::{
    io::{self, Write},
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};
use tracing::{Level, error, info, warn};
use tracing_subscriber::{filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _};

/// Records that wait for the writer: room for a burst of ten thousand failing connections.
const QUEUE: usize = 16 << 10;

/// How long the end of the process waits for the reader of its log.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// The options of the log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The least important level that is logged.
    pub level: Verbosity,
    /// The form of a record.
    pub format: Shape,
    /// The log file, by its absolute path; `None` for standard error.
    pub file: Option<PathBuf>,
    /// The owner of the file if the host creates it.
    pub owner: Option<Owner>,
}

/// The least important level that is logged.
#[derive(Clone, Copy, Debug)]
pub struct Verbosity(Level);

impl FromStr for Verbosity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(Self(Level::ERROR)),
            "warn" => Ok(Self(Level::WARN)),
            "info" => Ok(Self(Level::INFO)),
            "debug" => Ok(Self(Level::DEBUG)),
            "trace" => Ok(Self(Level::TRACE)),
            _ => Err("is not one of error, warn, info, debug, trace"),
        }
    }
}

/// The form of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// For people.
    Text,
    /// For machines: one JSON object.
    Json,
}

impl FromStr for Shape {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is not one of text, json"),
        }
    }
}

/// Flushes the queue when it is dropped, for at most one second.
#[derive(Debug)]
pub struct Flush(Queue);

impl Drop for Flush {
    fn drop(&mut self) {
        let (written, all_written) = mpsc::sync_channel(1);
        if self.0.records.try_send(Message::Flush(written)).is_ok() {
            // Does not wait for a slower reader.
            all_written.recv_timeout(LONGEST_FLUSH).ok();
        }
    }
}

/// Checks that the file can be appended to.
///
/// # Errors
///
/// If it cannot.
pub fn check(options: &Options) -> Result<(), Error> {
    let Some(path) = &options.file else { return Ok(()) };
    let was_there = path.exists();
    LogFile::open(path, options.owner)?;
    if !was_there {
        // The process that serves creates the file with its own owner.
        std::fs::remove_file(path).ok();
    }
    Ok(())
}

/// Starts logging, for the life of the result.
///
/// # Errors
///
/// If the file cannot be opened.
pub fn start(options: &Options) -> Result<Flush, Error> {
    let sink = match &options.file {
        Some(path) => Sink::File(LogFile::open(path, options.owner)?),
        None => Sink::StandardError,
    };
    let queue = Queue::start(sink);
    drop(WRITER.set(queue.clone()));
    let own = own(options.level);
    let Verbosity(level) = options.level;
    // The level twice: as a maximum it keeps the macros from asking the filter at all.
    let text = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(queue.clone());
    // A subscriber can be in place only in a test that starts twice.
    match options.format {
        Shape::Text => {
            let text = text.event_format(record::Text::default()).finish();
            drop(tracing::subscriber::set_global_default(text.with(own)));
        }
        Shape::Json => {
            drop(tracing::subscriber::set_global_default(text.event_format(record::Json).finish().with(own)))
        }
    }
    Ok(Flush(queue))
}

/// Drops the records of libraries: they are unbounded, and may contain bytes from a peer.
fn own(Verbosity(level): Verbosity) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level)
}

/// The queue of the writing thread, for [`reopen`].
static WRITER: OnceLock<Queue> = OnceLock::new();

/// Whether the writing thread has to reopen the file.
static REOPEN: AtomicBool = AtomicBool::new(false);

/// Reopens the log file before the next record is written, after a rotation has moved the old file
/// away.
pub fn reopen() {
    REOPEN.store(true, Ordering::Relaxed);
    // If the queue is full, the thread is awake.
    if let Some(writer) = WRITER.get() {
        writer.records.try_send(Message::Wake).ok();
    }
}

/// The destination of records.
enum Sink {
    StandardError,
    File(LogFile),
}

impl Sink {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        match self {
            // A closed standard error is its reader's choice. A later record may find it open
            // again.
            Self::StandardError => io::stderr().write_all(record),
            Self::File(file) => file.write(record),
        }
    }

    fn reopen(&mut self) {
        let Self::File(file) = self else { return };
        match file.reopen() {
            Ok(()) => info!("log file reopened"),
            Err(error) => error!(%error, "log file reopen failed"),
        }
    }
}

/// The sending side of the queue to the writing thread.
#[derive(Clone, Debug)]
struct Queue {
    records: mpsc::SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Record(Vec<u8>),
    Flush(mpsc::SyncSender<()>),
    Wake,
}

impl Queue {
    fn start(mut sink: Sink) -> Self {
        let (records, queued) = mpsc::sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        let write = move || {
            // The count in the report that is on its way.
            let mut told = 0;
            for message in queued {
                if REOPEN.swap(false, Ordering::Relaxed) {
                    sink.reopen();
                }
                match message {
                    Message::Record(record) => match sink.write(&record) {
                        // Reports drops only when a record can be written again. Otherwise each
                        // report to a full disk would cause another.
                        Ok(()) => {
                            told = counted.swap(0, Ordering::Relaxed);
                            if told > 0 {
                                warn!(dropped = told, "log records dropped");
                            }
                        }
                        Err(_lost) => {
                            counted.fetch_add(1 + std::mem::take(&mut told), Ordering::Relaxed);
                        }
                    },
                    Message::Flush(written) => written.try_send(()).unwrap_or_default(),
                    Message::Wake => {}
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("log".into()).spawn(write) {
            complain(&format!("log thread cannot start, nothing is logged: {error}"));
        }
        Self { records, dropped }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Record<'a>;

    fn make_writer(&'a self) -> Record<'a> {
        Record { queue: self, bytes: Vec::new() }
    }
}

/// One record. It is queued when it is dropped, so that it is written whole.
struct Record<'a> {
    queue: &'a Queue,
    bytes: Vec<u8>,
}

impl Write for Record<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if self.queue.records.try_send(Message::Record(std::mem::take(&mut self.bytes))).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes one line to standard error, for events before and outside of logging.
pub fn complain(message: &str) {
    let line = format!("uninterruptible-host: {message}\n");
    let (written, is_written) = mpsc::sync_channel(1);
    // A closed standard error leaves only the exit code, and a full one must not keep the process
    // from ending.
    let write = move || {
        drop(io::stderr().write_all(line.as_bytes()));
        written.try_send(()).ok();
    };
    if thread::Builder::new().name("complaint".into()).spawn(write).is_ok() {
        is_written.recv_timeout(LONGEST_FLUSH).ok();
    }
}

/// The generation of this process, for each record.
static GENERATION: AtomicU64 = AtomicU64::new(Generation::FIRST.number());

/// Sets the generation that later records show.
pub fn identify(generation: Generation) {
    GENERATION.store(generation.number(), Ordering::Relaxed);
}

/// The most bytes of a guest's message that are logged.
const LONGEST_MESSAGE: usize = 4 << 10;

/// Escapes a message from a guest: one line, without control characters, at most 4 KiB.
pub fn escaped(untrusted: &str) -> String {
    let mut safe = String::new();
    for character in untrusted.trim_end().chars() {
        if safe.len() >= LONGEST_MESSAGE {
            safe.push('…');
            break;
        }
        if character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
        {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_from_a_guest_is_one_escaped_line() {
        assert_eq!(escaped("multi\nline \u{1b}[31m\u{202e}\n"), "multi\\nline \\u{1b}[31m\\u{202e}");
        assert!(escaped(&"\n".repeat(10)).is_empty());
        assert!(escaped(&"é".repeat(100_000)).len() <= LONGEST_MESSAGE + 8);
    }
}
