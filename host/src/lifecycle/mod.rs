//! The one state machine of the process. Nothing else changes its state.
//!
//! ```text
//!   Starting ─► Serving ─► Offering ─commit─► Committed ─serving─► Watching ─settled─► Draining ─► exit
//!      │           ▲ ▲         │ failed, late      │ dead              │ dead, or `yield`
//!      │           │ └─────────┴───────────────────┴───────────────────┘
//!      └─► Adopting ─serving─► Probation ─settled─► Serving
//!   any state ─TERM─► Stopping ─► exit                                (exact effect: the table below)
//! ```
//!
//! | State              | TERM, INT                        | USR1                          | HUP                     |
//! |--------------------|----------------------------------|-------------------------------|-------------------------|
//! | Starting, Adopting | `failed` is sent, exit           | refused                       | ignored: all is fresh   |
//! | Serving            | Stopping                         | Offering                      | reload                  |
//! | Offering           | `abort`, the child is reaped, Stopping | part of the one under way | after the outcome       |
//! | Committed          | after the outcome                | part of the one under way     | after the outcome       |
//! | Watching           | `forward` stop, settle, Draining | `forward` restart, settle, Draining | `forward` reload  |
//! | Probation          | `leaving`, then Stopping         | `leaving`, then Offering      | reload                  |
//! | Draining           | first: goes on; second: exit 1   | refused                       | refused                 |
//! | Stopping           | exit 1 at once                   | refused                       | refused                 |
//!
//! It runs on the main thread, apart from the workers: no load on these delays it.

mod boot;
mod serving;

use crate::{
    anchor,
    bind::{self, Key, SocketPath},
    config::{self, Config},
    exit::Exit,
    fault,
    guest::{LoadError, Plugin, Source},
    handoff::{
        Generation,
        adopt::{self, Inheritance, Origin, Predecessor},
        door::Visitor,
        message::{Message, Stage, Verb},
        offer::{self, Successor},
    },
    log,
    notify::Notifier,
    pidfile::{self, PidFile},
    signals::{Signal, Signals},
};
use serving::{Event, Serving};
use std::{io, pin::pin, time::Duration};
use tokio::{
    runtime,
    task::JoinHandle,
    time::{self, Instant},
};
use tracing::{error, info, warn};

/// How long the workers may take to let go of what is left, when the process ends before its connections do.
const LET_GO: Duration = Duration::from_millis(500);

/// How long a successor that was told to stop or restart within the window waits for its predecessor to let go.
const LEAVE: Duration = Duration::from_secs(1);

/// How long the service manager may take to take notice of its new main process.
const NOTICE: Duration = Duration::from_secs(1);

/// How often a successor is told how many connections its predecessor has left.
const REPORT: Duration = Duration::from_secs(1);

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
    /// The predecessor has a listener that stands in the way of one of this process's.
    #[error(
        "--bind {wanted}: the predecessor listens on {served}, and one port cannot change between a specific and the wildcard address while it \
         is served; bind it as before, or stop and start"
    )]
    Contradiction {
        /// What was to be bound.
        wanted: Key,
        /// What is.
        served: Key,
    },
    /// A listener that was offered is not what it is said to be.
    #[error("the predecessor's offer is refused: {0}")]
    Offered(#[from] bind::AdoptError),
    /// The socket for successors.
    #[error("--handoff-socket {path}: {obstacle}")]
    Door {
        /// Where it was to be.
        path: SocketPath,
        /// What is in the way.
        obstacle: bind::Obstacle,
    },
    /// There can be no anchor.
    #[error(transparent)]
    Anchor(#[from] anchor::Error),
    /// The file with the process id.
    #[error(transparent)]
    PidFile(#[from] pidfile::Error),
    /// The predecessor does not hand over.
    #[error(transparent)]
    Handoff(#[from] adopt::Error),
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
            Self::Config(_) | Self::Contradiction { .. } => Exit::Usage,
            Self::Plugin(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::Plugin(_) => Exit::Usage,
            Self::PidFile(error) if error.is_refusal_of_the_system() => Exit::System,
            Self::PidFile(_) => Exit::Usage,
            Self::Handoff(error) if error.is_refusal_of_the_predecessor() => Exit::HandedBack,
            Self::Anchor(_)
            | Self::Bind(_)
            | Self::Offered(_)
            | Self::Door { .. }
            | Self::Handoff(_)
            | Self::Signals(_)
            | Self::Runtime(_) => Exit::System,
            Self::Bug(_) => Exit::Bug,
        }
    }
}

/// Runs the process until it has served: as the successor of whoever has left an `inheritance`, where anybody has.
///
/// # Errors
///
/// Where it cannot start.
pub fn run(config: Config, signals: Signals, inheritance: Option<Inheritance>) -> Result<Exit, Failure> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(config.workers.get() as usize)
        .thread_name("worker")
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let exit = runtime.block_on(async {
        let predecessor = inheritance.map(Inheritance::predecessor).transpose()?;
        let notifier = Notifier::new(config.notify_socket.as_deref());
        Lifecycle { config, signals, notifier, generation: Generation::FIRST }.run(predecessor).await
    });
    // Connections that are left are closed here, each with its record in the log.
    runtime.shutdown_timeout(LET_GO);
    exit
}

struct Lifecycle {
    config: Config,
    signals: Signals,
    notifier: Notifier,
    generation: Generation,
}

enum State {
    Starting(JoinHandle<Result<Plugin, LoadError>>, Option<Predecessor>),
    Adopting(Plugin, Predecessor),
    Probation(Serving, Predecessor),
    Serving(Serving),
    Offering(Serving, Successor, Deferred),
    Committed(Serving, Successor, Vec<Key>, Deferred),
    Watching(Serving, Successor, Vec<Key>, Instant),
    Draining(Draining),
    Stopping(Serving, Instant),
    Ended(Exit),
}

/// What was asked for while a restart is under way, to be done when its outcome is known.
#[derive(Clone, Copy, Debug, Default)]
struct Deferred {
    stop: bool,
    reload: bool,
}

/// A process that somebody else serves in place of, and that finishes what it had accepted.
struct Draining {
    serving: Serving,
    /// To whom it reports, where it is not a successor that gave the service back.
    successor: Option<Successor>,
    deadline: Option<Instant>,
    reported: Option<u64>,
    told_to_stop: bool,
    exit: Exit,
}

impl Lifecycle {
    async fn run(mut self, predecessor: Option<Predecessor>) -> Result<Exit, Failure> {
        if let Some(Err(error)) = self.config.pidfile.as_deref().map(pidfile::check) {
            if let Some(predecessor) = &predecessor {
                predecessor.fail(Stage::Configuration, &error.to_string()).await;
            }
            return Err(error.into());
        }
        let source = self.source();
        let loading = tokio::task::spawn_blocking(move || Plugin::load(&source));
        let mut state = State::Starting(loading, predecessor);
        loop {
            state = match state {
                State::Starting(loading, predecessor) => self.starting(loading, predecessor).await?,
                State::Adopting(plugin, predecessor) => self.adopting(plugin, predecessor).await?,
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
                State::Stopping(serving, deadline) => self.stopping(serving, deadline).await,
                State::Ended(exit) => return Ok(exit),
            };
        }
    }

    fn source(&self) -> Source {
        Source {
            path: self.config.plugin.clone(),
            cache_dir: self.config.cache_dir.clone(),
            start: self.config.guest_start,
            wasi_0_3: self.config.wasi_0_3,
            limits: self.config.limits,
            workers: self.config.workers,
        }
    }

    async fn starting(
        &mut self,
        mut loading: JoinHandle<Result<Plugin, LoadError>>,
        mut predecessor: Option<Predecessor>,
    ) -> Result<State, Failure> {
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Terminate => {
                    info!("stopped before anything was served");
                    if let Some(predecessor) = predecessor {
                        predecessor.fail(Stage::Loading, "it was told to stop").await;
                    }
                    return Ok(State::Ended(Exit::Finished));
                }
                Signal::Restart => warn!("USR1 is refused: still starting"),
                Signal::Reload => info!("HUP is ignored: still starting, the configuration is fresh"),
            },
            reason = called_off(&mut predecessor) => return Err(reason.into()),
            loaded = &mut loading => {
                let loaded = loaded.map_err(|panic| Failure::Bug(panic.to_string())).and_then(|loaded| Ok(loaded?));
                if let (Err(failure), Some(predecessor)) = (&loaded, &predecessor) {
                    predecessor.fail(Stage::Loading, &failure.to_string()).await;
                }
                let plugin = loaded?;
                let predecessor = match (predecessor, &self.config.handoff.take_over) {
                    (None, Some(path)) => Predecessor::at(path)?,
                    (predecessor, _) => predecessor,
                };
                return match (predecessor, &self.config.handoff.take_over) {
                    (Some(predecessor), _) => Ok(State::Adopting(plugin, predecessor)),
                    (None, Some(path)) => {
                        info!(%path, "nobody hands over there: starting cold");
                        self.start_cold(plugin).map(State::Serving)
                    }
                    (None, None) => self.start_cold(plugin).map(State::Serving),
                };
            }
        }
        Ok(State::Starting(loading, predecessor))
    }

    async fn adopting(&mut self, plugin: Plugin, mut predecessor: Predecessor) -> Result<State, Failure> {
        let outcome = {
            let mut exchange = pin!(boot::adopt(&self.config, &mut predecessor));
            loop {
                tokio::select! {
                    biased;
                    signal = self.signals.next() => match signal {
                        Signal::Terminate => break None,
                        Signal::Restart => warn!("USR1 is refused: still starting"),
                        Signal::Reload => info!("HUP is ignored: still starting, the configuration is fresh"),
                    },
                    adopted = &mut exchange => break Some(adopted),
                }
            }
        };
        let adopted = match outcome {
            Some(Ok(adopted)) => adopted,
            Some(Err(failure)) => {
                predecessor.fail(Stage::Adopting, &failure.to_string()).await;
                return Err(failure);
            }
            None => {
                info!("stopped before anything was served");
                predecessor.fail(Stage::Adopting, "it was told to stop").await;
                return Ok(State::Ended(Exit::Finished));
            }
        };
        self.generation = adopted.generation;
        log::identify(self.generation);
        let consent = adopted.consent;
        let serving = self.accept(plugin, adopted)?;
        Ok(match consent {
            adopt::Consent::Commit => {
                info!("serving; the predecessor watches");
                State::Probation(serving, predecessor)
            }
            adopt::Consent::Inherited => State::Serving(self.settled(serving, predecessor, adopt::Event::Gone)),
        })
    }

    async fn probation(&mut self, mut serving: Serving, mut predecessor: Predecessor) -> State {
        let mut forwarded = None;
        let mut yielded = false;
        loop {
            tokio::select! {
                biased;
                signal = self.signals.next() => match signal {
                    Signal::Terminate => {
                        let serving = self.leave(serving, predecessor, Verb::Stop).await;
                        return self.stop(serving).await;
                    }
                    Signal::Restart => {
                        let serving = self.leave(serving, predecessor, Verb::Restart).await;
                        return self.restart(serving);
                    }
                    Signal::Reload => serving.reload(self.source()),
                },
                event = predecessor.event() => match event {
                    adopt::Event::Settled | adopt::Event::Gone => {
                        let serving = self.settled(serving, predecessor, event);
                        return match forwarded {
                            Some(Verb::Stop) => self.stop(serving).await,
                            Some(Verb::Restart) => self.restart(serving),
                            Some(Verb::Reload) | None => State::Serving(serving),
                        };
                    }
                    adopt::Event::Forward(Verb::Reload) => serving.reload(self.source()),
                    // The predecessor lets go next, and this process must be on its own for what was asked of it.
                    adopt::Event::Forward(verb) => forwarded = Some(verb),
                    adopt::Event::Resumed => return self.hand_back(serving).await,
                    adopt::Event::Draining(_) => {}
                },
                event = serving.event(Some("this process has just taken over; try again when its predecessor has let go")) => {
                    return bug(event);
                }
                () = fault::rollback(), if !yielded => {
                    warn!("rolling back: the predecessor is asked to serve again");
                    predecessor.tell(Message::Yield {}).await;
                    yielded = true;
                }
            }
        }
    }

    /// Says to the predecessor that it must let go now, and waits until it has.
    async fn leave(&mut self, serving: Serving, mut predecessor: Predecessor, to: Verb) -> Serving {
        predecessor.tell(Message::Leaving { to }).await;
        let let_go = async {
            loop {
                let event = predecessor.event().await;
                if matches!(event, adopt::Event::Settled | adopt::Event::Gone) {
                    return event;
                }
            }
        };
        let event = match time::timeout(LEAVE, let_go).await {
            Ok(event) => event,
            Err(_elapsed) => {
                warn!("the predecessor does not let go; going on without its word");
                adopt::Event::Gone
            }
        };
        self.settled(serving, predecessor, event)
    }

    /// This process is the service from now on: what names it is made to name this one.
    fn settled(&mut self, mut serving: Serving, predecessor: Predecessor, how: adopt::Event) -> Serving {
        serving.own(self.config.backlog);
        if let Some(path) = &self.config.pidfile {
            match PidFile::take_over(path) {
                Ok(pidfile) => serving.pidfile = Some(pidfile),
                Err(error) => error!("the pidfile still names the predecessor: {error}"),
            }
        }
        // A predecessor that started this process has told the service manager; one that is dead, or of another unit, has not.
        if how == adopt::Event::Gone || predecessor.origin() == Origin::Stranger {
            self.notifier.ready_as(std::process::id(), &self.status("serves"));
        }
        match how {
            adopt::Event::Gone => warn!("the predecessor is gone before it let go; serving alone"),
            _ => {
                if let (Some(before), Some(peer)) = (self.generation.previous(), predecessor.peer()) {
                    serving.remember(before, peer);
                }
                serving.predecessor = Some(predecessor);
                info!("settled: this process is the service");
            }
        }
        serving
    }

    /// The predecessor serves again: this process finishes what it has accepted.
    async fn hand_back(&mut self, mut serving: Serving) -> State {
        info!(open = serving.connections.open(), "handed back: the predecessor serves again");
        serving.hand_back().await;
        State::Draining(Draining {
            serving,
            successor: None,
            deadline: self.config.handoff.drain_timeout.map(|timeout| Instant::now() + timeout),
            reported: None,
            told_to_stop: false,
            exit: Exit::HandedBack,
        })
    }

    async fn serving(&mut self, mut serving: Serving) -> State {
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Terminate => self.stop(serving).await,
                Signal::Restart => self.restart(serving),
                Signal::Reload => {
                    self.reload(&mut serving);
                    State::Serving(serving)
                }
            },
            event = serving.event(None) => match event {
                Event::Visitor(visitor) => self.visited(serving, visitor).await,
                Event::Reloaded(does) => {
                    self.notifier.ready(&self.status(does));
                    State::Serving(serving)
                }
                bug => self::bug(bug),
            }
        }
    }

    async fn stop(&mut self, mut serving: Serving) -> State {
        info!(open = serving.connections.open(), "stopping: no new arrivals, waiting for connections to finish");
        self.notifier.stopping(&self.status("stops, and waits for connections to finish"));
        serving.stop().await;
        State::Stopping(serving, Instant::now() + self.config.drain_timeout)
    }

    /// As the service. Within the window that is the predecessor for the service manager, which takes no word from this process.
    fn reload(&self, serving: &mut Serving) {
        self.notifier.reloading(&self.status("serves, and reads its plugin anew"));
        serving.reload(self.source());
    }

    fn restart(&mut self, mut serving: Serving) -> State {
        // Before anything can fail: a service manager that has sent the signal waits for both words.
        self.notifier.reloading(&self.status("serves, and gets a successor ready"));
        if let Some(reason) = self.too_many(&mut serving) {
            error!("the restart is refused: {reason}");
            self.notifier.ready(&self.status("serves; its last restart was refused"));
            return State::Serving(serving);
        }
        let estate = serving.estate(self.generation);
        match Successor::start(&self.config.handoff.start, estate, self.config.handoff.ready_timeout) {
            Ok(successor) => {
                info!(successor = successor.pid(), "restarting: a successor was started");
                State::Offering(serving, successor, Deferred::default())
            }
            Err(failure) => {
                error!("the restart failed, this process serves on: {failure}");
                self.notifier.ready(&self.status("serves; its last restart failed"));
                State::Serving(serving)
            }
        }
    }

    async fn visited(&mut self, mut serving: Serving, visitor: Visitor) -> State {
        if let Some(reason) = self.too_many(&mut serving) {
            error!("the restart is refused: {reason}");
            visitor.refuse(&reason).await;
            return State::Serving(serving);
        }
        match Successor::came(visitor, serving.estate(self.generation)) {
            Ok(successor) => {
                info!(successor = successor.pid(), "restarting: a successor asks for the service");
                State::Offering(serving, successor, Deferred::default())
            }
            Err((failure, visitor)) => {
                warn!("a successor is refused: {failure}");
                visitor.refuse(&failure.to_string()).await;
                State::Serving(serving)
            }
        }
    }

    /// Why one more generation cannot drain, where it cannot.
    fn too_many(&self, serving: &mut Serving) -> Option<String> {
        let draining = serving.earlier();
        let most = self.config.handoff.max_draining.get();
        (draining.len() >= most as usize).then(|| {
            let named = draining.iter().map(|(generation, peer)| format!("{generation} (pid {})", peer.pid()));
            format!(
                "--max-draining {most} generations still serve connections: {}; wait for them, end them with two TERMs each, or set \
                 --handoff-drain-timeout",
                named.collect::<Vec<_>>().join(", ")
            )
        })
    }

    async fn offering(&mut self, mut serving: Serving, mut successor: Successor, mut deferred: Deferred) -> State {
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Terminate => {
                    info!(successor = successor.pid(), "the restart is called off by a signal to stop");
                    successor.discard("the service was told to stop", Duration::ZERO).await;
                    return self.stop(serving).await;
                }
                Signal::Restart => info!("USR1 is part of the restart under way"),
                Signal::Reload => deferred.defer_reload(),
            },
            prepared = successor.prepared() => {
                let committed = match prepared {
                    Ok(claimed) => successor.commit().await.map(|()| claimed),
                    Err(failure) => Err(failure),
                };
                return match committed {
                    Ok(claimed) => State::Committed(serving, successor, claimed, deferred),
                    Err(failure) => self.failed(serving, successor, &failure, deferred).await,
                };
            }
            event = serving.event(Some("another restart is under way")) => return bug(event),
        }
        State::Offering(serving, successor, deferred)
    }

    async fn committed(
        &mut self,
        mut serving: Serving,
        mut successor: Successor,
        claimed: Vec<Key>,
        mut deferred: Deferred,
    ) -> State {
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Terminate => {
                    info!("stopping when the restart under way is done");
                    deferred.stop = true;
                }
                Signal::Restart => info!("USR1 is part of the restart under way"),
                Signal::Reload => deferred.defer_reload(),
            },
            serves = successor.serving() => {
                if let Err(failure) = serves {
                    return self.failed(serving, successor, &failure, deferred).await;
                }
                serving.pause(&claimed);
                info!(successor = successor.pid(), "the successor serves");
                if deferred.reload {
                    successor.tell(Message::Forward { verb: Verb::Reload }).await;
                }
                let window = self.config.handoff.rollback_window;
                if deferred.stop {
                    return self.settle(serving, successor, claimed, Some(Verb::Stop)).await;
                }
                if window.is_zero() || !successor.can_be_watched() {
                    return self.settle(serving, successor, claimed, None).await;
                }
                return State::Watching(serving, successor, claimed, Instant::now() + window);
            }
            event = serving.event(Some("another restart is under way")) => return bug(event),
        }
        State::Committed(serving, successor, claimed, deferred)
    }

    /// The successor does not take over: it is ended, and this process serves on.
    async fn failed(
        &mut self,
        mut serving: Serving,
        successor: Successor,
        failure: &offer::Failure,
        deferred: Deferred,
    ) -> State {
        let pid = successor.pid();
        let status = successor.discard(&failure.to_string(), failure.grace()).await;
        let status = status.map_or_else(String::new, |status| format!(" ({status})"));
        error!(successor = pid, "the restart failed, this process serves on: {failure}{status}");
        self.notifier.ready(&self.status("serves; its last restart failed"));
        if deferred.stop {
            return self.stop(serving).await;
        }
        if deferred.reload {
            self.reload(&mut serving);
        }
        State::Serving(serving)
    }

    async fn watching(
        &mut self,
        mut serving: Serving,
        mut successor: Successor,
        claimed: Vec<Key>,
        until: Instant,
    ) -> State {
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Terminate => self.settle(serving, successor, claimed, Some(Verb::Stop)).await,
                Signal::Restart => self.settle(serving, successor, claimed, Some(Verb::Restart)).await,
                Signal::Reload => {
                    info!("HUP is forwarded to the successor");
                    successor.tell(Message::Forward { verb: Verb::Reload }).await;
                    State::Watching(serving, successor, claimed, until)
                }
            },
            event = successor.event() => match event {
                offer::Event::Leaving(verb) => {
                    info!(successor = successor.pid(), "the successor was told to {verb}");
                    self.settle(serving, successor, claimed, None).await
                }
                offer::Event::Yield => self.resume(serving, successor).await,
                offer::Event::Died => self.bereaved(serving, successor).await,
            },
            event = serving.event(Some("a successor serves already")) => bug(event),
            () = time::sleep_until(until) => self.settle(serving, successor, claimed, None).await,
        }
    }

    /// The successor is dead: this process accepts again.
    async fn bereaved(&mut self, mut serving: Serving, successor: Successor) -> State {
        self.accept_again(&mut serving);
        let pid = successor.pid();
        let status = successor.discard("", Duration::ZERO).await;
        let status = status.map_or_else(String::new, |status| format!(" ({status})"));
        error!(
            successor = pid,
            "the successor died within the rollback window{status}; this process serves again, and what the successor had accepted is lost"
        );
        self.notifier.ready(&self.status("serves again; its successor died"));
        State::Serving(serving)
    }

    /// The successor gives the service back: this process accepts again.
    async fn resume(&mut self, mut serving: Serving, successor: Successor) -> State {
        self.accept_again(&mut serving);
        successor.tell(Message::Resumed {}).await;
        warn!(
            successor = successor.pid(),
            "rolled back: this process serves again, and the successor finishes what it has accepted"
        );
        self.notifier.ready(&self.status("serves again; its successor was rolled back"));
        serving.release(successor);
        State::Serving(serving)
    }

    fn accept_again(&mut self, serving: &mut Serving) {
        if let Err(error) = serving.accept() {
            // The descriptors of paused listeners were given back a moment ago.
            error!(%error, "cannot accept on every listener again");
        }
    }

    /// The window is over, or is ended: there is no way back.
    async fn settle(
        &mut self,
        mut serving: Serving,
        successor: Successor,
        claimed: Vec<Key>,
        forward: Option<Verb>,
    ) -> State {
        if successor.is_child() {
            // Before the successor may act as the service, the service manager must know it as that.
            let status = format!("generation {} serves", self.generation.next());
            self.notifier.ready_as(successor.pid().unsigned_abs(), &status);
            if let Err(error) = self.notifier.barrier(NOTICE).await {
                warn!("the service manager has not taken notice of its new main process: {error}");
            }
            if successor.has_ended() {
                self.notifier.ready_as(std::process::id(), &self.status("serves"));
                return self.bereaved(serving, successor).await;
            }
        } else {
            self.notifier.stopping(&self.status("has handed over, and waits for connections to finish"));
        }
        serving.hand_over(&claimed).await;
        if let Some(pidfile) = serving.pidfile.take() {
            pidfile.release();
        }
        if let Some(verb) = forward {
            successor.tell(Message::Forward { verb }).await;
        }
        successor.tell(Message::Settled {}).await;
        info!(
            successor = successor.pid(),
            open = serving.connections.open(),
            "handed over: waiting for connections to finish"
        );
        State::Draining(Draining {
            serving,
            successor: Some(successor),
            deadline: self.config.handoff.drain_timeout.map(|timeout| Instant::now() + timeout),
            reported: None,
            told_to_stop: false,
            exit: Exit::Finished,
        })
    }

    async fn draining(&mut self, mut draining: Draining) -> State {
        draining.report().await;
        let Draining { serving, successor, deadline, told_to_stop, exit, .. } = &mut draining;
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Signal::Terminate if *told_to_stop => {
                    warn!(open = serving.connections.open(), "stopped at once by a second signal");
                    return State::Ended(Exit::CutShort);
                }
                Signal::Terminate => {
                    info!(open = serving.connections.open(), "no longer the service: waiting for connections to finish all the same; a second signal cuts");
                    *told_to_stop = true;
                }
                Signal::Restart => warn!("USR1 is refused: this process has handed over"),
                Signal::Reload => warn!("HUP is refused: this process has handed over"),
            },
            () = serving.finished() => {
                info!("every connection has finished");
                return State::Ended(*exit);
            }
            () = expired(*deadline) => {
                warn!(open = serving.connections.open(), queued = serving.queued(), "the drain timeout has passed; what is left is cut");
                return State::Ended(Exit::CutShort);
            }
            () = reaped(successor) => {}
            () = time::sleep(REPORT) => {}
        }
        State::Draining(draining)
    }

    async fn stopping(&mut self, mut serving: Serving, deadline: Instant) -> State {
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
            () = serving.finished() => {
                info!("every connection has finished");
                return State::Ended(Exit::Finished);
            }
            () = time::sleep_until(deadline) => {
                warn!(open = serving.connections.open(), queued = serving.queued(), "the drain timeout has passed; what is left is cut");
                return State::Ended(Exit::CutShort);
            }
        }
        State::Stopping(serving, deadline)
    }

    /// A sentence for the service manager.
    fn status(&self, does: &str) -> String {
        format!("generation {} {does}", self.generation)
    }
}

impl Deferred {
    fn defer_reload(&mut self) {
        info!("HUP waits for the outcome of the restart under way");
        self.reload = true;
    }
}

impl Draining {
    /// Tells the successor how many connections are left, where that has changed.
    async fn report(&mut self) {
        let Some(successor) = &self.successor else { return };
        let connections = u64::try_from(self.serving.connections.open()).unwrap_or(u64::MAX);
        if self.reported.replace(connections) != Some(connections) {
            successor.tell(Message::Draining { connections }).await;
        }
    }
}

async fn called_off(predecessor: &mut Option<Predecessor>) -> adopt::Error {
    match predecessor {
        Some(predecessor) => predecessor.called_off().await,
        None => std::future::pending().await,
    }
}

async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits until the successor has ended, where it is a child, and reaps it.
async fn reaped(successor: &mut Option<Successor>) {
    match successor {
        Some(successor) => successor.reaped().await,
        None => std::future::pending().await,
    }
}

fn bug(event: Event) -> State {
    if let Event::Bug(bug) = event {
        error!("a bug in uninterruptible-host: {bug}");
    }
    State::Ended(Exit::Bug)
}
