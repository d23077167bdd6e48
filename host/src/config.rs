//! What was meant: every option parsed into a type that needs no further check. The only room that reads the
//! environment (clap reads the variables that `cli` names, this module the rest).

use crate::{
    admission::Admission,
    anchor::{self, Launch},
    bind::{Bind, Key, SocketPath},
    cli::Arguments,
    handoff::start::{self, StartCommand},
    log,
    restrict::{Proxies, Rules},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    env,
    ffi::OsString,
    fmt::Display,
    io,
    num::NonZeroU32,
    os::{fd::RawFd, unix::fs::PermissionsExt},
    path::{self, Path, PathBuf},
    process,
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

/// Descriptors that are not connections: listeners, epoll, log, pipes, plugin files, and what a restart will need.
const RESERVED_DESCRIPTORS: u64 = 48;

/// For each listener: itself, what it is accepted from, and a copy during a restart.
const DESCRIPTORS_PER_LISTENER: u64 = 3;

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
    /// Who may connect.
    pub admission: Arc<Admission>,
    /// What one connection and one guest may use.
    pub limits: Limits,
    /// Threads that serve connections.
    pub workers: NonZeroU32,
    /// How long a graceful shutdown waits.
    pub drain_timeout: Duration,
    /// How the service passes from one process to the next.
    pub handoff: Handoff,
    /// The file that names the process that serves, by its absolute path.
    pub pidfile: Option<PathBuf>,
    /// Where the supervisor wants to be told how the service is.
    pub notify_socket: Option<OsString>,
    /// Whether an anchor wants to be told how this process ends.
    pub anchored: bool,
    /// What is logged, and how.
    pub log: log::Options,
}

/// How the service passes from one process to the next.
#[derive(Clone, Debug)]
pub struct Handoff {
    /// What starts a successor.
    pub start: StartCommand,
    /// How long it may take to get ready.
    pub ready_timeout: Duration,
    /// How long its predecessor can take over again; zero is off.
    pub rollback_window: Duration,
    /// How long a predecessor may serve what it had accepted.
    pub drain_timeout: Option<Duration>,
    /// Earlier generations that may drain at once.
    pub max_draining: NonZeroU32,
    /// Where successors ask that are no children of this process.
    pub socket: Option<SocketPath>,
    /// Where to ask for the service.
    pub take_over: Option<SocketPath>,
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
    /// The gem's way of handing over was asked for.
    #[error(
        "FILE_DESCRIPTOR_SERVER_PATH is the protocol of the gem uninterruptible, which this program does not speak; unset it, and use \
         --handoff-socket and --take-over where the successor is not started by this process"
    )]
    Gem,
    /// The boot directory is gone, or cannot be named.
    #[error("the working directory cannot be found out ({0}); start in one that exists, or set APP_ROOT")]
    Directory(io::Error),
    /// Whoever started this program gave it no name.
    #[error("the name of this program cannot be found out (argv[0] is {0:?}); give --start-command")]
    Program(OsString),
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

/// Whether this process is to be the anchor of those that serve, and what it needs to know then. To be asked before any thread
/// exists.
///
/// # Errors
///
/// Where the option has no meaning, or this program cannot be found again.
pub fn anchor(arguments: &Arguments) -> Result<Option<Launch>, Error> {
    let first = process::id() == 1;
    let wanted = match arguments.anchor.as_str() {
        "auto" => first,
        "always" => true,
        "never" => false,
        other => return Err(Error::value("--anchor", other, "is none of auto, always, never")),
    };
    // The first process of all has no anchor above it, whatever its environment says.
    if !wanted || (is_anchored() && !first) {
        return Ok(None);
    }
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let program = absolute(Path::new(&name)).ok_or(Error::Program(name))?;
    Ok(Some(Launch { program, arguments: words.collect(), notify_socket: env::var_os("NOTIFY_SOCKET") }))
}

/// Whether an anchor has started this process, or one that came before it.
fn is_anchored() -> bool {
    env::var_os(anchor::ANCHORED_VARIABLE).is_some()
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
        if env::var_os("FILE_DESCRIPTOR_SERVER_PATH").is_some() {
            return Err(Error::Gem);
        }
        let binds = binds(&arguments.bind)?;
        let max_draining = parse::<Count>("--max-draining", &arguments.max_draining)?.0;
        let reserved = reserved_descriptors(&binds, max_draining);
        let admission = admission(&arguments)?;
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
            admission: admission.into(),
            limits: Limits {
                max_connections: max_connections(arguments.max_connections.as_deref(), reserved)?,
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
                // A guest that computes holds its worker: with a single one, everybody else would wait for it.
                None => thread::available_parallelism()
                    .ok()
                    .and_then(|n| u32::try_from(n.get()).ok())
                    .and_then(|n| NonZeroU32::new(n.max(2)))
                    .unwrap_or(NonZeroU32::MIN),
            },
            drain_timeout: duration("--drain-timeout", &arguments.drain_timeout)?,
            handoff: Handoff {
                start: start_command(arguments.start_command.as_deref())?,
                ready_timeout: duration("--ready-timeout", &arguments.ready_timeout)?,
                rollback_window: match arguments.rollback_window.as_str() {
                    "0" | "0s" => Duration::ZERO,
                    window => duration("--rollback-window", window)?,
                },
                drain_timeout: optional_duration("--handoff-drain-timeout", &arguments.handoff_drain_timeout)?,
                max_draining,
                socket: socket_path("--handoff-socket", arguments.handoff_socket)?,
                take_over: socket_path("--take-over", arguments.take_over)?,
            },
            pidfile: match arguments.pidfile {
                // By its absolute path, since a successor may start in another directory.
                Some(path) if path.is_relative() && !path.as_os_str().is_empty() => {
                    Some(boot_directory().map_err(Error::Directory)?.join(path))
                }
                Some(path) => Some(path::absolute(&path).map_err(|_error| {
                    Error::value(
                        "--pidfile",
                        path.display(),
                        "names no file: give one, as in /run/uninterruptible-host.pid",
                    )
                })?),
                None => None,
            },
            notify_socket: env::var_os("NOTIFY_SOCKET"),
            anchored: is_anchored(),
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

fn admission(arguments: &Arguments) -> Result<Admission, Error> {
    let rules = Rules {
        allow: parse_all("--allow-network", &arguments.allow_network)?,
        deny: parse_all("--deny-network", &arguments.deny_network)?,
    };
    let proxies: Proxies = parse_all("--proxy-protocol", &arguments.proxy_protocol)?;
    if let Some(proxy) = proxies.shut_out_by(&rules) {
        let remedy =
            "is in --deny-network, which wins, so that no proxy there could connect; leave it out of one of them";
        return Err(Error::value("--proxy-protocol", proxy, remedy));
    }
    let most_per_ip = match arguments.max_connections_per_ip.as_str() {
        "none" => None,
        count => Some(parse::<Count>("--max-connections-per-ip", count)?.0),
    };
    Ok(Admission::new(rules, proxies, most_per_ip))
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

/// What several values of one option are together.
fn parse_all<T: FromStr<Err: Display> + FromIterator<T>>(option: &'static str, values: &[String]) -> Result<T, Error> {
    values.iter().map(|value| parse::<T>(option, value)).collect()
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

/// What is not for connections. Each generation that drains is held by a descriptor.
fn reserved_descriptors(binds: &[Bind], max_draining: NonZeroU32) -> u64 {
    RESERVED_DESCRIPTORS + DESCRIPTORS_PER_LISTENER * binds.len() as u64 + u64::from(max_draining.get())
}

fn max_connections(asked: Option<&str>, reserved: u64) -> Result<NonZeroU32, Error> {
    // Where the limits cannot be read or raised there is nothing to check against; accepting backs off when they are met.
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard),
        Ok((soft, _)) => soft,
        Err(_) => u64::MAX,
    };
    let room = limit.saturating_sub(reserved);
    match asked {
        Some(text) => {
            let Count(asked) = parse("--max-connections", text)?;
            if u64::from(asked.get()) <= room {
                Ok(asked)
            } else {
                Err(Error::Descriptors { asked: asked.get(), limit, room, needed: u64::from(asked.get()) + reserved })
            }
        }
        None => {
            let fitting = u32::try_from(room).map_or(DEFAULT_MAX_CONNECTIONS, |room| room.min(DEFAULT_MAX_CONNECTIONS));
            NonZeroU32::new(fitting).ok_or(Error::NoDescriptors { limit })
        }
    }
}

/// The descriptor of the channel that a predecessor has left to this process, if it has.
///
/// Whoever reads the environment of this process later, as its children, must not find it: `start` leaves it out.
pub fn handoff_channel() -> Option<RawFd> {
    env::var(start::CHANNEL_VARIABLE).ok()?.parse().ok()
}

/// The file in which tests order faults, in builds that have them.
pub fn fault_orders() -> Option<PathBuf> {
    env::var_os("UNINTERRUPTIBLE_FAULTS").map(PathBuf::from)
}

/// What starts a successor: as handoff.md says, this program by the path by which it was started, symbolic links and all, so that a
/// link that points to another release by then starts that one.
fn start_command(words: Option<&str>) -> Result<StartCommand, Error> {
    let directory = match env::var_os("APP_ROOT") {
        Some(root) => PathBuf::from(root),
        None => boot_directory().map_err(Error::Directory)?,
    };
    let mut words: Vec<OsString> = match words {
        Some(words) => shell_words::split(words)
            .map_err(|error| Error::value("--start-command", words, format!("is not a list of words ({error})")))?
            .into_iter()
            .map(OsString::from)
            .collect(),
        None => without_take_over(env::args_os()),
    };
    if words.is_empty() {
        return Err(Error::value("--start-command", "", "has no words; leave it out to start this program again"));
    }
    let arguments = words.split_off(1);
    let name = words.swap_remove(0);
    let program = absolute(Path::new(&name)).ok_or(Error::Program(name))?;
    Ok(StartCommand { program, arguments, directory })
}

/// The boot directory by the path by which it was entered, where the shell has told that.
fn boot_directory() -> io::Result<PathBuf> {
    let real = env::current_dir()?;
    let told = env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(told.filter(|told| told.canonicalize().is_ok_and(|told| told == real)).unwrap_or(real))
}

/// The path of a program as a shell finds it, links not followed: neither its own nor those of the boot directory.
fn absolute(name: &Path) -> Option<PathBuf> {
    let base = boot_directory().ok()?;
    if name.components().count() > 1 || name.starts_with(".") {
        return Some(base.join(name));
    }
    let executable =
        |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let places = env::var_os("PATH")?;
    env::split_paths(&places).map(|place| base.join(place).join(name)).find(executable)
}

/// A command line as it was typed, less `--take-over`: the successor is given what that would ask for.
fn without_take_over(mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--take-over" {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"--take-over=") {
            kept.push(word);
        }
    }
    kept
}

fn socket_path(option: &'static str, path: Option<String>) -> Result<Option<SocketPath>, Error> {
    path.map(|path| parse(option, &path)).transpose()
}

fn default_cache_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("uninterruptible-host"))
}
