//! The one state machine of the process. Nothing else changes its state.
//!
//! ```text
//!   Starting ──► Serving ──TERM──► Stopping ──► exit
//!      │  boot error, TERM             │  second TERM, drain deadline
//!      └──────────────► exit ◄─────────┘
//! ```
//!
//! | State    | TERM, INT         | USR1            | HUP                              |
//! |----------|-------------------|-----------------|----------------------------------|
//! | Starting | exit              | refused, logged | ignored: the configuration is fresh |
//! | Serving  | Stopping          | refused, logged | refused, logged                  |
//! | Stopping | exit 1 at once    | refused, logged | refused, logged                  |
//!
//! It runs on the main thread, apart from the workers: no load on these delays it.

use crate::{
    accept, anchor,
    bind::{self, Listener, ListenerAddress},
    config::{self, Config},
    connection::Service,
    drain::Connections,
    exit::Exit,
    guest::{LoadError, Plugin, Source},
    notify::Notifier,
    pidfile::{self, PidFile},
    signals::{Signal, Signals},
};
use std::{
    io::{self, Write},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};
use tokio::{
    runtime,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{self, Instant},
};
use tracing::{error, info, warn};

/// How long the workers may take to let go of what is left, when the process ends before its connections do.
const LET_GO: Duration = Duration::from_millis(500);

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be served.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The plugin cannot be served.
    #[error(transparent)]
    Plugin(#[from] LoadError),
    /// The system refused a listener.
    #[error(transparent)]
    Bind(#[from] bind::Error),
    /// There can be no anchor.
    #[error(transparent)]
    Anchor(#[from] anchor::Error),
    /// There can be no pidfile.
    #[error(transparent)]
    PidFile(#[from] pidfile::Error),
    /// The system refused signal handlers.
    #[error("signal handlers: {0}")]
    Signals(io::Error),
    /// The system refused threads or a reactor.
    #[error("--workers: the system refuses threads or a reactor: {0}")]
    Runtime(io::Error),
    /// This program is wrong.
    #[error("a bug in uninterruptible-host: {0}")]
    Bug(String),
}

impl Failure {
    /// The exit code that says whose fault it is.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) => Exit::Usage,
            Self::Plugin(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::Plugin(_) => Exit::Usage,
            Self::PidFile(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::PidFile(_) => Exit::Usage,
            Self::Anchor(_) | Self::Bind(_) | Self::Signals(_) | Self::Runtime(_) => Exit::System,
            Self::Bug(_) => Exit::Bug,
        }
    }
}

/// Runs the process until it has served.
///
/// # Errors
///
/// Where it cannot start.
pub fn run(config: Config, signals: Signals) -> Result<Exit, Failure> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(config.workers.get() as usize)
        .thread_name("worker")
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let exit =
        runtime.block_on(Lifecycle { notifier: Notifier::new(config.notify_socket.as_deref()), config, signals }.run());
    // Connections that are left are closed here, each with its record in the log.
    runtime.shutdown_timeout(LET_GO);
    exit
}

struct Lifecycle {
    config: Config,
    signals: Signals,
    notifier: Notifier,
}

enum State {
    Starting(JoinHandle<Result<Plugin, LoadError>>),
    Serving(Serving),
    Stopping(Serving, Instant),
    Ended(Exit),
}

/// What a process that serves consists of.
struct Serving {
    /// Owned by their accept loops, which close them.
    listeners: Vec<Weak<Listener>>,
    acceptors: JoinSet<()>,
    connections: Connections,
    retire: watch::Sender<bool>,
    /// Removed when this ends.
    _pidfile: Option<PidFile>,
}

impl Lifecycle {
    async fn run(mut self) -> Result<Exit, Failure> {
        if let Some(path) = &self.config.pidfile {
            pidfile::check(path)?;
        }
        let source = Source {
            path: self.config.plugin.clone(),
            cache_dir: self.config.cache_dir.clone(),
            start: self.config.guest_start,
            wasi_0_3: self.config.wasi_0_3,
            limits: self.config.limits,
            workers: self.config.workers,
        };
        let mut state = State::Starting(tokio::task::spawn_blocking(move || Plugin::load(&source)));
        loop {
            state = match state {
                State::Starting(loading) => self.starting(loading).await?,
                State::Serving(serving) => self.serving(serving).await,
                State::Stopping(serving, deadline) => self.stopping(serving, deadline).await,
                State::Ended(exit) => return Ok(exit),
            };
        }
    }

    async fn starting(&mut self, mut loading: JoinHandle<Result<Plugin, LoadError>>) -> Result<State, Failure> {
        tokio::select! {
            biased;
            signal = self.signals.next() => {
                match signal {
                    Signal::Terminate => {
                        info!("stopped before anything was served");
                        return Ok(State::Ended(Exit::Finished));
                    }
                    Signal::Restart => warn!("USR1 is refused: still starting"),
                    Signal::Reload => info!("HUP is ignored: still starting, the configuration is fresh"),
                }
                Ok(State::Starting(loading))
            }
            loaded = &mut loading => {
                let plugin = loaded.map_err(|panic| Failure::Bug(panic.to_string()))??;
                self.open(plugin).map(State::Serving)
            }
        }
    }

    /// Opens the listeners: the last step of booting, and the only one that the outside can see.
    fn open(&self, plugin: Plugin) -> Result<Serving, Failure> {
        let bound = self.config.binds.iter().map(|bind| Listener::bind(*bind, self.config.backlog).map(Arc::new));
        let listening = bound.collect::<Result<Vec<_>, _>>()?;
        let listeners = listening.iter().map(Arc::downgrade).collect();
        let connections = Connections::new(self.config.limits.max_connections);
        let service = Arc::new(Service::new(plugin, self.config.limits));
        let pidfile = self.config.pidfile.as_deref().map(PidFile::claim).transpose()?;
        let (retire, _) = watch::channel(false);
        let mut acceptors = JoinSet::new();
        let addresses: Vec<_> = listening.iter().map(|listener| listener.address()).collect();
        for listener in listening {
            acceptors.spawn(accept::serve(listener, connections.clone(), Arc::clone(&service), retire.subscribe()));
        }
        for address in &addresses {
            info!(%address, "listening");
        }
        self.notifier.ready(&match addresses.len() {
            1 => "generation 1 serves 1 listener".into(),
            listeners => format!("generation 1 serves {listeners} listeners"),
        });
        announce(addresses);
        Ok(Serving { listeners, acceptors, connections, retire, _pidfile: pidfile })
    }

    async fn serving(&mut self, mut serving: Serving) -> State {
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Terminate => {
                    info!(open = serving.connections.open(), "stopping: no new arrivals, waiting for connections to finish");
                    self.notifier.stopping("generation 1 stops: no new arrivals, open connections may finish");
                    serving.connections.begin_draining();
                    serving.retire.send_replace(true);
                    State::Stopping(serving, Instant::now() + self.config.drain_timeout)
                }
                Signal::Restart => {
                    warn!("USR1 is refused: this version cannot restart in place");
                    State::Serving(serving)
                }
                Signal::Reload => {
                    warn!("HUP is refused: this version cannot reload");
                    State::Serving(serving)
                }
            },
            ended = serving.acceptors.join_next() => {
                // An accept loop ends only when it is told to.
                error!(?ended, "a bug in uninterruptible-host: a listener is no longer served");
                State::Ended(Exit::Bug)
            }
        }
    }

    async fn stopping(&mut self, mut serving: Serving, deadline: Instant) -> State {
        let finished = async {
            while serving.acceptors.join_next().await.is_some() {}
            serving.connections.finished().await;
        };
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Terminate => {
                    warn!(open = serving.connections.open(), "stopped at once by a second signal");
                    return State::Ended(Exit::CutShort);
                }
                Signal::Restart => warn!("USR1 is refused: stopping"),
                Signal::Reload => warn!("HUP is refused: stopping"),
            },
            () = finished => {
                info!("every connection has finished");
                return State::Ended(Exit::Finished);
            }
            () = time::sleep_until(deadline) => {
                let queued: u32 = serving.listeners.iter().filter_map(|listener| Some(listener.upgrade()?.queue()?.waiting)).sum();
                warn!(open = serving.connections.open(), queued, "the drain timeout has passed; what is left is cut");
                return State::Ended(Exit::CutShort);
            }
        }
        State::Stopping(serving, deadline)
    }
}

/// The ready lines, for whoever started the process: the only thing on standard output, ever. Written by a thread of their own,
/// since a pipe that is full and that nobody reads would keep whoever writes to it for ever.
fn announce(addresses: Vec<ListenerAddress>) {
    let write = move || {
        let mut out = io::stdout().lock();
        for address in addresses {
            if let Err(error) = writeln!(out, "listening {address}").and_then(|()| out.flush()) {
                warn!(%error, "the ready line could not be written to standard output");
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("ready-line".into()).spawn(write) {
        warn!(%error, "the ready line could not be written to standard output");
    }
}
