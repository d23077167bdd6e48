//! Logs: one record a line on standard error or in a file, with the process id; never in the way of serving.
//!
//! Records pass through a bounded queue to a thread that writes them. Where the reader is slow or gone, or the disk full, records
//! are dropped and counted; nothing waits for it.

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
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Records that wait for the writer: a burst of ten thousand failing connections fits.
const QUEUE: usize = 16 << 10;

/// How long the end of the process waits for the reader of its log.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

/// What is logged, how and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The least important level that is logged.
    pub level: Verbosity,
    /// What a record looks like.
    pub format: Shape,
    /// The file, by its absolute path; without one, standard error.
    pub file: Option<PathBuf>,
    /// Whose it is where it is made.
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

/// What a record looks like.
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

/// Writes what is still queued when it is dropped, for at most a second.
#[derive(Debug)]
pub struct Flush(Queue);

impl Drop for Flush {
    fn drop(&mut self) {
        let (written, all_written) = mpsc::sync_channel(1);
        if self.0.records.try_send(Message::Flush(written)).is_ok() {
            // A reader that takes longer is not waited for.
            all_written.recv_timeout(LONGEST_FLUSH).ok();
        }
    }
}

/// Whether the file can be appended to.
///
/// # Errors
///
/// Where it cannot.
pub fn check(options: &Options) -> Result<(), Error> {
    let Some(path) = &options.file else { return Ok(()) };
    let was_there = path.exists();
    LogFile::open(path, options.owner)?;
    if !was_there {
        // Whoever serves makes it as its own.
        std::fs::remove_file(path).ok();
    }
    Ok(())
}

/// Starts logging for the life of what is returned.
///
/// # Errors
///
/// Where the file cannot be opened.
pub fn start(options: &Options) -> Result<Flush, Error> {
    let sink = match &options.file {
        Some(path) => Sink::File(LogFile::open(path, options.owner)?),
        None => Sink::StandardError,
    };
    let queue = Queue::start(sink);
    drop(WRITER.set(queue.clone()));
    let text =
        tracing_subscriber::fmt().with_env_filter(own(options.level)).with_ansi(false).with_writer(queue.clone());
    // Only a test that starts twice could find a subscriber in place.
    match options.format {
        Shape::Text => {
            drop(tracing::subscriber::set_global_default(text.event_format(record::Text::default()).finish()))
        }
        Shape::Json => drop(tracing::subscriber::set_global_default(text.event_format(record::Json).finish())),
    }
    Ok(Flush(queue))
}

/// Of what libraries record nothing is written: that knows no bound, and may have in it whatever a peer has sent.
fn own(Verbosity(level): Verbosity) -> EnvFilter {
    EnvFilter::new(format!("off,{}={level}", env!("CARGO_CRATE_NAME")))
}

/// The way to the thread that writes, for [`reopen`].
static WRITER: OnceLock<Queue> = OnceLock::new();

/// Whether the file is to be opened anew.
static REOPEN: AtomicBool = AtomicBool::new(false);

/// Has the log file opened anew, before anything else is written: what was there has been moved away.
pub fn reopen() {
    REOPEN.store(true, Ordering::Relaxed);
    // Where the queue is full, the thread is awake.
    if let Some(writer) = WRITER.get() {
        writer.records.try_send(Message::Wake).ok();
    }
}

/// Where records end up.
enum Sink {
    StandardError,
    File(LogFile),
}

impl Sink {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        match self {
            // A closed standard error is its reader's choice; whatever follows may find it open.
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

/// The way of a record to the thread that writes it.
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
            // What the record tells that is on its way.
            let mut told = 0;
            for message in queued {
                if REOPEN.swap(false, Ordering::Relaxed) {
                    sink.reopen();
                }
                match message {
                    Message::Record(record) => match sink.write(&record) {
                        // Told only when something can be told again, or a full disk would be written to without end.
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
            complain(&format!("nothing will be logged: {error}"));
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

/// One record; queued when it is dropped, so that it is written whole.
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

/// One line on standard error, for what happens before and outside of logging.
pub fn complain(message: &str) {
    let line = format!("uninterruptible-host: {message}\n");
    let (written, is_written) = mpsc::sync_channel(1);
    // A closed standard error leaves only the exit code to tell, and a full one must not keep the process from ending.
    let write = move || {
        drop(io::stderr().write_all(line.as_bytes()));
        written.try_send(()).ok();
    };
    if thread::Builder::new().name("complaint".into()).spawn(write).is_ok() {
        is_written.recv_timeout(LONGEST_FLUSH).ok();
    }
}

/// The generation of this process, as each record tells it.
static GENERATION: AtomicU64 = AtomicU64::new(Generation::FIRST.number());

/// Says which generation this process is, from here on.
pub fn identify(generation: Generation) {
    GENERATION.store(generation.number(), Ordering::Relaxed);
}

/// The most of one message from a guest that is logged, in bytes.
const LONGEST_MESSAGE: usize = 4 << 10;

/// Makes what a guest said fit to print: one line, no control characters, at most 4 KiB.
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
    fn what_a_guest_says_is_one_harmless_line() {
        assert_eq!(escaped("multi\nline \u{1b}[31m\u{202e}\n"), "multi\\nline \\u{1b}[31m\\u{202e}");
        assert!(escaped(&"\n".repeat(10)).is_empty());
        assert!(escaped(&"é".repeat(100_000)).len() <= LONGEST_MESSAGE + 8);
    }
}
