//! The status of a serving process. The lifecycle publishes its own part whenever that changes.
//! Values that change with each connection are read for each request.

use super::{command::Outcome, usage::Usage};
use crate::{
    connection::drain::Connections,
    guest::About,
    record::{
        counters::{Service, Totals},
        generation::Generation,
    },
};
use serde::Serialize;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// The part of the status that the lifecycle publishes.
#[derive(Debug)]
pub struct Snapshot {
    /// The generation of the process.
    pub generation: Generation,
    /// Its state.
    pub phase: Phase,
    /// Its start.
    pub started: Moment,
    /// Its listeners.
    pub listeners: Vec<Listening>,
    /// The plugins that serve there, each once.
    pub plugins: Vec<Arc<About>>,
    /// Earlier generations that it drains.
    pub connections: Connections,
    /// The process that takes over, if any.
    pub successor: Option<i32>,
    /// The outcome of the last restart, if any.
    pub restart: Option<Past>,
    /// The outcome of the last reload, if any.
    pub reload: Option<Past>,
}

/// A state of the process, as in the table of docs/monitoring.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It serves, without a handoff.
    Serving,
    /// It serves, and a successor prepares.
    Offering,
    /// It serves until its successor reports that it does.
    Committed,
    /// Its successor serves, and can be rolled back.
    Watching,
    /// It serves, and can be rolled back.
    Probation,
    /// It drains; another process serves.
    Draining,
    /// It drains; no process serves.
    Stopping,
}

impl Phase {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Serving,
        Self::Offering,
        Self::Committed,
        Self::Watching,
        Self::Probation,
        Self::Draining,
        Self::Stopping,
    ];

    /// The state as the rest of a sentence that begins with the process.
    pub(super) fn described(self) -> &'static str {
        match self {
            Self::Serving => "serves",
            Self::Offering => "serving, and starting a successor",
            Self::Committed => "serving until its successor does",
            Self::Watching => "watching its successor, which serves",
            Self::Probation => "serving, watched by its predecessor; a rollback is possible",
            Self::Draining => "draining; another process serves",
            Self::Stopping => "stopping and draining",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serving => "serving",
            Self::Offering => "offering",
            Self::Committed => "committed",
            Self::Watching => "watching",
            Self::Probation => "probation",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        })
    }
}

/// A point in time, on the wall clock and on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    clock: SystemTime,
    instant: Instant,
}

impl Moment {
    /// The current time.
    pub fn now() -> Self {
        Self { clock: SystemTime::now(), instant: Instant::now() }
    }
}

/// A listener.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listening {
    /// Its address, with the actual port.
    pub address: String,
    /// Whether this process accepts there now.
    pub accepting: bool,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// The plugins that serve there: its own, then those of its routes.
    pub plugins: Vec<String>,
}

/// A restart or reload that has ended.
#[derive(Clone, Debug, Serialize)]
pub struct Past {
    #[serde(serialize_with = "rfc3339")]
    at: SystemTime,
    outcome: Outcome,
    detail: String,
}

impl Past {
    /// One that has just ended with this outcome.
    pub fn now(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { at: SystemTime::now(), outcome, detail: detail.into() }
    }
}

/// The complete status at one moment; its JSON form is an interface.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) pid: u32,
    pub(super) generation: u64,
    pub(super) state: Phase,
    #[serde(serialize_with = "rfc3339")]
    pub(super) started: SystemTime,
    #[serde(serialize_with = "seconds")]
    pub(super) uptime_seconds: Duration,
    pub(super) listeners: Vec<Listening>,
    pub(super) plugins: Vec<Plugin>,
    pub(super) connections: Counted,
    pub(super) restarts: Done,
    pub(super) reloads: Done,
    pub(super) draining: Vec<Draining>,
    pub(super) successor: Option<i32>,
    #[serde(skip)]
    pub(super) process: Usage,
}

/// A served plugin.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) kind: String,
    pub(super) contract: String,
    pub(super) sha256: String,
    #[serde(serialize_with = "rfc3339")]
    pub(super) loaded: SystemTime,
}

/// The connections that are open here, and the outcomes of earlier ones since the service started.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Counted {
    pub(super) open: u64,
    pub(super) most: u32,
    #[serde(flatten)]
    pub(super) totals: Connected,
}

/// The totals that concern connections.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Connected {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) finished: u64,
    pub(super) failed: crate::record::counters::Failed,
    /// The purposes of guests on HTTP connections.
    pub(super) requests: u64,
}

/// How often each operation was done since the service started.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Done {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) last: Option<Past>,
}

/// A draining generation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Draining {
    pub(super) generation: Option<u64>,
    pub(super) pid: i32,
    pub(super) connections: Option<u64>,
}

impl Status {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let Service { totals, open, draining } = snapshot.connections.counters().service();
        let Totals {
            accepted,
            refused,
            finished,
            requests,
            failed,
            restarts,
            restarts_failed,
            reloads,
            reloads_failed,
        } = totals;
        let plugins = snapshot.plugins.iter().map(|about| Plugin {
            name: about.name.to_string(),
            file: about.path.display().to_string(),
            kind: about.kind.to_string(),
            contract: about.contract.clone(),
            sha256: about.digest.to_string(),
            loaded: about.loaded,
        });
        let draining = draining.into_iter().map(|process| Draining {
            generation: Some(process.generation.number()).filter(|_| !process.rolled_back),
            pid: process.peer.map_or_else(|pid| pid, |peer| peer.pid()),
            connections: process.connections,
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            generation: snapshot.generation.number(),
            state: snapshot.phase,
            started: snapshot.started.clock,
            uptime_seconds: snapshot.started.instant.elapsed(),
            listeners: snapshot.listeners.clone(),
            plugins: plugins.collect(),
            connections: Counted {
                open,
                most: snapshot.connections.cap(),
                totals: Connected { accepted, refused, finished, failed, requests },
            },
            restarts: Done { done: restarts, failed: restarts_failed, last: snapshot.restart.clone() },
            reloads: Done { done: reloads, failed: reloads_failed, last: snapshot.reload.clone() },
            draining: draining.collect(),
            successor: snapshot.successor,
            process: Usage::this(),
        }
    }
}

impl Past {
    pub(super) fn at(&self) -> SystemTime {
        self.at
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

/// The time in RFC 3339, for people and programs.
pub(super) fn written(time: SystemTime) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(time)
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&written(*time))
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1000.0).round() / 1000.0)
}
