//! Many connections that wait: their memory in the server, and how it grows.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::ensure;
use nix::unistd::Pid;

use super::{Bench, Section, Side};
use crate::aims::Bound;
use crate::load::outcome::Outcome;
use crate::options::Work;
use crate::plot::{Curve, Plot, Scale};
use crate::process::{descriptor_limit, mapping_limit, wait_for};
use crate::report::{grouped, kilobytes, milliseconds};
use crate::resources::{Memory, descriptors, memory};
use crate::servers::Server;
use crate::statistics::median;

/// Each round starts new servers, and memory varies much less than time does.
const MOST_ROUNDS: u32 = 2;
const LIMIT: Duration = Duration::from_secs(120);

/// How far the waiting connections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// They have sent nothing.
    Idle,
    /// A guest waits for the rest of a line.
    Begun,
}

impl State {
    const ALL: [Self; 2] = [Self::Idle, Self::Begun];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "before the first byte",
            Self::Begun => "in the middle of the line",
        }
    }
}

/// One server with growing numbers of connections.
struct Sample {
    /// How many there were, and by how much its memory had grown, in bytes.
    steps: Vec<(usize, Memory)>,
    ending: Ending,
}

/// The end, after the last step.
enum Ending {
    /// All were answered, or should have been.
    Answered(Outcome),
    /// At so many connections it could not keep all.
    Lost(usize),
}

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let wanted = bench.options.idle_connections;
    let most = bench.most_connections(wanted)?;
    let steps: Vec<usize> = [16, 8, 4, 2, 1].into_iter().map(|part| most / part).filter(|step| *step > 0).collect();
    let mut text = format!(
        "Up to {} connections are open at the same time, to a fresh server that was warmed up.\n\n\
         * *before the first byte*: they have sent nothing.\n\
         * *in the middle of the line*: each has sent one byte, so that a guest waits for the rest.\n\n\
         The table shows how much the server's memory has grown for each connection (a kB is 1,000 bytes). RSS, the usual \
         figure, counts a page once for each mapping; PSS counts it once. Neither includes the kernel's memory for a \
         socket. At the end all clients send the rest of their line at once.",
        grouped(most as f64),
    );
    if most < wanted {
        text += &format!(
            " The run asked for {}, but this system limits a process to {} descriptors (`ulimit -Hn`) and {} mappings \
             (`vm.max_map_count`).",
            grouped(wanted as f64),
            grouped(descriptor_limit()? as f64),
            grouped(mapping_limit()? as f64),
        );
    }
    let mut rows = Vec::new();
    for state in State::ALL {
        let mut curves = Vec::new();
        for (side, samples) in samples(bench, state, &steps)? {
            let points = growth(&samples);
            curves.push(Curve {
                name: side.name(),
                points: points.iter().map(|(count, each)| (*count as f64, *count as f64 * each.1 / 1e6)).collect(),
            });
            judge(bench, state, side, &points, &samples);
            if let Some(lost) = samples.iter().find_map(Sample::lost_at) {
                text += &format!(
                    " {1} could not keep all of the {0} guests: each takes several mappings, and this system limits a process \
                     to {2} (`vm.max_map_count`).",
                    grouped(lost as f64),
                    side.name(),
                    grouped(mapping_limit()? as f64),
                );
            }
            rows.extend(
                points.iter().map(|point| {
                    row(state, side, *point, points.last().is_some_and(|last| last.0 == point.0), &samples)
                }),
            );
        }
        text += "\n\n";
        text += &bench.plot(plot(state, curves));
    }
    let columns = ["Connections", "Server", "count", "RSS each, kB", "PSS each, kB", "all answered after, ms"];
    let mut section = Section::new("Memory of waiting connections").text(text).columns(columns);
    rows.into_iter().for_each(|row| section.row(row));
    Ok(section)
}

fn plot(state: State, curves: Vec<Curve>) -> Plot {
    let (file, title) = match state {
        State::Idle => ("memory-idle", "Memory of connections before the first byte"),
        State::Begun => ("memory-guests", "Memory of connections with a live guest"),
    };
    Plot { file, title, x: "connections", scale: Scale::Linear, y: "MB of PSS", curves }
}

/// How many connections, and the RSS and PSS of each of them.
type Point = (usize, (f64, f64));

/// Medians of the samples, at those steps that all of them have reached.
fn growth(samples: &[Sample]) -> Vec<Point> {
    let reached = samples.iter().map(|sample| sample.steps.len()).min().unwrap_or(0);
    let at = |index: usize| -> Option<Point> {
        let (count, _) = samples.first()?.steps.get(index)?;
        let each = |figure: fn(&Memory) -> u64| {
            let figures = samples.iter().filter_map(|sample| sample.steps.get(index));
            median(figures.map(|(_, memory)| figure(memory) as f64)) / *count as f64
        };
        Some((*count, (each(|memory| memory.resident), each(|memory| memory.proportional))))
    };
    (0..reached).filter_map(at).collect()
}

fn judge(bench: &Bench<'_>, state: State, side: Side, points: &[Point], samples: &[Sample]) {
    let Some((_, (_, each))) = points.last() else { return };
    match (state, side) {
        (State::Idle, Side::Host) => {
            bench.aim("memory of a connection before the first byte", Bound::AtMost(2.3), each / 1e3, "kB");
            let failures = samples.iter().filter_map(Sample::outcome).map(|outcome| outcome.failures as f64);
            let what = "all idle connections active at once: refused or failed";
            bench.aim(what, Bound::AtMost(0.0), failures.sum(), "connections");
        }
        (State::Begun, Side::Host) => {
            bench.aim("memory of a connection with a live Rust guest", Bound::AtMost(24.0), each / 1e3, "kB");
        }
        _ => {}
    }
}

fn row(state: State, side: Side, point: Point, is_last: bool, samples: &[Sample]) -> Vec<String> {
    let (count, (resident, proportional)) = point;
    let answered: Vec<f64> =
        samples.iter().filter_map(Sample::outcome).map(|outcome| outcome.elapsed.as_secs_f64()).collect();
    vec![
        state.name().to_owned(),
        side.name().to_owned(),
        grouped(count as f64),
        kilobytes(resident),
        kilobytes(proportional),
        if is_last && !answered.is_empty() { milliseconds(median(answered)) } else { String::new() },
    ]
}

/// All sides in turn.
fn samples(bench: &Bench<'_>, state: State, steps: &[usize]) -> anyhow::Result<Vec<(Side, Vec<Sample>)>> {
    let mut all: Vec<(Side, Vec<Sample>)> = Side::USUAL.into_iter().map(|side| (side, Vec::new())).collect();
    for _ in 0..bench.options.rounds.min(MOST_ROUNDS) {
        for (side, samples) in &mut all {
            samples.push(sample(bench, state, *side, steps)?);
        }
    }
    Ok(all)
}

fn sample(bench: &Bench<'_>, state: State, side: Side, steps: &[usize]) -> anyhow::Result<Sample> {
    let server = bench.start(bench.launch(side, Work::Hello, steps.last().copied().unwrap_or(0))?)?;
    let warm_up = bench.start_load(&format!("hello {} --clients 16 --seconds 0.5", server.address()))?;
    warm_up.line(LIMIT)?;
    warm_up.finish(LIMIT)?;
    let before = settled(server.pid())?;
    let others = descriptors(server.pid())?;

    let arguments = format!("idle {}", server.address());
    let mut load = bench.start_load(&arguments)?;
    let mut reached = Vec::new();
    for &count in steps {
        load.tell(&format!("open {count}"))?;
        expect(&load.line(LIMIT)?, "opened")?;
        accepted(&server, others + count)?;
        if state == State::Begun {
            load.tell(&format!("begin {count}"))?;
            expect(&load.line(LIMIT)?, "begun")?;
        }
        let now = settled(server.pid())?;
        if descriptors(server.pid())? < others + count {
            drop(load);
            server.stop()?;
            return Ok(Sample { steps: reached, ending: Ending::Lost(count) });
        }
        reached.push((count, now.since(before)));
    }
    load.tell("finish")?;
    let outcome: Outcome = load.line(LIMIT)?.parse()?;
    bench.note_failures(side.name(), &arguments, &outcome);
    load.finish(LIMIT)?;
    server.stop()?;
    Ok(Sample { steps: reached, ending: Ending::Answered(outcome) })
}

impl Sample {
    fn outcome(&self) -> Option<&Outcome> {
        match &self.ending {
            Ending::Answered(outcome) => Some(outcome),
            Ending::Lost(_) => None,
        }
    }

    fn lost_at(&self) -> Option<usize> {
        match self.ending {
            Ending::Answered(_) => None,
            Ending::Lost(count) => Some(count),
        }
    }
}

pub(super) fn expect(line: &str, expected: &str) -> anyhow::Result<()> {
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
