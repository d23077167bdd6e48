//! What was typed: the options, their help, their environment variables. Nothing is judged here; `config` does that.

use crate::{exit::Exit, log};
use clap::{Parser, error::ErrorKind};
use std::{fmt, path::PathBuf};

/// Serves each connection with a fresh instance of a WebAssembly plugin.
#[derive(Debug, Default, Parser)]
#[command(version, max_term_width = 100, next_line_help = false)]
#[command(after_help = "Signals: USR1 restarts without losing a connection, HUP reloads the plugin, \
    TERM or INT shuts down gracefully, a second one at once.\n\
    Exit codes: 0 finished, 1 cut short, 2 wrong usage or configuration, 3 refused by the system, 70 a bug, \
    75 the service was handed back.")]
pub struct Arguments {
    /// The component that serves each connection.
    #[arg(long, value_name = "FILE", env = "UNINTERRUPTIBLE_PLUGIN", help_heading = "Plugin")]
    pub plugin: Option<PathBuf>,

    /// Where compiled plugins are kept; only a directory that nobody else can write is used. `none` keeps nothing.
    #[arg(long, value_name = "DIR", env = "UNINTERRUPTIBLE_CACHE_DIR", help_heading = "Plugin")]
    #[arg(help = "Where compiled plugins are kept, or `none` [default: uninterruptible-host in $XDG_CACHE_HOME]")]
    pub cache_dir: Option<PathBuf>,

    /// When a guest starts: `accept`, `first-byte`, or `auto`, which finds out whether the plugin could tell.
    #[arg(
        long,
        value_name = "WHEN",
        env = "UNINTERRUPTIBLE_GUEST_START",
        default_value = "auto",
        help_heading = "Plugin"
    )]
    pub guest_start: String,

    /// Refuse plugins of WASI 0.3, whose support in the engine is younger than that of 0.2.
    #[arg(long, env = "UNINTERRUPTIBLE_DISABLE_WASI_0_3", help_heading = "Plugin")]
    pub disable_wasi_0_3: bool,

    /// Where to listen, as tcp://HOST:PORT or unix:///PATH?mode=0660; may be given more than once. With port 0 the system
    /// chooses; without a mode the umask decides who may connect.
    #[arg(
        long,
        value_name = "URI",
        env = "UNINTERRUPTIBLE_BIND",
        value_delimiter = ',',
        default_value = "tcp://127.0.0.1:7000",
        help_heading = "Listeners"
    )]
    pub bind: Vec<String>,

    /// Connections that the kernel queues for a listener; it silently caps this at net.core.somaxconn.
    #[arg(
        long,
        value_name = "COUNT",
        env = "UNINTERRUPTIBLE_BACKLOG",
        default_value = "4096",
        help_heading = "Listeners"
    )]
    pub backlog: String,

    /// Connections served at once; further ones wait in the kernel's queue.
    #[arg(long, value_name = "COUNT", env = "UNINTERRUPTIBLE_MAX_CONNECTIONS", help_heading = "Limits")]
    #[arg(
        help = "Connections served at once; further ones wait in the kernel's queue [default: 4096, or what the descriptor limit allows]"
    )]
    pub max_connections: Option<String>,

    /// Connections of one address served at once, or `none`; further ones are closed. Of IPv6, a /64 counts as one address.
    #[arg(
        long,
        value_name = "COUNT",
        env = "UNINTERRUPTIBLE_MAX_CONNECTIONS_PER_IP",
        default_value = "none",
        help_heading = "Limits"
    )]
    pub max_connections_per_ip: String,

    /// Memory that one guest may have, over all its linear memories.
    #[arg(
        long,
        value_name = "SIZE",
        env = "UNINTERRUPTIBLE_GUEST_MEMORY",
        default_value = "64MiB",
        help_heading = "Limits"
    )]
    pub guest_memory: String,

    /// CPU time that a guest may use while its connection moves no byte.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_GUEST_CPU_TIME",
        default_value = "10s",
        help_heading = "Limits"
    )]
    pub guest_cpu_time: String,

    /// How long a connection may last in all, or `none`.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_CONNECTION_TIMEOUT",
        default_value = "none",
        help_heading = "Limits"
    )]
    pub connection_timeout: String,

    /// How long a connection may go without moving a byte in either direction, or `none`.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_IDLE_TIMEOUT",
        default_value = "5m",
        help_heading = "Limits"
    )]
    pub idle_timeout: String,

    /// Networks whose peers may connect, as 10.0.0.0/8,2001:db8::1; may be given more than once. Without any, everybody may.
    #[arg(long, value_name = "CIDR", env = "ALLOWED_NETWORKS", help_heading = "Network")]
    pub allow_network: Vec<String>,

    /// Networks whose peers may not connect, whatever is allowed; may be given more than once.
    #[arg(long, value_name = "CIDR", env = "UNINTERRUPTIBLE_DENY_NETWORK", help_heading = "Network")]
    pub deny_network: Vec<String>,

    /// Networks of proxies, which have to begin each connection with a PROXY header, version 1 or 2, and whose word is taken for
    /// whom it is from; `unix` for those at unix listeners. May be given more than once.
    #[arg(long, value_name = "CIDR", env = "UNINTERRUPTIBLE_PROXY_PROTOCOL", help_heading = "Network")]
    pub proxy_protocol: Vec<String>,

    /// Threads that serve connections.
    #[arg(long, value_name = "COUNT", env = "UNINTERRUPTIBLE_WORKERS", help_heading = "Process")]
    #[arg(help = "Threads that serve connections [default: one for each processor, and at least 2]")]
    pub workers: Option<String>,

    /// The command that starts the successor at a hot restart, as words; no shell reads it.
    #[arg(long, value_name = "WORDS", env = "UNINTERRUPTIBLE_START_COMMAND", help_heading = "Hot restart")]
    #[arg(
        help = "The command that starts the successor, as words; no shell reads it [default: this one, its path followed anew]"
    )]
    pub start_command: Option<String>,

    /// How long a successor may take until it is ready for the handoff.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_READY_TIMEOUT",
        default_value = "60s",
        help_heading = "Hot restart"
    )]
    pub ready_timeout: String,

    /// How long the predecessor watches a successor that serves, and takes over again if it dies. `0s` is off.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_ROLLBACK_WINDOW",
        default_value = "10s",
        help_heading = "Hot restart"
    )]
    pub rollback_window: String,

    /// How long a predecessor may serve what it had accepted, or `none`: idle connections end by --idle-timeout.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_HANDOFF_DRAIN_TIMEOUT",
        default_value = "none",
        help_heading = "Hot restart"
    )]
    pub handoff_drain_timeout: String,

    /// Earlier generations that may drain at once; a further restart is refused.
    #[arg(
        long,
        value_name = "COUNT",
        env = "UNINTERRUPTIBLE_MAX_DRAINING",
        default_value = "8",
        help_heading = "Hot restart"
    )]
    pub max_draining: String,

    /// Socket at which a successor that is no child of this process asks for the service. Mode 0600, own user and root only.
    #[arg(long, value_name = "PATH", env = "UNINTERRUPTIBLE_HANDOFF_SOCKET", help_heading = "Hot restart")]
    pub handoff_socket: Option<String>,

    /// Take the service over from the host whose --handoff-socket this is; start cold where nobody listens there.
    #[arg(long, value_name = "PATH", env = "UNINTERRUPTIBLE_TAKE_OVER", help_heading = "Hot restart")]
    pub take_over: Option<String>,

    /// How long a graceful shutdown waits for connections to finish.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_DRAIN_TIMEOUT",
        default_value = "30s",
        help_heading = "Process"
    )]
    pub drain_timeout: String,

    /// Keep one process id through all restarts, by a small parent of the processes that serve: `always`, `never`, or `auto`,
    /// which is for the first process of a container.
    #[arg(
        long,
        value_name = "WHEN",
        env = "UNINTERRUPTIBLE_ANCHOR",
        default_value = "auto",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        help_heading = "Process"
    )]
    pub anchor: String,

    /// File that names the process that serves, for scripts that signal it.
    #[arg(long, value_name = "FILE", env = "PID_FILE", help_heading = "Process")]
    pub pidfile: Option<PathBuf>,

    /// What is logged: error, warn, info, debug or trace.
    #[arg(
        long,
        value_name = "LEVEL",
        env = "UNINTERRUPTIBLE_LOG_LEVEL",
        default_value = "info",
        help_heading = "Logs"
    )]
    pub log_level: String,

    /// How it is logged: text or json.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "UNINTERRUPTIBLE_LOG_FORMAT",
        default_value = "text",
        help_heading = "Logs"
    )]
    pub log_format: String,
}

/// The command line was not one to serve with: help was asked for, or it does not parse.
#[derive(Debug)]
pub struct Refused(clap::Error);

impl Arguments {
    /// Reads the command line, and the environment for what it does not say.
    ///
    /// # Errors
    ///
    /// Where help or the version was asked for, or where an option is unknown or lacks its value.
    pub fn from_process() -> Result<Self, Refused> {
        Self::try_parse().map_err(Refused)
    }
}

impl fmt::Display for Refused {
    /// The parser's report is a paragraph; its first line and its tip, where it has one, are what an operator needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0.render().to_string();
        let mut lines = report.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
        match lines.find_map(|line| line.strip_prefix("tip: ")) {
            Some(tip) => write!(f, "{first}; {tip}"),
            None => write!(f, "{first}; see --help"),
        }
    }
}

impl Refused {
    /// Says what there is to say, and how the process ends.
    pub fn answer(&self) -> Exit {
        if matches!(self.0.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // A closed standard output is the reader's choice and no failure of ours.
            drop(self.0.print());
            return Exit::Finished;
        }
        log::complain(&self.to_string());
        Exit::Usage
    }
}
