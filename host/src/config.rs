//! What was meant: every option parsed into a type that needs no further check. The only room that reads the
//! environment (clap reads the variables that `cli` names, this module the rest).

use crate::{
    bind::{Bind, Key},
    cli::Arguments,
    log,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{env, fmt::Display, num::NonZeroU32, path::PathBuf, str::FromStr, thread, time::Duration};

/// Descriptors that are not connections: listeners, epoll, log, pipes, plugin files, and what a restart will need.
const RESERVED_DESCRIPTORS: u64 = 64;

/// What the default is where the descriptor limit allows it: far above what a small service meets, and half of what
/// `vm.max_map_count` bears (65,530 by default; a live guest takes some eight mappings).
const DEFAULT_MAX_CONNECTIONS: u32 = 4096;

/// More threads than any machine that this runs on has processors.
const MOST_WORKERS: u32 = 1024;

/// Their keys, of at most 114 bytes each, go into one message of a handoff, which has room for 32 KiB.
const MOST_LISTENERS: usize = 200;

/// The resolved configuration.
#[derive(Debug)]
pub struct Config {
    /// The plugin's file.
    pub plugin: PathBuf,
    /// Where compiled plugins are kept; `None` where they are not.
    pub cache_dir: Option<PathBuf>,
    /// When a guest starts.
    pub guest_start: GuestStart,
    /// Whether plugins of WASI 0.3 are served.
    pub wasi_0_3: Wasi03,
    /// What to listen on; never empty.
    pub binds: Vec<Bind>,
    /// The kernel's queue for each listener.
    pub backlog: u32,
    /// What one connection and one guest may use.
    pub limits: Limits,
    /// Threads that serve connections.
    pub workers: NonZeroU32,
    /// How long a graceful shutdown waits.
    pub drain_timeout: Duration,
    /// What is logged, and how.
    pub log: log::Options,
}

/// The bounds of connections and guests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at once.
    pub max_connections: NonZeroU32,
    /// Bytes of memory a guest may have, over all its linear memories.
    pub guest_memory: usize,
    /// CPU time a guest may use while its connection moves no byte.
    pub guest_cpu_time: Duration,
    /// How long a connection may last.
    pub connection_timeout: Option<Duration>,
    /// How long a connection may move no byte.
    pub idle_timeout: Option<Duration>,
}

/// When the guest of a connection starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestStart {
    /// As soon as the connection is accepted.
    Accept,
    /// When the peer has sent something, or has closed its side.
    FirstByte,
    /// At the first byte where the plugin's first guest did nothing before it, else at accept.
    Auto,
}

/// Whether plugins of WASI 0.3 are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wasi03 {
    /// They are.
    Served,
    /// They are refused at boot.
    Disabled,
}

/// A configuration that cannot be served, as one line that names the option, the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A required option is missing.
    #[error("--plugin is missing: name the component to serve, as in --plugin hello.wasm")]
    NoPlugin,
    /// A value does not parse.
    #[error("{option} {value:?}: {remedy}")]
    Value {
        /// The option, as typed.
        option: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        remedy: String,
    },
    /// More listeners than can be handed over.
    #[error("--bind: {count} listeners are more than the {MOST_LISTENERS} that can be handed over; bind fewer")]
    TooManyListeners {
        /// What was asked for.
        count: usize,
    },
    /// No descriptors for any connection.
    #[error(
        "the descriptor limit of {limit} leaves room for no connection; raise it (ulimit -n 1024, or LimitNOFILE=)"
    )]
    NoDescriptors {
        /// The hard limit.
        limit: u64,
    },
    /// More connections than descriptors.
    #[error(
        "--max-connections {asked}: the descriptor limit of {limit} leaves room for {room}; raise it (ulimit -n {needed}, or LimitNOFILE= in \
         the systemd unit) or ask for fewer"
    )]
    Descriptors {
        /// What was asked for.
        asked: u32,
        /// The hard limit.
        limit: u64,
        /// What fits.
        room: u64,
        /// What the limit would have to be.
        needed: u64,
    },
}

impl Config {
    /// Turns what was typed into what was meant.
    ///
    /// Raises the soft limit of descriptors to the hard one, since the default of 1,024 serves nobody.
    ///
    /// # Errors
    ///
    /// The first value that cannot be served.
    pub fn resolve(arguments: Arguments) -> Result<Self, Error> {
        let binds = binds(&arguments.bind)?;
        Ok(Self {
            plugin: arguments.plugin.filter(|path| !path.as_os_str().is_empty()).ok_or(Error::NoPlugin)?,
            cache_dir: match arguments.cache_dir {
                Some(none) if none.as_os_str() == "none" => None,
                Some(dir) => Some(dir),
                None => default_cache_dir(),
            },
            guest_start: parse("--guest-start", &arguments.guest_start)?,
            wasi_0_3: if arguments.disable_wasi_0_3 { Wasi03::Disabled } else { Wasi03::Served },
            binds,
            backlog: parse::<Count>("--backlog", &arguments.backlog)?.0.get(),
            limits: Limits {
                max_connections: max_connections(arguments.max_connections.as_deref())?,
                guest_memory: size("--guest-memory", &arguments.guest_memory)?,
                guest_cpu_time: duration("--guest-cpu-time", &arguments.guest_cpu_time)?,
                connection_timeout: optional_duration("--connection-timeout", &arguments.connection_timeout)?,
                idle_timeout: optional_duration("--idle-timeout", &arguments.idle_timeout)?,
            },
            workers: match arguments.workers {
                Some(count) => match parse::<Count>("--workers", &count)?.0 {
                    workers if workers.get() <= MOST_WORKERS => workers,
                    _ => {
                        return Err(Error::value("--workers", count, "is more than 1024; one a processor serves best"));
                    }
                },
                None => thread::available_parallelism()
                    .ok()
                    .and_then(|n| u32::try_from(n.get()).ok()?.try_into().ok())
                    .unwrap_or(NonZeroU32::MIN),
            },
            drain_timeout: duration("--drain-timeout", &arguments.drain_timeout)?,
            log: log::Options {
                level: parse("--log-level", &arguments.log_level)?,
                format: parse("--log-format", &arguments.log_format)?,
            },
        })
    }
}

impl Error {
    fn value(option: &'static str, value: impl Display, remedy: impl Display) -> Self {
        Self::Value { option, value: value.to_string(), remedy: remedy.to_string() }
    }
}

fn binds(uris: &[String]) -> Result<Vec<Bind>, Error> {
    let binds = uris.iter().map(|uri| parse("--bind", uri)).collect::<Result<Vec<Bind>, _>>()?;
    if binds.len() > MOST_LISTENERS {
        return Err(Error::TooManyListeners { count: binds.len() });
    }
    let keys = Key::of(&binds);
    for (index, (bind, key)) in binds.iter().zip(&keys).enumerate() {
        let earlier = keys.get(..index).unwrap_or_default();
        if earlier.contains(key) {
            return Err(Error::value("--bind", bind, "is given twice; give each address once"));
        }
        if let Some(other) = earlier.iter().find(|other| other.contradicts(key)) {
            return Err(Error::value(
                "--bind",
                bind,
                format!("cannot be bound beside {other}; give the wider one alone"),
            ));
        }
    }
    Ok(binds)
}

impl FromStr for GuestStart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "accept" => Ok(Self::Accept),
            "first-byte" => Ok(Self::FirstByte),
            "auto" => Ok(Self::Auto),
            _ => Err("is none of auto, accept, first-byte"),
        }
    }
}

fn parse<T: FromStr<Err: Display>>(option: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|remedy| Error::value(option, text, remedy))
}

struct Count(NonZeroU32);

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Bounded by what the runtime counts with, far beyond what a machine can hold.
        match text.parse() {
            Ok(count @ 1..=1_000_000) => NonZeroU32::new(count).map(Self).ok_or("is not a count"),
            _ => Err("is not a whole number from 1 to 1000000"),
        }
    }
}

fn duration(option: &'static str, text: &str) -> Result<Duration, Error> {
    const REMEDY: &str = "is not a time with its unit, as in 500ms, 30s or 5m";
    // A year is longer than any process here lives, and keeps every deadline far from overflow.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(Error::value(option, text, "is no time at all; give at least 1ms")),
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err(Error::value(option, text, "is longer than a year; give less")),
        Err(_) => Err(Error::value(option, text, REMEDY)),
    }
}

fn optional_duration(option: &'static str, text: &str) -> Result<Option<Duration>, Error> {
    if text == "none" { Ok(None) } else { duration(option, text).map(Some) }
}

/// Binary units as in `64MiB`, decimal ones as in `64MB`.
fn size(option: &'static str, text: &str) -> Result<usize, Error> {
    const UNITS: [(&str, usize); 6] =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    // A guest of wasm32 cannot address more.
    const LARGEST: usize = 4 << 30;
    let parsed = UNITS.iter().find_map(|(unit, factor)| {
        Some(text.strip_suffix(unit)?.trim_end().parse::<usize>().ok()?.checked_mul(*factor))
    });
    match parsed.flatten() {
        Some(0) => Err(Error::value(option, text, "is no memory at all; a small guest needs 2MiB")),
        Some(bytes) if bytes <= LARGEST => Ok(bytes),
        Some(_) => Err(Error::value(option, text, "is more than 4GiB, which a guest cannot address")),
        None => Err(Error::value(option, text, "is not a whole number with its unit, as in 64MiB")),
    }
}

fn max_connections(asked: Option<&str>) -> Result<NonZeroU32, Error> {
    // Where the limits cannot be read or raised there is nothing to check against; accepting backs off when they are met.
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard),
        Ok((soft, _)) => soft,
        Err(_) => u64::MAX,
    };
    let room = limit.saturating_sub(RESERVED_DESCRIPTORS);
    match asked {
        Some(text) => {
            let Count(asked) = parse("--max-connections", text)?;
            if u64::from(asked.get()) <= room {
                Ok(asked)
            } else {
                Err(Error::Descriptors {
                    asked: asked.get(),
                    limit,
                    room,
                    needed: u64::from(asked.get()) + RESERVED_DESCRIPTORS,
                })
            }
        }
        None => {
            let fitting = u32::try_from(room).map_or(DEFAULT_MAX_CONNECTIONS, |room| room.min(DEFAULT_MAX_CONNECTIONS));
            NonZeroU32::new(fitting).ok_or(Error::NoDescriptors { limit })
        }
    }
}

fn default_cache_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("uninterruptible-host"))
}
