//! This process until it serves: on a cold start, or as the successor of a serving process.

use super::{
    Lifecycle, Loaded, State, boot,
    commands::name,
    current::stops,
    end::{Replacement, StopCause, expired},
    error::Error,
    pidfile::PidFile,
    serving::{Busy, Event, Serving},
    watch::Saved,
};
use crate::{
    admin::{self, Command, Outcome, Past, Phase},
    connection::service::Services,
    handoff::{
        adopt::{self, Origin, Predecessor},
        channel::MESSAGE_TIMEOUT,
        draining::Reporter,
        fault,
        message::{Message, Stage, Verb},
    },
    record::{counters::Totals, exit::Exit, generation::Generation, log},
};
use std::{mem, pin::pin, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};
use tracing::{error, info, warn};

/// How long a successor that was told to stop or restart within the window waits for its
/// predecessor to let go.
const LEAVE: Duration = Duration::from_secs(1);

/// How a predecessor stopped being the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LetGo {
    /// It said so.
    Said,
    /// It stopped responding, and could not be waited for.
    Silent,
    /// It died.
    Dead,
}

impl From<adopt::Event> for LetGo {
    fn from(event: adopt::Event) -> Self {
        match event {
            adopt::Event::Gone => Self::Dead,
            adopt::Event::Silent => Self::Silent,
            _ => Self::Said,
        }
    }
}

impl Lifecycle {
    pub(super) async fn starting(
        &mut self,
        mut loading: JoinHandle<Result<Loaded, Error>>,
        mut predecessor: Option<Predecessor>,
    ) -> Result<State, Error> {
        tokio::select! {
            biased;
            command = self.commands.next() => if is_stop_while_starting(&command) {
                info!("stopped before serving");
                if let Some(predecessor) = predecessor {
                    predecessor.fail(Stage::Loading, "it was told to stop").await;
                }
                return Ok(State::Ended(Exit::Finished));
            },
            reason = called_off(&mut predecessor) => return Err(reason.into()),
            loaded = &mut loading => {
                let loaded = loaded.unwrap_or_else(|panic| Err(Error::Bug(panic.to_string())));
                if let (Err(failure), Some(predecessor)) = (&loaded, &predecessor) {
                    predecessor.fail(Stage::Loading, &failure.to_string()).await;
                }
                let (services, watch, stranger) = loaded?;
                self.watch = watch;
                if let Some(predecessor) = predecessor.or(stranger) {
                    return Ok(State::Adopting(services, predecessor));
                }
                if let Some(path) = &self.config.handoff.take_over {
                    info!(%path, "no predecessor, starting cold");
                }
                return self.start_cold(&services).map(State::Serving);
            }
        }
        Ok(State::Starting(loading, predecessor))
    }

    pub(super) async fn adopting(&mut self, services: Services, mut predecessor: Predecessor) -> Result<State, Error> {
        let outcome = {
            let passed = mem::take(&mut self.activation);
            let mut exchange = pin!(boot::adopt(&self.config, &services, passed, &self.ticket_keys, &mut predecessor));
            loop {
                tokio::select! {
                    biased;
                    command = self.commands.next() => if is_stop_while_starting(&command) {
                        break None;
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
                info!("stopped before serving");
                predecessor.fail(Stage::Adopting, "it was told to stop").await;
                return Ok(State::Ended(Exit::Finished));
            }
        };
        self.generation = adopted.generation;
        log::identify(self.generation);
        let consent = adopted.consent;
        let phase = match consent {
            adopt::Consent::Commit => Phase::Probation,
            adopt::Consent::Inherited => Phase::Serving,
        };
        let serving = self.accept(adopted, Some(&mut predecessor), phase);
        Ok(match consent {
            adopt::Consent::Commit => {
                info!("serving, predecessor watching");
                State::Probation(serving, predecessor)
            }
            adopt::Consent::Inherited => State::Serving(self.settled(serving, predecessor, LetGo::Dead)),
        })
    }

    pub(super) async fn probation(&mut self, mut serving: Serving, mut predecessor: Predecessor) -> State {
        let mut forwarded = None;
        let mut yielded = None;
        let mut overdue = None;
        loop {
            self.show_serving(Phase::Probation, &serving, None);
            self.waiting.deliver();
            tokio::select! {
                biased;
                Command { verb, caller } = self.commands.next() => match verb {
                    admin::Verb::Stop => {
                        caller.done(stops(&serving));
                        return self.leave(serving, predecessor, yielded, Verb::Stop, StopCause::BySignal).await;
                    }
                    // A forwarded stop comes first, in any order of arrival.
                    admin::Verb::Restart(until) => {
                        self.waiting.for_restart(until, caller);
                        let asked = forwarded.unwrap_or(Verb::Restart);
                        return self.leave(serving, predecessor, yielded, asked, StopCause::ByPredecessor).await;
                    }
                    admin::Verb::Reload => {
                        self.waiting.for_reload(caller);
                        self.reload_in_window(&mut serving, &predecessor, None).await;
                    }
                    admin::Verb::Rollback => {
                        self.waiting.for_rollback(caller);
                        if yielded.is_none() {
                            yielded = Some(roll_back(&serving, &predecessor).await);
                        }
                        overdue = Some(Instant::now() + MESSAGE_TIMEOUT);
                    }
                },
                event = predecessor.event() => match event {
                    adopt::Event::Settled | adopt::Event::Gone | adopt::Event::Silent => {
                        let serving = self.settled(serving, predecessor, event.into());
                        return self.obey(serving, forwarded, StopCause::ByPredecessor).await;
                    }
                    adopt::Event::Forward(Verb::Reload) => {
                        log::reopen();
                        self.reload_in_window(&mut serving, &predecessor, None).await;
                    }
                    // The predecessor lets go next. This process must be the service before it runs
                    // the command.
                    adopt::Event::Forward(verb) => forwarded = Some(verb),
                    adopt::Event::Resumed => return self.hand_back(serving, predecessor, yielded).await,
                    adopt::Event::Reported => reported(&serving, &mut predecessor),
                },
                event = serving.event(Busy::TakingOver) => match event {
                    Event::Saved(saved) => self.reload_in_window(&mut serving, &predecessor, Some(saved)).await,
                    event => {
                        if let Event::Reloaded(outcome) = &event
                            && predecessor.hears_of_reloads()
                        {
                            predecessor.tell(Message::Reloaded { done: outcome.is_ok() }).await;
                        }
                        if let Some(bug) = self.noted(&serving, event) {
                            return bug;
                        }
                    }
                },
                () = expired(overdue) => {
                    let why = "the predecessor did not answer; this process continues unless it answers later";
                    self.waiting.rollback_is(Outcome::Failed, why);
                    overdue = None;
                }
                () = fault::rollback(), if yielded.is_none() => {
                    yielded = Some(roll_back(&serving, &predecessor).await);
                }
            }
        }
    }

    /// Tells the predecessor to let go now, waits until it has, and runs the command.
    async fn leave(
        &mut self,
        serving: Serving,
        mut predecessor: Predecessor,
        yielded: Option<Totals>,
        mut asked: Verb,
        cause: StopCause,
    ) -> State {
        predecessor.tell(Message::Leaving { to: asked }).await;
        let until = Instant::now() + LEAVE;
        let how = loop {
            match time::timeout_at(until, predecessor.event()).await {
                Ok(adopt::Event::Resumed) => return self.hand_back(serving, predecessor, yielded).await,
                Ok(adopt::Event::Forward(Verb::Stop)) => asked = Verb::Stop,
                Ok(event @ (adopt::Event::Settled | adopt::Event::Gone | adopt::Event::Silent)) => break event.into(),
                Ok(adopt::Event::Forward(_)) => {}
                Ok(adopt::Event::Reported) => reported(&serving, &mut predecessor),
                Err(_elapsed) => break LetGo::Silent,
            }
        };
        let serving = self.settled(serving, predecessor, how);
        self.obey(serving, Some(asked), cause).await
    }

    /// Runs, as the service, the command that arrived before.
    pub(super) async fn obey(&mut self, serving: Serving, asked: Option<Verb>, cause: StopCause) -> State {
        match asked {
            Some(Verb::Stop) => self.stop(serving, cause).await,
            Some(Verb::Restart) => self.restart(serving),
            Some(Verb::Reload) | None => State::Serving(serving),
        }
    }

    /// Makes this process the service: pidfile, paths and the service manager name it from now on.
    fn settled(&mut self, mut serving: Serving, mut predecessor: Predecessor, how: LetGo) -> Serving {
        serving.own(self.config.backlog);
        if let Some(path) = &self.config.pidfile {
            match PidFile::take_over(path) {
                Ok(pidfile) => serving.pidfile = Some(pidfile),
                Err(error) => {
                    error!(%error, "pidfile write failed, retrying");
                    serving.unwritten = Some(path.clone());
                }
            }
        }
        // A predecessor that let go has told the service manager about its successor, if both have
        // the same one.
        if how != LetGo::Said || predecessor.origin() == Origin::Stranger {
            self.notifier.ready_as(std::process::id(), &self.status("serves"));
        }
        serving.connections.counters().restarted(true);
        self.waiting.rollback_is(Outcome::Refused, "the rollback window is over");
        let done = format!("generation {} took over", self.generation);
        self.waiting.last_restart = Some(Past::now(Outcome::Done, done));
        match how {
            LetGo::Said => info!("restart settled"),
            LetGo::Silent => warn!("restart settled, predecessor timed out"),
            LetGo::Dead => warn!("predecessor ended early, serving alone"),
        }
        reported(&serving, &mut predecessor);
        let mut draining = predecessor.draining(self.before());
        draining.id = serving.before.take();
        serving.remember(draining, &Totals::default());
        serving
    }

    /// The predecessor serves again: this process drains and reports the rest of its counts.
    pub(super) async fn hand_back(
        &mut self,
        mut serving: Serving,
        predecessor: Predecessor,
        yielded: Option<Totals>,
    ) -> State {
        info!(open = serving.connections.open(), "handed back, draining connections");
        self.waiting.rollback_is(Outcome::Done, &format!("rolled back: generation {} serves again", self.before()));
        serving.hand_back().await;
        let reporter = Reporter::new(serving.connections.counters(), yielded.unwrap_or_default());
        self.drain(serving, Replacement::Predecessor(predecessor, reporter), Exit::HandedBack)
    }

    /// A reload within the window. The service manager listens to the predecessor alone, which
    /// relays it.
    async fn reload_in_window(&self, serving: &mut Serving, predecessor: &Predecessor, saved: Option<Saved>) {
        if predecessor.hears_of_reloads() {
            predecessor.tell(Message::Reloading {}).await;
        }
        serving.reload(&self.config, &self.ticket_keys, saved);
    }

    /// The generation before this one.
    pub(super) fn before(&self) -> Generation {
        self.generation.previous().unwrap_or(Generation::FIRST)
    }
}

/// Whether it is a stop; no other command is possible while starting.
fn is_stop_while_starting(command: &Command) -> bool {
    match command.verb {
        admin::Verb::Stop => return true,
        admin::Verb::Restart(_) | admin::Verb::Rollback => {
            warn!(command = name(command), detail = "this process is starting", "command rejected")
        }
        admin::Verb::Reload => info!(
            command = name(command),
            detail = "this process is starting, with a fresh configuration",
            "command ignored"
        ),
    }
    false
}

/// Takes a report of the predecessor, within the window or before it let go.
fn reported(serving: &Serving, predecessor: &mut Predecessor) {
    if let Some(before) = serving.before {
        let counted = predecessor.counted();
        serving.connections.counters().reported_by(before, predecessor.connections(), &counted);
    }
}

/// Asks the predecessor to serve again, once. Returns the counters that were sent to it.
async fn roll_back(serving: &Serving, predecessor: &Predecessor) -> Totals {
    warn!("rolling back");
    let counters = serving.connections.counters().here();
    predecessor.tell(Message::Yield { counters }).await;
    counters
}

async fn called_off(predecessor: &mut Option<Predecessor>) -> adopt::Error {
    match predecessor {
        Some(predecessor) => predecessor.called_off().await,
        None => std::future::pending().await,
    }
}
