//! The command line: options, help, environment variables. It validates nothing; `config` does
//! that.

pub(crate) mod options;
mod refused;
mod spellings;

pub use options::{HandlerOptions, ListenerOptions, Options};
pub use refused::Refused;
pub use spellings::meant;

use super::What;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, parser::ValueSource};
use std::path::PathBuf;

/// Serves each connection with a fresh instance of a WebAssembly plugin.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, next_line_help = false, args_conflicts_with_subcommands = true)]
#[command(after_help = "Example: uninterruptible-host --plugin hello.wasm --bind tcp://0.0.0.0:7000\n\
    Times have a unit, as in 500ms, 30s or 5m. Sizes have one too, as in 64MiB. A configuration file uses the option names without dashes.\n\n\
    Signals: USR1 restarts without dropping a connection, HUP reloads plugins, certificates and listener options and reopens \
    the log, TERM or INT stops gracefully, a second one at once.\n\
    Exit codes: 0 success, 1 connections were closed early, 2 usage or configuration error, 3 system error, 70 bug, \
    75 handed back to the predecessor.")]
struct CommandLine {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    options: Options,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the configuration, plugins and files without serving, and print the resolved
    /// configuration.
    Check {
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Show the status of a running host.
    Status {
        #[command(flatten)]
        host: RunningHost,
        /// Print the status as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Restart a running host without dropping connections, and wait until the successor serves.
    /// Exits with 1 if that fails.
    Restart {
        #[command(flatten)]
        host: RunningHost,
        /// Wait until the rollback window is over.
        #[arg(long)]
        wait_settled: bool,
    },
    /// Return to the predecessor within the rollback window of a restart, or abort a restart that
    /// is under way.
    Rollback {
        #[command(flatten)]
        host: RunningHost,
    },
    /// Reload plugins, TLS files and listener options of a running host, and wait for the outcome.
    Reload {
        #[command(flatten)]
        host: RunningHost,
    },
    /// Stop a running host after its open connections have finished. A second stop closes them at
    /// once.
    Stop {
        #[command(flatten)]
        host: RunningHost,
    },
    /// Show the exports and imports of a plugin, and the grants that it needs.
    Inspect(PluginFile),
    /// Compile a plugin into the cache, ahead of a start or a reload.
    Compile(PluginFile),
    /// Create a directory with a new plugin: a handler, a test and a build script.
    New(NewProject),
}

/// The parsed command line.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The subcommand, if any.
    pub command: Option<Command>,
    /// The options of serving, with defaults for those that were not given.
    pub options: Options,
    /// The options that were given.
    pub given: Vec<Given>,
}

/// The work of a subcommand.
#[derive(Clone, Debug)]
pub enum Command {
    /// Check whether the host would start, and print the configuration.
    Check,
    /// Send a request to a running host.
    Ask(RunningHost, What),
    /// Describe a plugin.
    Inspect(PluginFile),
    /// Compile a plugin ahead of time.
    Compile(PluginFile),
    /// Create a project.
    New(NewProject),
}

/// A project to begin a plugin with.
#[derive(Args, Clone, Debug)]
pub struct NewProject {
    /// Language of the handler: rust, c, js or python.
    #[arg(long, value_name = "LANGUAGE")]
    pub lang: String,

    /// Name of the plugin: lower case letters, digits and dashes.
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// A host that runs, and how it is found.
#[derive(Args, Clone, Debug)]
pub struct RunningHost {
    /// Admin endpoint of the host, as given to its --admin.
    #[arg(long, value_name = "URI", env = "UNINTERRUPTIBLE_ADMIN")]
    pub admin: Option<String>,

    /// Configuration file of the host, if that names the endpoint.
    #[arg(long, value_name = "FILE", env = "UNINTERRUPTIBLE_CONFIG")]
    pub config: Option<PathBuf>,

    /// Time to wait for the outcome.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub timeout: String,
}

/// A plugin that is looked at and not served.
#[derive(Args, Clone, Debug)]
pub struct PluginFile {
    /// File of the plugin.
    #[arg(value_name = "PLUGIN")]
    pub plugin: PathBuf,

    /// Kind of the plugin, if its file has several, as for serving.
    #[arg(long, value_name = "KIND", env = "UNINTERRUPTIBLE_PLUGIN_KIND", default_value = "auto")]
    pub plugin_kind: String,

    /// Directory for compiled plugins, or `none` [default: as for serving].
    #[arg(long, value_name = "DIR", env = "UNINTERRUPTIBLE_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,

    /// Reject plugins that use WASI 0.3.
    #[arg(long, env = "UNINTERRUPTIBLE_DISABLE_WASI_0_3")]
    pub disable_wasi_0_3: bool,

    /// Engine's component layer, as when serving.
    #[arg(long, value_name = "WHEN", env = "UNINTERRUPTIBLE_COMPONENT_LAYER", default_value = "auto")]
    pub component_layer: String,

    /// Memory of one guest.
    #[arg(long, value_name = "SIZE", env = "UNINTERRUPTIBLE_GUEST_MEMORY", default_value = "64MiB")]
    pub guest_memory: String,
}

/// A given option.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its long name.
    pub name: String,
    /// The variable that set it, unless it was typed.
    pub variable: Option<String>,
}

impl Arguments {
    /// Parses the command line, and reads the environment for options that it does not set.
    ///
    /// # Errors
    ///
    /// If help or the version was requested, an option is unknown, or an option lacks its value.
    pub fn from_process() -> Result<Self, Refused> {
        let mut matches = CommandLine::command().try_get_matches().map_err(Refused)?;
        let given = given(matches.subcommand().map_or(&matches, |(_verb, matches)| matches));
        let CommandLine { verb, options } = CommandLine::from_arg_matches_mut(&mut matches).map_err(Refused)?;
        let (command, options) = match verb {
            None => (None, options),
            Some(Verb::Check { options }) => (Some(Command::Check), *options),
            Some(Verb::Status { host, json }) => {
                (Some(Command::Ask(host, if json { What::StatusAsJson } else { What::Status })), options)
            }
            Some(Verb::Restart { host, wait_settled }) => (
                Some(Command::Ask(host, if wait_settled { What::RestartUntilSettled } else { What::Restart })),
                options,
            ),
            Some(Verb::Rollback { host }) => (Some(Command::Ask(host, What::Rollback)), options),
            Some(Verb::Reload { host }) => (Some(Command::Ask(host, What::Reload)), options),
            Some(Verb::Stop { host }) => (Some(Command::Ask(host, What::Stop)), options),
            Some(Verb::Inspect(file)) => (Some(Command::Inspect(file)), options),
            Some(Verb::Compile(file)) => (Some(Command::Compile(file)), options),
            Some(Verb::New(project)) => (Some(Command::New(project)), options),
        };
        Ok(Self { command, options, given })
    }
}

/// The command line's definition, for the documents that are generated from it.
pub fn definition() -> clap::Command {
    CommandLine::command()
}

/// The arguments without a command line and without variables.
#[cfg(any(test, fuzzing))]
pub(crate) fn nothing_typed() -> Option<Arguments> {
    let matches = CommandLine::command().mut_args(|option| option.env(None::<&str>)).try_get_matches_from([""]);
    let CommandLine { options, .. } = CommandLine::from_arg_matches(&matches.ok()?).ok()?;
    Some(Arguments { command: None, options, given: Vec::new() })
}

/// The environment variables of options, each with the option's long name.
pub fn variables() -> Vec<(String, String)> {
    let command = CommandLine::command();
    let variables = command.get_arguments().filter_map(|option| Some((option.get_env()?, option.get_long()?)));
    variables.map(|(variable, name)| (variable.to_string_lossy().into_owned(), name.to_owned())).collect()
}

fn given(matches: &ArgMatches) -> Vec<Given> {
    let command = CommandLine::command();
    let given = command.get_arguments().filter_map(|option| {
        // Another subcommand may not have this option.
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
