//! The options of serving, their help, their environment variables.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
    #[arg(help = "Threads that serve connections [default: one for each processor]")]
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

    /// Keep one process id through all restarts, by a small parent of the processes that serve: `always`, `never`, or `auto`.
    /// `auto` does so for process 1 of a container and for a child of a supervisor that knows one process id only (tini,
    /// docker-init, dumb-init, runit, s6, supervisord).
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

    /// Where operators ask how this host is, and tell it what to do: unix:///PATH, which is for its own user and root, or
    /// tcp://ADDRESS:PORT, a loopback address, which is for whoever is on this machine. It speaks HTTP; `status`, `restart`,
    /// `rollback`, `reload` and `stop` ask there.
    #[arg(long, value_name = "URI", env = "UNINTERRUPTIBLE_ADMIN", help_heading = "Operations")]
    #[arg(
        help = "Where `status`, `restart`, `rollback`, `reload`, `stop` and metrics are asked for, by HTTP: unix:///PATH, or a loopback \
                tcp://ADDRESS:PORT"
    )]
    pub admin: Option<String>,

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
    #[arg(long, value_name = "FILE", env = "TLS_CERTIFICATE", hide_env_values = true, help_heading = "TLS")]
    pub tls_certificate: Vec<PathBuf>,

    /// The private key of the certificate in the same place, in PEM, not encrypted.
    #[arg(long, value_name = "FILE", env = "TLS_KEY", hide_env_values = true, help_heading = "TLS")]
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
    #[arg(long, value_name = "FILE", env = "CLIENT_TLS_CERTIFICATE_CA", hide_env_values = true, help_heading = "TLS")]
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

    /// Memory that the host keeps of each guest that is gone, for the next one; `auto` goes by the plugin and the memory that there is.
    #[arg(
        long,
        value_name = "SIZE",
        env = "UNINTERRUPTIBLE_GUEST_MEMORY_KEPT",
        default_value = "auto",
        help_heading = "Limits"
    )]
    pub guest_memory_kept: String,

    /// CPU time that a guest may use while its connection moves no byte.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_GUEST_CPU_TIME",
        default_value = "10s",
        help_heading = "Limits"
    )]
    pub guest_cpu_time: String,

    /// Resources that a guest may hold at once: streams, pollables, bodies, files.
    #[arg(
        long,
        value_name = "COUNT",
        env = "UNINTERRUPTIBLE_GUEST_RESOURCES",
        default_value = "4096",
        help_heading = "Limits"
    )]
    pub guest_resources: String,
}
