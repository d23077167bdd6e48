//! Restarts and reloads: how long until the new one answers, and how that grows with open
//! connections and listeners.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;

use super::memory::expect;
use super::{Bench, Section};
use crate::aims::Bound;
use crate::generations::{Generations, Pair, Which};
use crate::plot::{Curve, Plot, Scale};
use crate::report::grouped;
use crate::servers::{plugin, private_folder};
use crate::statistics::{median, with_range};

const LIMIT: Duration = Duration::from_secs(120);
/// Where each round starts a new host.
const MOST_ROUNDS: u32 = 3;
/// How often each restart and reload is repeated in a round, where a round needs no new host.
const REPEATED: u32 = 4;

const LISTENERS: [usize; 5] = [1, 50, 100, 150, 200];

/// The first of these answers of a plugin, from the signal.
pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    set_child_subreaper(true).context("become the subreaper of successors")?;
    let mut section = Section::new("Restarts and reloads").columns([
        "Signal",
        "Plugin",
        "Open connections",
        "Listeners",
        "First new answer after, ms",
    ]);
    let large = bench.options.large_plugin.as_deref();
    let small = plugin("hello")?;
    for (hello, is_small) in [(Some(small.as_path()), true), (large, false)] {
        let Some(hello) = hello else { continue };
        for (signal, name) in [(Signal::SIGUSR1, "USR1"), (Signal::SIGHUP, "HUP")] {
            let times = repeated(bench, hello, signal)?;
            let (what, bound) = match (signal, is_small) {
                (Signal::SIGUSR1, true) => ("USR1 to the first answer, cached, small plugin", 20.0),
                (Signal::SIGUSR1, false) => ("USR1 to the first answer, cached, large plugin", 60.0),
                (_, true) => ("HUP to the new plugin's first answer, cached, small", 2.0),
                (_, false) => ("HUP to the new plugin's first answer, cached, large", 10.0),
            };
            bench.aim(what, Bound::AtMost(bound), median(times.iter().copied()) * 1e3, "ms");
            section.row(vec![name.to_owned(), describe(hello)?, "0".to_owned(), "1".to_owned(), with_range(&times)]);
        }
    }

    let most = bench.most_connections(bench.options.idle_connections)?;
    let counts: Vec<usize> = (0..=4).map(|part| most * part / 4).collect();
    let over_connections =
        rows(bench, &mut section, &counts, |count| restart(bench, most, count, 1), |count| (count, 1))?;
    let over_listeners =
        rows(bench, &mut section, &LISTENERS, |count| restart(bench, 64, 0, count), |count| (0, count))?;
    let plot = |file, x, points| {
        let curves = vec![Curve { name: "host", points }];
        bench.plot(Plot {
            file,
            title: "From USR1 to the successor's first answer",
            x,
            scale: Scale::Linear,
            y: "ms",
            curves,
        })
    };
    let connections = plot("restart-connections", "open connections", over_connections);
    let listeners = plot("restart-listeners", "listeners", over_listeners);
    Ok(section.before(format!(
        "The benchmark replaces the plugin's file by one with another answer, sends the signal, and asks until it gets the \
         new answer. Both plugins are in the cache already. USR1 starts a successor, HUP reloads. The old or the new \
         plugin answered every question on the way.\n\n\
         Open connections have sent nothing and stay with the predecessor. In those rows `--max-connections` is {}, which \
         makes each start slower.\n\n{connections}\n\n{listeners}",
        grouped(most as f64),
    )))
}

/// A row and a point for each number of something.
fn rows(
    bench: &Bench<'_>,
    section: &mut Section,
    counts: &[usize],
    restart: impl Fn(usize) -> anyhow::Result<f64>,
    place: impl Fn(usize) -> (usize, usize),
) -> anyhow::Result<Vec<(f64, f64)>> {
    let mut points = Vec::new();
    for &count in counts {
        let rounds = 0..bench.options.rounds.min(MOST_ROUNDS);
        let times = rounds.map(|_| restart(count)).collect::<anyhow::Result<Vec<f64>>>()?;
        let (connections, listeners) = place(count);
        section.row(vec![
            "USR1".to_owned(),
            describe(&plugin("hello")?)?,
            grouped(connections as f64),
            grouped(listeners as f64),
            with_range(&times),
        ]);
        points.push((count as f64, median(times) * 1e3));
    }
    Ok(points)
}

/// One host, again and again from one plugin to the other and back. Returns the times of the turns
/// to `hello`, in seconds.
fn repeated(bench: &Bench<'_>, hello: &Path, signal: Signal) -> anyhow::Result<Vec<f64>> {
    let mut generations = start(bench, hello, None, 1)?;
    let mut times = Vec::new();
    for round in 0..=bench.options.rounds * REPEATED {
        generations.turn_to(Which::Echo, signal)?;
        generations.settle()?;
        let time = generations.turn_to(Which::Hello, signal)?;
        generations.settle()?;
        // The first time, what was never loaded is compiled.
        if round > 0 {
            times.push(time.as_secs_f64());
        }
    }
    generations.stop()?;
    Ok(times)
}

/// One restart beside open connections.
fn restart(bench: &Bench<'_>, room: usize, connections: usize, listeners: usize) -> anyhow::Result<f64> {
    let mut generations = start(bench, &plugin("hello")?, Some(room), listeners)?;
    let mut load = bench.start_load(&format!("idle {}", generations.address()))?;
    load.tell(&format!("open {connections}"))?;
    expect(&load.line(LIMIT)?, "opened")?;
    let time = generations.turn_to(Which::Echo, Signal::SIGUSR1)?;
    drop(load);
    generations.settle()?;
    generations.stop()?;
    Ok(time.as_secs_f64())
}

fn start(bench: &Bench<'_>, hello: &Path, room: Option<usize>, listeners: usize) -> anyhow::Result<Generations> {
    let folder = private_folder(bench.folder(), &format!("generations-{}", bench.started.get()))?;
    let pair = Pair { hello: hello.to_owned(), echo: plugin("echo")? };
    let files = Generations::files(&folder, &pair)?;
    let host = match room {
        Some(room) => bench.host(room)?,
        None => bench.host_with_defaults()?,
    };
    let (plugin, pidfile) = &files;
    let launch = host.plugin(plugin, listeners).option("--pidfile", pidfile).option("--rollback-window", "0s");
    Generations::of(bench.start(launch)?, pair, files)
}

/// A plugin by its name and size.
pub(super) fn describe(path: &Path) -> anyhow::Result<String> {
    let bytes = path.metadata().with_context(|| format!("read {}", path.display()))?.len();
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    Ok(match bytes {
        0..1_000_000 => format!("`{}` ({} kB)", name.display(), bytes / 1_000),
        _ => format!("`{}` ({:.1} MB)", name.display(), bytes as f64 / 1e6),
    })
}
