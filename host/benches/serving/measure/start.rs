//! From the start of the process to its `listening` line, and to the end of its first answer.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::succession::describe;
use super::{Bench, Section, Side};
use crate::load::hello::ask_once;
use crate::options::Work;
use crate::servers::{Launch, plugin};
use crate::statistics::with_range;

/// Times of one start, in seconds.
struct Start {
    listening: f64,
    answered: f64,
}

/// The starts of one row of the table.
struct Starts {
    what: String,
    starts: Vec<Start>,
}

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let mut rows = vec![Starts::new("native".to_owned())];
    let mut plugins: Vec<PathBuf> = vec![plugin("hello")?];
    if let Some(path) = &bench.options.large_plugin {
        ensure!(path.is_file(), "--large-plugin {}: no such file", path.display());
        plugins.push(path.clone());
    }
    for path in &plugins {
        let name = describe(path)?;
        rows.extend(["cold", "cached"].map(|state| Starts::new(format!("host, {name}, {state}"))));
    }
    for round in 0..bench.options.rounds {
        let mut row = rows.iter_mut();
        let mut add = |start| row.next().map(|row| row.starts.push(start)).context("there is a row for each start");
        add(start(bench, bench.launch(Side::Native, Work::Hello, 1)?)?)?;
        for (index, path) in plugins.iter().enumerate() {
            // A folder of its own for each round: empty at first, and full of what the first start
            // has compiled after it.
            let cache = bench.cache(&format!("cache-{index}-{round}"))?;
            for state in ["cold", "cached"] {
                let started = start(bench, Launch::host(&bench.options.host, &cache).plugin(path, 1));
                add(started.with_context(|| format!("start the host {state} with {}", path.display()))?)?;
            }
        }
    }
    let mut section = Section::new("Starting")
        .text(
            "Times run from the start of the process. *cold*: nothing is compiled yet, and the folder of `--cache-dir` is \
             empty. *cached*: an earlier start has filled that folder. The first answer includes connecting.",
        )
        .columns(["Server, plugin", "Listening after, ms", "First answer after, ms"]);
    for Starts { what, starts } in rows {
        let listening: Vec<f64> = starts.iter().map(|start| start.listening).collect();
        let answered: Vec<f64> = starts.iter().map(|start| start.answered).collect();
        section.row(vec![what, with_range(&listening), with_range(&answered)]);
    }
    Ok(section)
}

impl Starts {
    fn new(what: String) -> Self {
        Self { what, starts: Vec::new() }
    }
}

fn start(bench: &Bench<'_>, launch: Launch) -> anyhow::Result<Start> {
    let begin = Instant::now();
    let server = bench.start(launch)?;
    let listening = begin.elapsed().as_secs_f64();
    ask_once(server.address())?;
    let answered = begin.elapsed().as_secs_f64();
    server.stop()?;
    Ok(Start { listening, answered })
}
