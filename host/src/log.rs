//! Logs: one record a line on standard error or in a file, with the process id; never in the way of serving.
//!
//! Records pass through a bounded queue to a thread that writes them. Where the reader is slow or gone, or the disk full, records
//! are dropped and counted; nothing waits for it.

mod file;

pub use file::Error;

use crate::{handoff::Generation, privilege::Owner};
use file::LogFile;
use nix::unistd::getpid;
use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{Event, Level, Subscriber, error, info, warn};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter,
        format::{Format, Full, Json, JsonFields, Writer},
    },
    registry::LookupSpan,
};

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
            _ => Err("is none of error, warn, info, debug, trace"),
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
            _ => Err("is none of text, json"),
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
        Shape::Text => drop(tracing::subscriber::set_global_default(
            text.event_format(WithPid(Format::default().with_target(false))).finish(),
        )),
        Shape::Json => drop(tracing::subscriber::set_global_default(
            text.fmt_fields(JsonFields::new())
                .event_format(WithPid(Format::default().json().flatten_event(true).with_target(false)))
                .finish(),
        )),
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
            Ok(()) => info!("the log file is opened anew"),
            Err(error) => error!("the log file cannot be opened anew, and the one that is open is written to: {error}"),
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
                                warn!(
                                    dropped = told,
                                    "log records were dropped: their reader was too slow, or the disk was full"
                                );
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

/// Puts the process id and the generation into each record.
struct WithPid<F>(F);

impl<S, N> FormatEvent<S, N> for WithPid<Format<Full>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "[{}/{}] ", getpid(), GENERATION.load(Ordering::Relaxed))?;
        self.0.format_event(context, writer, event)
    }
}

impl<S, N> FormatEvent<S, N> for WithPid<Format<Json>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    FormattedFields<N>: 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut record = String::new();
        self.0.format_event(context, Writer::new(&mut record), event)?;
        let rest = record.strip_prefix('{').unwrap_or(&record);
        write!(writer, "{{\"pid\":{},\"generation\":{},{rest}", getpid(), GENERATION.load(Ordering::Relaxed))
    }
}

/// Lets through so many in a burst and so many a second after it, and counts what it does not let through.
#[derive(Debug)]
pub struct Limiter {
    burst: u32,
    every: Duration,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    filled: Instant,
    suppressed: u64,
}

impl Limiter {
    /// `burst` at once, then `rate` a second.
    pub fn new(burst: u32, rate: u32) -> Self {
        Self {
            burst,
            every: Duration::from_secs(1) / rate.max(1),
            bucket: Mutex::new(Bucket { tokens: burst, filled: Instant::now(), suppressed: 0 }),
        }
    }

    /// One in each `period`.
    pub fn one_in(period: Duration) -> Self {
        Self { every: period, ..Self::new(1, 1) }
    }

    /// Whether one more may pass: `Some` with how many did not since the last that did.
    pub fn pass(&self) -> Option<u64> {
        let mut bucket = self.bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let periods = bucket.filled.elapsed().as_nanos() / self.every.as_nanos().max(1);
        if let Ok(periods @ 1..) = u32::try_from(periods.min(u128::from(self.burst))) {
            bucket.tokens = bucket.tokens.saturating_add(periods).min(self.burst);
            bucket.filled = Instant::now();
        }
        if let Some(left) = bucket.tokens.checked_sub(1) {
            bucket.tokens = left;
            Some(std::mem::take(&mut bucket.suppressed))
        } else {
            bucket.suppressed += 1;
            None
        }
    }

    /// How many did not pass and have not been reported.
    pub fn suppressed(&self) -> u64 {
        std::mem::take(&mut self.bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner).suppressed)
    }
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

    #[test]
    fn a_limiter_counts_what_it_holds_back() {
        let limiter = Limiter::new(2, 1);
        assert_eq!([limiter.pass(), limiter.pass(), limiter.pass(), limiter.pass()], [Some(0), Some(0), None, None]);
        assert_eq!(limiter.suppressed(), 2);
        assert_eq!(limiter.suppressed(), 0);
    }
}
