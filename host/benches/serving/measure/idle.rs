//! Many connections that wait: what each of them occupies in the server.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::ensure;
use nix::unistd::Pid;

use super::{Bench, Both, Section, Side};
use crate::load::outcome::Outcome;
use crate::options::Work;
use crate::process::{descriptor_limit, wait_for};
use crate::report::{grouped, kilobytes, milliseconds};
use crate::resources::{Memory, descriptors, memory};
use crate::servers::Server;
use crate::statistics::{Ratio, median};

/// A round starts both servers anew, and memory varies much less than time does.
const MOST_ROUNDS: u32 = 3;
const LIMIT: Duration = Duration::from_secs(120);
/// Descriptors of the load and of a server beside their connections.
const SPARE_DESCRIPTORS: usize = 256;

/// One server with all connections, in bytes a connection.
struct Sample {
    idle: Memory,
    begun: Memory,
    outcome: Outcome,
}

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let connections = bench.options.idle_connections;
    let limit = descriptor_limit()?;
    ensure!(
        (connections + SPARE_DESCRIPTORS) as u64 <= limit,
        "--idle-connections {connections}: a process may have {limit} descriptors here; raise `ulimit -Hn` or give a \
         smaller number",
    );
    let rounds = bench.options.rounds.min(MOST_ROUNDS);
    let samples = Both::alternate(rounds, |side| sample(bench, side, connections))?;
    let answered = samples.figures(|sample| sample.outcome.elapsed.as_secs_f64());
    let mut section = Section::new("Memory of waiting connections")
        .text(format!(
            "{} connections are open at the same time, to a server that was started for this and warmed up: first they \
             have sent nothing, then one byte each, so that there is a guest for each, which waits for the rest of its \
             line. Told is how much the server's memory has grown, in bytes (kB are 1,000) for each connection: RSS, \
             the usual figure, counts a page once for each mapping, PSS counts it once. What the kernel keeps for a \
             socket is in neither.",
            grouped(connections as f64),
        ))
        .columns(["State", "Figure", "Native, kB", "Host, kB", "Host ÷ native"]);
    let mut row = |state: &str, name: &str, figure: fn(&Sample) -> u64| {
        let figures = samples.figures(|sample| figure(sample) as f64);
        section.row(vec![
            state.to_owned(),
            name.to_owned(),
            kilobytes(median(figures.native.iter().copied())),
            kilobytes(median(figures.host.iter().copied())),
            Ratio::of_pairs(&figures.native, &figures.host).to_string(),
        ]);
    };
    row("before the first byte", "RSS", |sample| sample.idle.resident);
    row("before the first byte", "PSS", |sample| sample.idle.proportional);
    row("in the middle of the line", "RSS", |sample| sample.begun.resident);
    row("in the middle of the line", "PSS", |sample| sample.begun.proportional);
    Ok(section.text(format!(
        "Then all of them send the rest at once. All answers were there after {} ms (native) and {} ms (host).",
        milliseconds(median(answered.native)),
        milliseconds(median(answered.host)),
    )))
}

fn sample(bench: &Bench<'_>, side: Side, connections: usize) -> anyhow::Result<Sample> {
    let server = bench.start_side(side, Work::Hello, connections)?;
    bench.run_load(side, &server, &format!("hello {} --clients 16 --seconds 0.5", server.address()), LIMIT)?;
    let before = settled(server.pid())?;
    let descriptors_before = descriptors(server.pid())?;

    let arguments = format!("idle {} --connections {connections}", server.address());
    let mut load = bench.start_load(&arguments)?;
    expect(&load.line(LIMIT)?, "opened")?;
    accepted(&server, descriptors_before + connections)?;
    let idle = settled(server.pid())?;

    load.tell("begin")?;
    expect(&load.line(LIMIT)?, "begun")?;
    let begun = settled(server.pid())?;

    load.tell("end")?;
    let outcome: Outcome = load.line(LIMIT)?.parse()?;
    bench.note_failures(side, &arguments, &outcome);
    load.finish(LIMIT)?;
    server.stop()?;
    Ok(Sample { idle: growth(before, idle, connections), begun: growth(before, begun, connections), outcome })
}

fn expect(line: &str, expected: &str) -> anyhow::Result<()> {
    ensure!(line == expected, "the load said {line:?} instead of {expected:?}");
    Ok(())
}

/// Waits until the server has taken the connections out of the kernel's queue.
fn accepted(server: &Server, expected: usize) -> anyhow::Result<()> {
    wait_for("the server to accept all connections", LIMIT, || {
        Ok((descriptors(server.pid())? >= expected).then_some(()))
    })
}

/// Memory of a process that has come to rest: within 64 KiB for half a second.
fn settled(process: Pid) -> anyhow::Result<Memory> {
    const SAMPLES: usize = 10;
    const TOLERANCE: u64 = 64 * 1024;
    let mut last = VecDeque::from([memory(process)?]);
    wait_for("the server's memory to come to rest", LIMIT, || {
        let now = memory(process)?;
        last.push_back(now);
        if last.len() > SAMPLES {
            last.pop_front();
        }
        let at_rest =
            last.len() == SAMPLES && last.iter().all(|earlier| earlier.resident.abs_diff(now.resident) <= TOLERANCE);
        Ok(at_rest.then_some(now))
    })
}

fn growth(before: Memory, after: Memory, connections: usize) -> Memory {
    let share = |before: u64, after: u64| after.saturating_sub(before) / connections as u64;
    Memory {
        resident: share(before.resident, after.resident),
        proportional: share(before.proportional, after.proportional),
    }
}
