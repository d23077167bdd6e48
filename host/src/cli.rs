//! What was typed: the options, their help, their environment variables. Nothing is judged here; `config` does that.

use crate::{exit::Exit, log};
use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};

/// Serves each connection with a fresh instance of a WebAssembly plugin.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, next_line_help = false, args_conflicts_with_subcommands = true)]
#[command(after_help = "Example: uninterruptible-host --plugin hello.wasm --bind tcp://0.0.0.0:7000\n\
    Times have a unit, as in 500ms, 30s or 5m; sizes too, as in 64MiB. A configuration file has the same names, without the dashes.\n\n\
    Signals: USR1 restarts without losing a connection, HUP reads plugins and listeners' options anew, \
    TERM or INT shuts down gracefully, a second one at once.\n\
    Exit codes: 0 finished, 1 cut short, 2 wrong usage or configuration, 3 refused by the system, 70 a bug, \
    75 the service was handed back.")]
struct CommandLine {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    options: Options,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Check everything that serving checks at boot, print the resolved configuration, and exit.
    Check {
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Show what a plugin is, what it exports and imports, and what of that a guest is given and denied.
    Inspect(PluginFile),
    /// Compile a plugin into the cache, so that neither a start nor a reload has to.
    Compile(PluginFile),
    /// Write a project for a plugin into a directory of its name: a handler, its test and `./build`, which work as they are.
    New(NewProject),
}

/// The options. As words, which `config` turns into what they mean; a configuration file has the same names for them.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// File with further options, in TOML: those that are given neither here nor in the environment.
    #[arg(long, value_name = "FILE", env = "UNINTERRUPTIBLE_CONFIG", help_heading = "Configuration")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "documentation here would become the help's")]
    pub listener: ListenerOptions,

    /// Reload as soon as the file of a plugin has changed, for development: saving is deploying.
    #[arg(long, env = "UNINTERRUPTIBLE_WATCH", help_heading = "Plugin")]
    pub watch: bool,

    /// Where compiled plugins are kept; only a directory that nobody else can write is used. `none` keeps nothing.
    #[arg(long, value_name = "DIR", env = "UNINTERRUPTIBLE_CACHE_DIR", help_heading = "Plugin")]
    #[arg(help = "Where compiled plugins are kept, or `none` [default: uninterruptible-host in $XDG_CACHE_HOME]")]
    pub cache_dir: Option<PathBuf>,

    /// Refuse plugins of WASI 0.3, whose support in the engine is younger than that of 0.2.
    #[arg(long, env = "UNINTERRUPTIBLE_DISABLE_WASI_0_3", help_heading = "Plugin")]
    pub disable_wasi_0_3: bool,

    /// Where to listen, as tcp://HOST:PORT or unix:///PATH?mode=0660; may be given more than once. With port 0 the system
    /// chooses; without a mode the umask decides who may connect. systemd:NAME serves what a socket unit passes under that name,
    /// systemd: all that it passes.
    #[arg(long, value_name = "URI", env = "UNINTERRUPTIBLE_BIND", value_delimiter = ',', help_heading = "Listeners")]
    #[arg(
        help = "Where to listen: tcp://HOST:PORT, unix:///PATH?mode=0660, systemd:NAME or systemd:, any number of times [default: \
                   tcp://0.0.0.0:$PORT where PORT is set, else tcp://127.0.0.1:7000]"
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

    /// User to become once everything is bound; its group is the one of the user database.
    #[arg(long, value_name = "USER", env = "UNINTERRUPTIBLE_USER", help_heading = "Process")]
    pub user: Option<String>,

    /// Group to become with it, by name or number.
    #[arg(long, value_name = "GROUP", env = "UNINTERRUPTIBLE_GROUP", help_heading = "Process")]
    pub group: Option<String>,

    /// File that names the process that serves, for scripts that signal it.
    #[arg(long, value_name = "FILE", env = "PID_FILE", help_heading = "Process")]
    pub pidfile: Option<PathBuf>,

    /// File to which records are appended; HUP opens it anew, so that it can be rotated.
    #[arg(long, value_name = "FILE", env = "UNINTERRUPTIBLE_LOG_FILE", help_heading = "Logs")]
    #[arg(help = "File to which records are appended; HUP opens it anew [default: standard error]")]
    pub log_file: Option<PathBuf>,

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

/// Those options of which each listener may have its own, in a section of the configuration file.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ListenerOptions {
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "documentation here would become the help's")]
    pub handler: HandlerOptions,

    /// Connections of one address served at once, over all listeners, or `none`; further ones are closed. Of IPv6, a /64 counts as one address.
    #[arg(
        long,
        value_name = "COUNT",
        env = "UNINTERRUPTIBLE_MAX_CONNECTIONS_PER_IP",
        default_value = "none",
        help_heading = "Limits"
    )]
    pub max_connections_per_ip: String,

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

    /// The server's certificate and its chain, in PEM; with it, every listener speaks TLS. May be given more than once, each with
    /// its key: the names in the certificates decide which a client is shown.
    #[arg(long, value_name = "FILE", env = "TLS_CERTIFICATE", help_heading = "TLS")]
    pub tls_certificate: Vec<PathBuf>,

    /// The private key of the certificate in the same place, in PEM, not encrypted.
    #[arg(long, value_name = "FILE", env = "TLS_KEY", help_heading = "TLS")]
    pub tls_key: Vec<PathBuf>,

    /// The oldest version of TLS that is spoken: 1.2 or 1.3.
    #[arg(long, value_name = "VERSION", env = "TLS_VERSION", help_heading = "TLS")]
    #[arg(help = "The oldest version of TLS that is spoken, 1.2 or 1.3 [default: 1.2]")]
    pub tls_min_version: Option<String>,

    /// An application protocol that clients can ask for (ALPN), the preferred one first; may be given more than once.
    #[arg(
        long,
        value_name = "PROTOCOL",
        env = "UNINTERRUPTIBLE_TLS_ALPN",
        value_delimiter = ',',
        help_heading = "TLS"
    )]
    pub tls_alpn: Vec<String>,

    /// Certificates of authorities, in PEM: only clients with a certificate of theirs may connect.
    #[arg(long, value_name = "FILE", env = "CLIENT_TLS_CERTIFICATE_CA", help_heading = "TLS")]
    pub client_ca: Option<PathBuf>,

    /// Whether clients have to show a certificate. `--client-ca` says so already; this refuses to start without one.
    #[arg(
        long,
        value_name = "BOOL",
        env = "VERIFY_CLIENT_TLS_CERTIFICATE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "TLS"
    )]
    pub verify_client_certificate: Option<String>,

    /// How long a TLS handshake may take.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_HANDSHAKE_TIMEOUT",
        default_value = "10s",
        help_heading = "TLS"
    )]
    pub handshake_timeout: String,
}

/// Those options of which each route of a listener may have its own: what serves a connection.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HandlerOptions {
    /// The plugin that serves each connection: a component, or a program of WASI 0.1.
    #[arg(long, value_name = "FILE", env = "UNINTERRUPTIBLE_PLUGIN", help_heading = "Plugin")]
    pub plugin: Option<PathBuf>,

    /// What the plugin is taken for, where it is several things, as handler-0.2 or command-0.2; `auto` takes the first that it is.
    #[arg(
        long,
        value_name = "KIND",
        env = "UNINTERRUPTIBLE_PLUGIN_KIND",
        default_value = "auto",
        help_heading = "Plugin"
    )]
    pub plugin_kind: String,

    /// When a guest starts: `accept`, `first-byte`, or `auto`, which finds out whether the plugin could tell.
    #[arg(
        long,
        value_name = "WHEN",
        env = "UNINTERRUPTIBLE_GUEST_START",
        default_value = "auto",
        help_heading = "Plugin"
    )]
    pub guest_start: String,

    /// The SHA-256 that the plugin must have, in hexadecimal; any other is refused, at a reload too.
    #[arg(long, value_name = "HEX", env = "UNINTERRUPTIBLE_PLUGIN_SHA256", help_heading = "Plugin")]
    pub plugin_sha256: Option<String>,

    /// An environment variable of the guests', as NAME=VALUE, or NAME=@FILE for what is secret; may be given more than once.
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "UNINTERRUPTIBLE_GUEST_ENV",
        hide_env_values = true,
        help_heading = "What a guest gets"
    )]
    pub guest_env: Vec<String>,

    /// An argument of the guests'; may be given more than once.
    #[arg(
        long,
        value_name = "WORD",
        env = "UNINTERRUPTIBLE_GUEST_ARG",
        allow_hyphen_values = true,
        help_heading = "What a guest gets"
    )]
    pub guest_arg: Vec<String>,

    /// A directory that guests have, as HOST::GUEST, read only unless :rw follows; may be given more than once.
    #[arg(
        long,
        value_name = "HOST::GUEST[:rw]",
        env = "UNINTERRUPTIBLE_GUEST_DIR",
        help_heading = "What a guest gets"
    )]
    pub guest_dir: Vec<String>,

    /// Where guests may connect by tcp: an address, a network or a name, and a port or *; may be given more than once.
    #[arg(
        long,
        value_name = "HOST-OR-CIDR:PORT",
        env = "UNINTERRUPTIBLE_GUEST_CONNECT",
        value_delimiter = ',',
        help_heading = "What a guest gets"
    )]
    pub guest_connect: Vec<String>,

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
}

/// What was typed.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// What to do instead of serving.
    pub command: Option<Command>,
    /// The options of serving, with the defaults of those that were not given.
    pub options: Options,
    /// Those that were given.
    pub given: Vec<Given>,
}

/// What this program does besides serving.
#[derive(Clone, Debug)]
pub enum Command {
    /// To say whether serving would begin, and with what.
    Check,
    /// To say what a plugin is.
    Inspect(PluginFile),
    /// To compile a plugin ahead of time.
    Compile(PluginFile),
    /// To write a project.
    New(NewProject),
}

/// A project to begin a plugin with.
#[derive(Args, Clone, Debug)]
pub struct NewProject {
    /// What the handler is written in: rust, c, js or python.
    #[arg(long, value_name = "LANGUAGE")]
    pub lang: String,

    /// How it is called: lower case letters, digits and dashes.
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// A plugin that is looked at and not served.
#[derive(Args, Clone, Debug)]
pub struct PluginFile {
    /// Its file.
    #[arg(value_name = "PLUGIN")]
    pub plugin: PathBuf,

    /// What it is taken for, as for serving.
    #[arg(long, value_name = "KIND", env = "UNINTERRUPTIBLE_PLUGIN_KIND", default_value = "auto")]
    pub plugin_kind: String,

    /// Where compiled plugins are kept, or `none` [default: as for serving].
    #[arg(long, value_name = "DIR", env = "UNINTERRUPTIBLE_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,

    /// Refuse plugins of WASI 0.3.
    #[arg(long, env = "UNINTERRUPTIBLE_DISABLE_WASI_0_3")]
    pub disable_wasi_0_3: bool,

    /// Memory that one guest may have.
    #[arg(long, value_name = "SIZE", env = "UNINTERRUPTIBLE_GUEST_MEMORY", default_value = "64MiB")]
    pub guest_memory: String,
}

/// An option that was given.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its long name.
    pub name: String,
    /// The variable by which it was, where it was not typed.
    pub variable: Option<String>,
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
        let mut matches = CommandLine::command().try_get_matches().map_err(Refused)?;
        let given = given(matches.subcommand().map_or(&matches, |(_verb, matches)| matches));
        let CommandLine { verb, options } = CommandLine::from_arg_matches_mut(&mut matches).map_err(Refused)?;
        let (command, options) = match verb {
            None => (None, options),
            Some(Verb::Check { options }) => (Some(Command::Check), *options),
            Some(Verb::Inspect(file)) => (Some(Command::Inspect(file)), options),
            Some(Verb::Compile(file)) => (Some(Command::Compile(file)), options),
            Some(Verb::New(project)) => (Some(Command::New(project)), options),
        };
        Ok(Self { command, options, given })
    }
}

/// The variables of the environment that options have, each with the option's long name.
pub fn variables() -> Vec<(String, String)> {
    let command = CommandLine::command();
    let variables = command.get_arguments().filter_map(|option| Some((option.get_env()?, option.get_long()?)));
    variables.map(|(variable, name)| (variable.to_string_lossy().into_owned(), name.to_owned())).collect()
}

fn given(matches: &ArgMatches) -> Vec<Given> {
    let command = CommandLine::command();
    let given = command.get_arguments().filter_map(|option| {
        // Where they are asked for in another verb, there may be no such option.
        let source =
            matches.ids().find(|id| *id == option.get_id()).and_then(|id| matches.value_source(id.as_str()))?;
        let variable = match source {
            ValueSource::CommandLine => None,
            ValueSource::EnvVariable => Some(option.get_env()?.to_string_lossy().into_owned()),
            _ => return None,
        };
        Some(Given { name: option.get_long()?.to_owned(), variable })
    });
    given.collect()
}

impl fmt::Display for Refused {
    /// The parser's report is a paragraph; its first line and its tip, where it has one, are what an operator needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0.render().to_string();
        let mut lines = report.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
        write!(f, "{first}")?;
        // What is missing stands on the next.
        if first.ends_with(':') {
            write!(f, " {}", lines.next().unwrap_or_default())?;
        }
        if let Some(variable) = self.variable_without_value() {
            write!(f, ", neither here nor by {variable}")?;
        }
        let rest: Vec<_> = lines.collect();
        let told = |what| rest.iter().find_map(|line: &&str| line.strip_prefix(what));
        match (told("tip: "), told("[possible values: ")) {
            (Some(tip), _) => write!(f, "; {tip}"),
            (None, Some(values)) => write!(f, "; it takes {}", values.trim_end_matches(']').replace(", ", " or ")),
            (None, None) if self.is_word_without_option() => {
                write!(
                    f,
                    "; a value stands beside its option, as in --plugin hello.wasm or --anchor=always: see --help"
                )
            }
            (None, None) => write!(f, "; see --help"),
        }
    }
}

impl Refused {
    /// The variable of an option that was given nothing: it may have been set to that.
    fn variable_without_value(&self) -> Option<String> {
        let [Some(ContextValue::String(option)), Some(ContextValue::String(value))] =
            [ContextKind::InvalidArg, ContextKind::InvalidValue].map(|kind| self.0.get(kind))
        else {
            return None;
        };
        let mut command = CommandLine::command();
        // Before that its options cannot be written.
        command.build();
        let option = command.get_arguments().find(|known| value.is_empty() && known.to_string() == *option)?;
        Some(option.get_env()?.to_string_lossy().into_owned())
    }

    /// Whether what was typed where an option or a verb is expected looks like the value of one.
    fn is_word_without_option(&self) -> bool {
        match self.0.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(word)) if self.0.kind() == ErrorKind::UnknownArgument => !word.starts_with('-'),
            _ => matches!(self.0.kind(), ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict),
        }
    }

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
