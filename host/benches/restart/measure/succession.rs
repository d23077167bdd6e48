//! From USR1 to the successor's first answer, and to the time at which it is the service.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use nix::unistd::Pid;

use super::{Bench, Section, median_and_highest};
use crate::load::{Answer, Answers, Load};
use crate::options::Transport;
use crate::patience::{PATIENCE, wait_for};
use crate::service::{Logged, Service};

/// Fewer would make the median unreliable.
const FEWEST: u32 = 20;

/// The host writes a connection's line after its end. That may be before its client notices, after
/// it, and even after the next connection's line. After that many answers, the first one's line has
/// arrived.
const ENOUGH: usize = 8;

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let mut section = Section::new("The succession")
        .text(
            "Times run from USR1, with a plugin in the cache and one client that asks all the time over tcp. The client knows \
             the time of each answer. The log names the process and the client of each connection, and so the generation \
             that answered. *Settled* is the record by which the successor says that it is the service.",
        )
        .columns([
            "Plugin",
            "Restarts",
            "First answer after, ms: median",
            "maximum",
            "Settled after, ms: median",
            "maximum",
        ]);
    let restarts = bench.options.restarts.max(FEWEST);
    for plugin in bench.plugins() {
        eprintln!("measuring the succession with {}", plugin.display());
        let mut service = bench.start(plugin, Transport::Tcp, Logged::Connections)?;
        let load = Load::start(service.address(), 1, 0, Answers::Remembered)?;
        let (mut answered, mut settled) = (Vec::new(), Vec::new());
        for _ in 0..restarts {
            load.goes_on(1)?;
            load.take_answers();
            let restart = service.restart()?;
            let said = service.log().await_line(Some(restart.successor), "restart settled", PATIENCE)?;
            let first = first_answer(&service, &load, restart.successor)?;
            answered.push(first.duration_since(restart.asked).as_secs_f64());
            settled.push(said.arrived.duration_since(restart.asked).as_secs_f64());
            service.drained()?;
        }
        bench.note_outcome(&load.stop()?);
        bench.note(service.stop()?);
        let [answered, answered_highest] = median_and_highest(&answered);
        let [settled, settled_highest] = median_and_highest(&settled);
        section.row(vec![
            describe(plugin)?,
            restarts.to_string(),
            answered,
            answered_highest,
            settled,
            settled_highest,
        ]);
    }
    Ok(section)
}

/// When the client had its first answer from this process.
fn first_answer(service: &Service, load: &Load, successor: Pid) -> anyhow::Result<Instant> {
    let mut answers: HashMap<SocketAddr, Answer> = HashMap::new();
    wait_for("an answer by the successor", PATIENCE, || {
        answers.extend(load.take_answers().into_iter().map(|answer| (answer.client, answer)));
        let lines = service.log().lines();
        let served = lines.iter().filter(|line| line.pid == Some(successor)).filter_map(|line| peer(&line.text));
        let times: Vec<Instant> =
            served.filter_map(|client| answers.get(&client)).map(|answer| answer.complete).collect();
        Ok(times.iter().min().copied().filter(|_| times.len() >= ENOUGH))
    })
    .map_err(|error| service.log().explain(&error))
}

/// The client of a line about a connection that went well.
fn peer(line: &str) -> Option<SocketAddr> {
    let (_, facts) = line.split_once("connection finished")?;
    facts.split(' ').find_map(|fact| fact.strip_prefix("peer=tcp://"))?.parse().ok()
}

fn describe(plugin: &Path) -> anyhow::Result<String> {
    let bytes = plugin.metadata().with_context(|| format!("read {}", plugin.display()))?.len();
    let name = plugin.file_name().map(Path::new).map_or_else(String::new, |name| name.display().to_string());
    Ok(match bytes {
        0..1_000_000 => format!("`{name}` ({} kB)", bytes / 1_000),
        _ => format!("`{name}` ({:.1} MB)", bytes as f64 / 1e6),
    })
}
