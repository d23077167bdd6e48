//! The events of a serving process, besides commands and handoffs.

use super::{Serving, generations::next_event, reload::loaded};
use crate::{
    handoff::handoff_socket::{HandoffSocket, Visitor},
    lifecycle::{
        pidfile::PidFile,
        watch::{Saved, Watch},
    },
};
use std::{future::pending, time::Duration};
use tokio::time;
use tracing::info;

/// How often accepting is retried after descriptors ran out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How often writing the pidfile is retried.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// A handoff under way, which excludes other work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lifecycle) enum Busy {
    /// None.
    Not,
    /// It has taken over, and its predecessor could still serve again.
    TakingOver,
    /// It hands over, or has. Commands are deferred meanwhile, or the successor runs them.
    HandingOver(&'static str),
}

impl Busy {
    /// Why other successors are rejected.
    fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Not => None,
            Self::TakingOver => Some("this process has just taken over; try again after the rollback window"),
            Self::HandingOver(reason) => Some(reason),
        }
    }
}

/// An event besides signals and handoffs.
pub(in crate::lifecycle) enum Event {
    /// A successor that this process did not start asks for the service.
    Visitor(Box<Visitor>),
    /// A plugin file has changed.
    Saved(Saved),
    /// A reload has ended, with why it failed if it did.
    Reloaded(Result<(), String>),
    /// A value of the status has changed.
    Changed,
    /// A bug: a listener is no longer served.
    Bug(String),
}

impl Serving {
    /// Waits for the next event, and handles those that need no decision. While it is busy, it
    /// rejects other successors. May be dropped and called again.
    pub(in crate::lifecycle) async fn event(&mut self, busy: Busy) -> Event {
        loop {
            tokio::select! {
                Some(ended) = self.acceptors.join_next() => match ended {
                    Err(ended) if ended.is_cancelled() => {}
                    // An accept loop ends only if it is aborted.
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
                // During a restart the reports wait in the channel: one process reads them, this
                // one or its successor.
                reported = next_event(&mut self.draining), if busy == Busy::Not => {
                    self.reported(reported);
                    return Event::Changed;
                }
                // A process that hands over leaves it to its successor, which watches too. It
                // catches up if it serves again.
                saved = saved(&mut self.watch), if !matches!(busy, Busy::HandingOver(_)) => return Event::Saved(saved),
                visitor = visitor(&mut self.handoff_socket) => match busy.refusal() {
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

async fn visitor(handoff_socket: &mut Option<HandoffSocket>) -> Visitor {
    match handoff_socket {
        Some(handoff_socket) => handoff_socket.visitor().await,
        None => pending().await,
    }
}
