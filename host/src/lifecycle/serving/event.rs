//! What goes on in a process that serves, besides orders and handoffs.

use super::{Serving, generations::next_event, reload::loaded};
use crate::{
    handoff::door::{Door, Visitor},
    lifecycle::{
        pidfile::PidFile,
        watch::{Saved, Watch},
    },
};
use std::{future::pending, time::Duration};
use tokio::time;
use tracing::info;

/// How often it is tried to accept where descriptors had run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How often it is tried to write a pidfile that could not be written.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// What else a process is at, which keeps it from other things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lifecycle) enum Busy {
    /// Nothing.
    Not,
    /// It has taken over, and its predecessor could still serve again.
    TakingOver,
    /// It hands over, or has. What is asked of the service meanwhile is put off, or done by the successor.
    HandingOver(&'static str),
}

impl Busy {
    /// Why visitors are refused.
    fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Not => None,
            Self::TakingOver => Some("this process has just taken over; try again after the rollback window"),
            Self::HandingOver(reason) => Some(reason),
        }
    }
}

/// What goes on besides signals and handoffs.
pub(in crate::lifecycle) enum Event {
    /// A successor that nobody here started asks for the service.
    Visitor(Box<Visitor>),
    /// The file of a plugin has changed.
    Saved(Saved),
    /// A reload is over: it took effect, or why it did not.
    Reloaded(Result<(), String>),
    /// Something that an operator is shown has changed.
    Changed,
    /// Something that cannot happen: a listener is no longer served.
    Bug(String),
}

impl Serving {
    /// Waits for what goes on besides orders and handoffs, and does what needs no decision. While it is busy, visitors are
    /// refused. May be dropped and called again.
    pub(in crate::lifecycle) async fn event(&mut self, busy: Busy) -> Event {
        loop {
            tokio::select! {
                Some(ended) = self.acceptors.join_next() => match ended {
                    Err(ended) if ended.is_cancelled() => {}
                    // An accept loop ends only when it is told to.
                    ended => return Event::Bug(format!("a listener is no longer served ({ended:?})")),
                },
                () = time::sleep(ACCEPT_AGAIN), if self.incomplete => {
                    if self.accept().is_ok() {
                        info!("accepting again");
                    }
                }
                () = time::sleep(WRITE_AGAIN), if self.unwritten.is_some() => self.write_pidfile(),
                loaded = loaded(&mut self.reload) => if let Some(outcome) = self.reloaded(loaded) {
                    return Event::Reloaded(outcome);
                },
                // While a restart is under way their reports wait: one process reads them, this one or its successor.
                reported = next_event(&mut self.draining), if busy == Busy::Not => {
                    self.reported(reported);
                    return Event::Changed;
                }
                // A process that hands over leaves it to its successor, which watches too, and catches up should it serve again.
                saved = saved(&mut self.watch), if !matches!(busy, Busy::HandingOver(_)) => return Event::Saved(saved),
                visitor = visitor(&mut self.door) => match busy.refusal() {
                    None => return Event::Visitor(Box::new(visitor)),
                    Some(reason) => visitor.refuse(reason).await,
                },
            }
        }
    }

    fn write_pidfile(&mut self) {
        if let Some(Ok(pidfile)) = self.unwritten.as_deref().map(PidFile::take_over) {
            info!("pidfile written");
            self.pidfile = Some(pidfile);
            self.unwritten = None;
        }
    }
}

async fn saved(watch: &mut Option<Watch>) -> Saved {
    match watch {
        Some(watch) => watch.saved().await,
        None => pending().await,
    }
}

async fn visitor(door: &mut Option<Door>) -> Visitor {
    match door {
        Some(door) => door.visitor().await,
        None => pending().await,
    }
}
