//! The options of serving, their help, their environment variables.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The options as text, which `config` parses. A configuration file has the same names.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Options {
    /// Configuration file in TOML. The command line and the environment win over it.
    #[arg(long, value_name = "FILE", env = "UNINTERRUPTIBLE_CONFIG", help_heading = "Configuration")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "documentation here would become the help's")]
    pub listener: ListenerOptions,

    /// Reload as soon as a plugin's file changes, for development.
    #[arg(long, env = "UNINTERRUPTIBLE_WATCH", help_heading = "Plugin")]
    pub watch: bool,

    /// Directory for compiled plugins, which only this user may write, or `none` [default:
    /// uninterruptible-host in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR", env = "UNINTERRUPTIBLE_CACHE_DIR", help_heading = "Plugin")]
    pub cache_dir: Option<PathBuf>,

    /// Reject plugins that use WASI 0.3, for which the engine's support is experimental.
    #[arg(long, env = "UNINTERRUPTIBLE_DISABLE_WASI_0_3", help_heading = "Plugin")]
    pub disable_wasi_0_3: bool,

    /// Engine's component layer for handlers of WASI 0.2: auto (only for components that need it;
    /// others start faster without) or keep (for all).
    #[arg(
        long,
        value_name = "WHEN",
        env = "UNINTERRUPTIBLE_COMPONENT_LAYER",
        default_value = "auto",
        help_heading = "Plugin"
    )]
    pub component_layer: String,

    /// Address to listen on: tcp://HOST:PORT, unix:///PATH?mode=0660, or systemd:NAME for sockets
    /// from a socket unit. Repeatable [default: tcp://0.0.0.0:$PORT if PORT is set, else
    /// tcp://127.0.0.1:7000]
    #[arg(long, value_name = "URI", env = "UNINTERRUPTIBLE_BIND", value_delimiter = ',', help_heading = "Listeners")]
    pub bind: Vec<String>,

    /// Length of the kernel's queue for each listener. The kernel caps it at net.core.somaxconn.
    #[arg(
        long,
        value_name = "COUNT",
        env = "UNINTERRUPTIBLE_BACKLOG",
        default_value = "4096",
        help_heading = "Listeners"
    )]
    pub backlog: String,

    /// Maximum number of open connections; further ones wait in the kernel's queue [default: 4096,
    /// or less if the descriptor limit is low]
    #[arg(long, value_name = "COUNT", env = "UNINTERRUPTIBLE_MAX_CONNECTIONS", help_heading = "Limits")]
    pub max_connections: Option<String>,

    /// Threads that serve connections [default: one per processor]
    #[arg(long, value_name = "COUNT", env = "UNINTERRUPTIBLE_WORKERS", help_heading = "Process")]
    pub workers: Option<String>,

    /// Command that starts the successor, split into words without a shell [default: the command
    /// that started this host]
    #[arg(long, value_name = "WORDS", env = "UNINTERRUPTIBLE_START_COMMAND", help_heading = "Hot restart")]
    pub start_command: Option<String>,

    /// Time for a successor to get ready. After that the restart fails and the old process
    /// continues.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_READY_TIMEOUT",
        default_value = "60s",
        help_heading = "Hot restart"
    )]
    pub ready_timeout: String,

    /// Time in which the old process takes over again if its successor dies. `0s` disables it.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_ROLLBACK_WINDOW",
        default_value = "10s",
        help_heading = "Hot restart"
    )]
    pub rollback_window: String,

    /// Time for the old process to finish its connections after a restart, or `none`.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_HANDOFF_DRAIN_TIMEOUT",
        default_value = "none",
        help_heading = "Hot restart"
    )]
    pub handoff_drain_timeout: String,

    /// Old processes that may drain at once. Further restarts are rejected.
    #[arg(
        long,
        value_name = "COUNT",
        env = "UNINTERRUPTIBLE_MAX_DRAINING",
        default_value = "8",
        help_heading = "Hot restart"
    )]
    pub max_draining: String,

    /// Unix socket, with mode 0600, for a takeover by a process that this host did not start.
    #[arg(long, value_name = "PATH", env = "UNINTERRUPTIBLE_HANDOFF_SOCKET", help_heading = "Hot restart")]
    pub handoff_socket: Option<String>,

    /// Take over from the host with this --handoff-socket. Starts cold if no host listens there.
    #[arg(long, value_name = "PATH", env = "UNINTERRUPTIBLE_TAKE_OVER", help_heading = "Hot restart")]
    pub take_over: Option<String>,

    /// Time that a stop waits for open connections.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_DRAIN_TIMEOUT",
        default_value = "30s",
        help_heading = "Process"
    )]
    pub drain_timeout: String,

    /// Keep one process id through all restarts, with a small parent process: `always`, `never` or
    /// `auto`. `auto` does this as process 1 of a container and under tini, docker-init, dumb-init,
    /// runit, s6 and supervisord.
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

    /// User to switch to after binding, with its group from the user database.
    #[arg(long, value_name = "USER", env = "UNINTERRUPTIBLE_USER", help_heading = "Process")]
    pub user: Option<String>,

    /// Group to switch to after binding, by name or number.
    #[arg(long, value_name = "GROUP", env = "UNINTERRUPTIBLE_GROUP", help_heading = "Process")]
    pub group: Option<String>,

    /// File with the process id to signal. It follows the service through restarts.
    #[arg(long, value_name = "FILE", env = "PID_FILE", help_heading = "Process")]
    pub pidfile: Option<PathBuf>,

    /// Address of the admin endpoint, which serves status, metrics and commands over HTTP:
    /// unix:///PATH for this user and root, or a loopback tcp://ADDRESS:PORT
    #[arg(long, value_name = "URI", env = "UNINTERRUPTIBLE_ADMIN", help_heading = "Operations")]
    pub admin: Option<String>,

    /// Log file. HUP reopens it, for rotation [default: standard error]
    #[arg(long, value_name = "FILE", env = "UNINTERRUPTIBLE_LOG_FILE", help_heading = "Logs")]
    pub log_file: Option<PathBuf>,

    /// Minimum level of log records: `error`, `warn`, `info`, `debug` or `trace`.
    #[arg(
        long,
        value_name = "LEVEL",
        env = "UNINTERRUPTIBLE_LOG_LEVEL",
        default_value = "info",
        help_heading = "Logs"
    )]
    pub log_level: String,

    /// Format of log records: `text` or `json`.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "UNINTERRUPTIBLE_LOG_FORMAT",
        default_value = "text",
        help_heading = "Logs"
    )]
    pub log_format: String,
}

/// The options that each listener can have for itself, in a section of the configuration file.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ListenerOptions {
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "documentation here would become the help's")]
    pub handler: HandlerOptions,

    /// Connections that one address may have on all listeners together, or `none`. The host closes
    /// further ones. An IPv6 /64 counts as one address.
    #[arg(
        long,
        value_name = "COUNT",
        env = "UNINTERRUPTIBLE_MAX_CONNECTIONS_PER_IP",
        default_value = "none",
        help_heading = "Limits"
    )]
    pub max_connections_per_ip: String,

    /// Maximum duration of a connection, or of an HTTP request, or `none`.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_CONNECTION_TIMEOUT",
        default_value = "none",
        help_heading = "Limits"
    )]
    pub connection_timeout: String,

    /// Time without a byte in either direction after which the host closes a connection, or `none`.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_IDLE_TIMEOUT",
        default_value = "5m",
        help_heading = "Limits"
    )]
    pub idle_timeout: String,

    /// Networks that may connect, as in 10.0.0.0/8,2001:db8::1. Without this option, all may.
    /// Repeatable.
    #[arg(long, value_name = "CIDR", env = "ALLOWED_NETWORKS", help_heading = "Network")]
    pub allow_network: Vec<String>,

    /// Networks that may not connect, even if they are allowed. Repeatable.
    #[arg(long, value_name = "CIDR", env = "UNINTERRUPTIBLE_DENY_NETWORK", help_heading = "Network")]
    pub deny_network: Vec<String>,

    /// Networks of trusted proxies, which must begin each connection with a PROXY header (version 1
    /// or 2); `unix` for proxies at unix listeners. Repeatable.
    #[arg(long, value_name = "CIDR", env = "UNINTERRUPTIBLE_PROXY_PROTOCOL", help_heading = "Network")]
    pub proxy_protocol: Vec<String>,

    /// Certificate chain of the server, in PEM. Turns TLS on for all listeners. Repeatable, each
    /// with its key; the client's server name selects one.
    #[arg(long, value_name = "FILE", env = "TLS_CERTIFICATE", hide_env_values = true, help_heading = "TLS")]
    pub tls_certificate: Vec<PathBuf>,

    /// Private key of the certificate at the same position, in PEM, not encrypted. Repeatable.
    #[arg(long, value_name = "FILE", env = "TLS_KEY", hide_env_values = true, help_heading = "TLS")]
    pub tls_key: Vec<PathBuf>,

    /// Oldest TLS version to accept, 1.2 or 1.3 [default: 1.2]
    #[arg(long, value_name = "VERSION", env = "TLS_VERSION", help_heading = "TLS")]
    pub tls_min_version: Option<String>,

    /// Application protocol to offer in ALPN, the preferred one first. Repeatable.
    #[arg(
        long,
        value_name = "PROTOCOL",
        env = "UNINTERRUPTIBLE_TLS_ALPN",
        value_delimiter = ',',
        help_heading = "TLS"
    )]
    pub tls_alpn: Vec<String>,

    /// Certificates of authorities, in PEM. Only clients with a certificate from one of these may
    /// connect.
    #[arg(long, value_name = "FILE", env = "CLIENT_TLS_CERTIFICATE_CA", hide_env_values = true, help_heading = "TLS")]
    pub client_ca: Option<PathBuf>,

    /// Do not start without --client-ca, which alone requires client certificates.
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

    /// Time for a TLS handshake.
    #[arg(
        long,
        value_name = "TIME",
        env = "UNINTERRUPTIBLE_HANDSHAKE_TIMEOUT",
        default_value = "10s",
        help_heading = "TLS"
    )]
    pub handshake_timeout: String,
}

/// The options that each route of a listener can have for itself: a plugin, its grants and its
/// limits.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HandlerOptions {
    /// Plugin that serves each connection: a WebAssembly component, or a WASI 0.1 program.
    #[arg(long, value_name = "FILE", env = "UNINTERRUPTIBLE_PLUGIN", help_heading = "Plugin")]
    pub plugin: Option<PathBuf>,

    /// Kind to serve, if the plugin's file has several, such as `handler-0.2` or `command-0.2`. `auto`
    /// takes the first that matches.
    #[arg(
        long,
        value_name = "KIND",
        env = "UNINTERRUPTIBLE_PLUGIN_KIND",
        default_value = "auto",
        help_heading = "Plugin"
    )]
    pub plugin_kind: String,

    /// When a guest starts: at `accept`, at the `first-byte`, or `auto` for the first byte if the
    /// plugin cannot tell the difference.
    #[arg(
        long,
        value_name = "WHEN",
        env = "UNINTERRUPTIBLE_GUEST_START",
        default_value = "auto",
        help_heading = "Plugin"
    )]
    pub guest_start: String,

    /// SHA-256 of the plugin in hexadecimal. The host rejects any other content, at a reload too.
    #[arg(long, value_name = "HEX", env = "UNINTERRUPTIBLE_PLUGIN_SHA256", help_heading = "Plugin")]
    pub plugin_sha256: Option<String>,

    /// Environment variable for guests, as NAME=VALUE, or NAME=@FILE for a secret. Repeatable.
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "UNINTERRUPTIBLE_GUEST_ENV",
        hide_env_values = true,
        help_heading = "Grants"
    )]
    pub guest_env: Vec<String>,

    /// Argument for guests. Repeatable.
    #[arg(
        long,
        value_name = "WORD",
        env = "UNINTERRUPTIBLE_GUEST_ARG",
        allow_hyphen_values = true,
        help_heading = "Grants"
    )]
    pub guest_arg: Vec<String>,

    /// Directory for guests, as HOST::GUEST. Read-only unless :rw follows. Repeatable.
    #[arg(long, value_name = "HOST::GUEST[:rw]", env = "UNINTERRUPTIBLE_GUEST_DIR", help_heading = "Grants")]
    pub guest_dir: Vec<String>,

    /// Destination of tcp connections that guests may make: an address, a network or a name, and a
    /// port or *. Repeatable.
    #[arg(
        long,
        value_name = "HOST-OR-CIDR:PORT",
        env = "UNINTERRUPTIBLE_GUEST_CONNECT",
        value_delimiter = ',',
        help_heading = "Grants"
    )]
    pub guest_connect: Vec<String>,

    /// Memory of one guest, over all its linear memories.
    #[arg(
        long,
        value_name = "SIZE",
        env = "UNINTERRUPTIBLE_GUEST_MEMORY",
        default_value = "64MiB",
        help_heading = "Limits"
    )]
    pub guest_memory: String,

    /// Memory of a finished guest that the host keeps for the next one. `auto` depends on the
    /// plugin and the machine.
    #[arg(
        long,
        value_name = "SIZE",
        env = "UNINTERRUPTIBLE_GUEST_MEMORY_KEPT",
        default_value = "auto",
        help_heading = "Limits"
    )]
    pub guest_memory_kept: String,

    /// CPU time that a guest may use while its connection transfers nothing.
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
