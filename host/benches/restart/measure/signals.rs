//! How soon a host answers a signal while many clients keep it busy.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::{Bench, Section, median_and_highest};
use crate::load::{Answers, Load};
use crate::log::Line;
use crate::patience::PATIENCE;
use crate::service::Logged;

/// The load.
const CLIENTS: usize = 256;
/// How many answers each client has before the first signal.
const ANSWERS: u64 = 10;

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let mut section = Section::new("Signals under load")
        .text(
            "256 clients ask all the time. The first time runs from USR1 to the record that a successor was started. The others \
             run from TERM to the record that the host is stopping, and to the record that its listener is closed. By then \
             the host has served every queued connection. After TERM the kernel may refuse a client, but every accepted one \
             must get its answer.",
        )
        .columns([
            "Transport",
            "Rounds",
            "USR1, successor started after, ms: median",
            "maximum",
            "TERM, stopping after, ms: median",
            "maximum",
            "TERM, listener closed after, ms: median",
            "maximum",
        ]);
    for &transport in &bench.options.transport {
        eprintln!("measuring the answers to signals over {transport}");
        let (mut started, mut stopping, mut closed) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.options.rounds {
            let mut service = bench.start(&bench.options.plugin, transport, Logged::Service)?;
            let load = Load::start(service.address(), CLIENTS, 0, Answers::Counted)?;
            load.goes_on(CLIENTS as u64 * ANSWERS)?;
            let predecessor = service.current();
            let restart = service.restart()?;
            let line = service.log().await_line(Some(predecessor), "restarting: successor started", PATIENCE)?;
            started.push(since(restart.asked, &line));
            load.goes_on(CLIENTS as u64 * ANSWERS)?;
            load.expect_refusals();
            let current = service.current();
            let asked = service.signal(Signal::SIGTERM)?;
            let line = service.log().await_line(Some(current), "stopping, draining connections", PATIENCE)?;
            stopping.push(since(asked, &line));
            let line = service.log().await_line(Some(current), "listener closed", PATIENCE)?;
            closed.push(since(asked, &line));
            bench.note_outcome(&load.stop()?);
            bench.note(service.end()?);
        }
        let mut row = vec![transport.to_string(), started.len().to_string()];
        for seconds in [&started, &stopping, &closed] {
            row.extend(median_and_highest(seconds));
        }
        section.row(row);
    }
    Ok(section)
}

fn since(asked: Instant, line: &Line) -> f64 {
    line.arrived.duration_since(asked).as_secs_f64()
}
