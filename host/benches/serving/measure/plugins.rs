//! How long a start takes with many plugins, each at a listener of its own.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

use super::{Bench, Section};
use crate::load::hello::ask_once;
use crate::plot::{Curve, Plot, Scale};
use crate::report::grouped;
use crate::servers::{plugin, private_folder};
use crate::statistics::{median, with_range};

const COUNTS: [usize; 6] = [1, 10, 20, 30, 40, 50];
const MOST_ROUNDS: u32 = 3;

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let folder = private_folder(bench.folder(), "plugins")?;
    let most = COUNTS.into_iter().max().unwrap_or(1);
    let plugins = copies(&folder, most)?;
    // Compiles them all.
    start(bench, &folder, &plugins)?;
    let mut section = Section::new("Starting with many plugins").columns([
        "Plugins",
        "Listening after, ms",
        "First answer after, ms",
    ]);
    let mut points = Vec::new();
    for count in COUNTS {
        let (mut listening, mut answered) = (Vec::new(), Vec::new());
        for _ in 0..bench.options.rounds.min(MOST_ROUNDS) {
            let (until_listening, until_answered) = start(bench, &folder, &plugins[..count])?;
            listening.push(until_listening);
            answered.push(until_answered);
        }
        section.row(vec![grouped(count as f64), with_range(&listening), with_range(&answered)]);
        points.push((count as f64, median(listening) * 1e3));
    }
    let plot = bench.plot(Plot {
        file: "start-plugins",
        title: "From the start to listening",
        x: "plugins",
        scale: Scale::Linear,
        y: "ms",
        curves: vec![Curve { name: "host", points }],
    });
    Ok(section.before(format!(
        "Times run from the start of the process. The plugins are different files, all in the cache, and each has a \
         listener of its own.\n\n{plot}",
    )))
}

/// Plugins that do the same but differ as files: each has its number in a custom section.
fn copies(folder: &Path, count: usize) -> anyhow::Result<Vec<PathBuf>> {
    let original = fs::read(plugin("hello")?)?;
    let copy = |number: usize| {
        let (name, path) = (b"copy", folder.join(format!("hello-{number}.wasm")));
        let number = u32::try_from(number)?.to_le_bytes();
        // A custom section: its id, how long what follows is, its name with its length, its
        // content.
        let length = u8::try_from(1 + name.len() + number.len())?;
        let bytes = [&original[..], &[0, length, u8::try_from(name.len())?], name, &number].concat();
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    };
    (0..count).map(copy).collect()
}

/// Seconds until it listens, and until the first listener has answered.
fn start(bench: &Bench<'_>, folder: &Path, plugins: &[PathBuf]) -> anyhow::Result<(f64, f64)> {
    let mut configuration = String::new();
    for path in plugins {
        // Paths of temporary folders hold nothing that would have to be escaped, but backslashes
        // are TOML's.
        writeln!(configuration, "[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = '{}'\n", path.display())?;
    }
    let file = folder.join("host.toml");
    fs::write(&file, configuration).with_context(|| format!("write {}", file.display()))?;
    let begin = Instant::now();
    let server = bench.start(bench.host_with_defaults()?.configured(&file, plugins.len()))?;
    let listening = begin.elapsed().as_secs_f64();
    ask_once(server.address())?;
    let answered = begin.elapsed().as_secs_f64();
    server.stop()?;
    Ok((listening, answered))
}
