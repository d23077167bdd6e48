//! The one state machine of the process. Nothing else changes its state.
//!
//! ```text
//!   Starting ─► Serving ─► Offering ─commit─► Committed ─serving─► Watching ─settled─► Draining ─►
//! exit
//!      │           ▲ ▲         │ failed, late      │ dead              │ dead, or `yield`
//!      │           │ └─────────┴───────────────────┴───────────────────┘
//!      └─► Adopting ─serving─► Probation ─settled─► Serving
//!   any state ─TERM─► Stopping ─► exit                                (exact effect: the table
//! below)
//! ```
//!
//! | State              | TERM, INT                        | USR1                          | HUP                     |
//! |--------------------|----------------------------------|-------------------------------|-------------------------|
//! | Starting, Adopting | sends `failed`, exit             | rejected                      | ignored: all is fresh   |
//! | Serving            | Stopping                         | Offering                      | reload                  |
//! | Offering           | `abort`, the child is reaped, Stopping | part of the one under way | after the outcome       |
//! | Committed          | after the outcome                | part of the one under way     | after the outcome       |
//! | Watching           | `forward` stop, settle, Draining | `forward` restart, settle, Draining | `forward` reload  |
//! | Probation          | `leaving`, then Stopping         | `leaving`, then Offering      | reload                  |
//! | Draining           | first: goes on; second: exit 1   | rejected                      | the log alone           |
//! | Stopping           | exit 1 at once                   | rejected                      | the log alone           |
//!
//! The commands `restart`, `reload` and `stop` at the admin endpoint act like the signals and get
//! an answer. `rollback` has no signal: in Probation it sends `yield`, in Offering it aborts the
//! restart, elsewhere it is rejected. The process that serves has the endpoint: a predecessor that
//! watches takes no commands there.
//!
//! In every state HUP reopens the log file at once, in this process and in earlier generations that
//! drain. A forwarded stop is the signal that the predecessor got: only a second one after it
//! closes open connections.
//!
//! It runs on the main thread, apart from the workers, so that load on these does not delay it.
pub mod anchor;
mod boot;
mod commands;
mod current;
mod end;
mod error;
mod listeners;
pub mod notify;
pub mod pidfile;
mod predecessor;
pub mod reopen;
mod serving;
mod successor;
pub mod watch;

pub use error::Error;

use self::{
    commands::{Commands, Waiting},
    end::{Draining, StopCause},
    notify::Notifier,
    predecessor::Deferred,
    serving::{Event, Serving},
    watch::Watch,
};
use crate::{
    admin::{self, Outcome, Phase, Snapshot},
    config::{self, Config},
    connection::service::Services,
    handoff::{
        adopt::{Inheritance, Predecessor},
        message::Stage,
        offer::Successor,
    },
    net::{Activation, Key},
    record::{exit::Exit, generation::Generation},
    system::signals::Signals,
    wire::tls::TicketKeys,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime,
    task::JoinHandle,
    time::{self, Instant},
};
use tracing::{error, info, warn};

/// How long the workers may take to close the open connections, when the process ends before them.
const LET_GO: Duration = Duration::from_millis(500);

/// How often the runtime's clock has a timer, at least. A task that starts a longer wait then need
/// not wake the worker that watches the clock. Each connection has several deadlines that almost
/// never pass.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How many events a worker takes from the reactor at once. Those that it has taken wait while the
/// kernel runs something else on its processor; other workers take the rest
/// (docs/internals/costs.md).
const EVENTS_AT_ONCE: usize = 16;

/// Threads that wait for disks and resolvers, for guests with grants of files or names. With more
/// of them, such guests would leave the workers too little processor time.
const WAITING_THREADS: usize = 64;

/// Runs the process until it has served its listeners. With an `inheritance` it runs as the
/// successor of the process that left it.
///
/// # Errors
///
/// If it cannot start.
pub fn run(
    config: Config,
    activation: Activation,
    signals: Signals,
    inheritance: Option<Inheritance>,
) -> Result<Exit, Error> {
    for (found, meant) in config::unread_variables() {
        warn!(variable = found, suggestion = meant, "unknown environment variable");
    }
    if let Some(supervision) = &config.supervision {
        warn!(detail = %supervision, remedy = "start the host with --anchor, or without --anchor=never", "hot restarts disabled");
    }
    if let Some(reduced_default) = &config.reduced_default {
        info!(detail = %reduced_default, "max-connections lowered");
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(config.workers.get() as usize)
        .max_io_events_per_tick(EVENTS_AT_ONCE)
        .max_blocking_threads(WAITING_THREADS)
        .thread_name("worker")
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.spawn(async {
        loop {
            time::sleep(HEARTBEAT).await;
        }
    });
    let exit = runtime.block_on(async {
        let predecessor = inheritance.map(Inheritance::predecessor).transpose()?;
        let notifier = Notifier::new(config.notify_socket.as_deref());
        let (config, ticket_keys) = (Arc::new(config), Arc::default());
        let (queue, inbox) = admin::open();
        let lifecycle = Lifecycle {
            config,
            activation,
            ticket_keys,
            commands: Commands::new(signals, inbox),
            queue,
            waiting: Waiting::default(),
            started: admin::Moment::now(),
            notifier,
            watch: None,
            generation: Generation::FIRST,
        };
        lifecycle.run(predecessor).await
    });
    // The remaining connections are closed here, each with its log record.
    runtime.shutdown_timeout(LET_GO);
    exit
}

struct Lifecycle {
    config: Arc<Config>,
    /// The sockets from the service manager, until they are served.
    activation: Activation,
    commands: Commands,
    /// The admin endpoint's side of the queue: it sends commands and reads the status.
    queue: admin::Queue,
    waiting: Waiting,
    started: admin::Moment,
    notifier: Notifier,
    ticket_keys: Arc<TicketKeys>,
    /// Until this process serves.
    watch: Option<Watch>,
    generation: Generation,
}

/// The services, the watcher of their files, and a predecessor that did not start this process.
type Loaded = (Services, Option<Watch>, Option<Predecessor>);

enum State {
    Starting(JoinHandle<Result<Loaded, Error>>, Option<Predecessor>),
    Adopting(Services, Predecessor),
    Probation(Serving, Predecessor),
    Serving(Serving),
    Offering(Serving, Successor, Deferred),
    Committed(Serving, Successor, Vec<Key>, Deferred),
    Watching(Serving, Successor, Vec<Key>, Instant),
    Draining(Draining),
    Stopping(Serving, Instant, StopCause),
    Ended(Exit),
}

impl Lifecycle {
    async fn run(mut self, predecessor: Option<Predecessor>) -> Result<Exit, Error> {
        if let Some(Err(error)) = self.config.pidfile.as_deref().map(pidfile::check) {
            if let Some(predecessor) = &predecessor {
                predecessor.fail(Stage::Configuration, &error.to_string()).await;
            }
            return Err(error.into());
        }
        let (config, ticket_keys) = (Arc::clone(&self.config), Arc::clone(&self.ticket_keys));
        let child = predecessor.is_some();
        let loading = tokio::task::spawn_blocking(move || {
            let watch = Watch::over(&config).map_err(Error::Watch)?;
            let services = Services::load(&config.plans(), config.max_connections, &ticket_keys)?;
            // Last, since a predecessor waits only a few seconds for the next message.
            let stranger = config.handoff.take_over.as_ref().filter(|_| !child).map(Predecessor::at).transpose()?;
            Ok((services, watch, stranger.flatten()))
        });
        let mut state = State::Starting(loading, predecessor);
        loop {
            self.show(&state);
            self.waiting.deliver();
            state = match state {
                State::Starting(loading, predecessor) => self.starting(loading, predecessor).await?,
                State::Adopting(services, predecessor) => self.adopting(services, predecessor).await?,
                State::Probation(serving, predecessor) => self.probation(serving, predecessor).await,
                State::Serving(serving) => self.serving(serving).await,
                State::Offering(serving, successor, deferred) => self.offering(serving, successor, deferred).await,
                State::Committed(serving, successor, claimed, deferred) => {
                    self.committed(serving, successor, claimed, deferred).await
                }
                State::Watching(serving, successor, claimed, until) => {
                    self.watching(serving, successor, claimed, until).await
                }
                State::Draining(draining) => self.draining(draining).await,
                State::Stopping(serving, deadline, cause) => self.stopping(serving, deadline, cause).await,
                State::Ended(exit) => {
                    self.waiting.fail_all(Outcome::Failed, "the process has ended");
                    self.waiting.deliver();
                    // Waits until every answer was sent.
                    drop(time::timeout(LET_GO, self.commands.admin.finished()).await);
                    return Ok(exit);
                }
            };
        }
    }

    /// Publishes the status of the process.
    fn show(&self, state: &State) {
        let (phase, serving, successor) = match state {
            State::Starting(..) | State::Adopting(..) | State::Ended(_) => return,
            State::Probation(serving, _) => (Phase::Probation, serving, None),
            State::Serving(serving) => (Phase::Serving, serving, None),
            State::Offering(serving, successor, _) => (Phase::Offering, serving, Some(successor.pid())),
            State::Committed(serving, successor, ..) => (Phase::Committed, serving, Some(successor.pid())),
            State::Watching(serving, successor, ..) => (Phase::Watching, serving, Some(successor.pid())),
            State::Draining(draining) => (Phase::Draining, &draining.serving, None),
            State::Stopping(serving, ..) => (Phase::Stopping, serving, None),
        };
        self.show_serving(phase, serving, successor);
    }

    fn show_serving(&self, phase: Phase, serving: &Serving, successor: Option<i32>) {
        if self.config.admin.is_none() {
            return;
        }
        self.commands.admin.publish(Snapshot {
            generation: self.generation,
            phase,
            started: self.started,
            listeners: serving.listening(),
            plugins: serving.plugins(),
            connections: serving.connections.clone(),
            successor,
            restart: self.waiting.last_restart.clone(),
            reload: self.waiting.last_reload.clone(),
        });
    }

    /// A status line for the service manager.
    fn status(&self, does: &str) -> String {
        format!("generation {} {does}", self.generation)
    }
}

fn bug(event: Event) -> State {
    if let Event::Bug(bug) = event {
        error!(detail = bug, "bug in uninterruptible-host");
    }
    State::Ended(Exit::Bug)
}
