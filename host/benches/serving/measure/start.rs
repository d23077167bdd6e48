//! From the start of the process to its `listening` line, and to the end of its first answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Bench, Section};
use crate::load::hello::{ANSWER, QUESTION};
use crate::options::Work;
use crate::report::milliseconds;
use crate::servers::{Kind, plugin};
use crate::statistics::median;

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

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
    let mut plugins = vec![Plugin::new("hello", plugin(Work::Hello)?)?];
    if let Some(path) = &bench.options.large_plugin {
        ensure!(path.is_file(), "--large-plugin {}: no such file", path.display());
        plugins.push(Plugin::new("large", path.clone())?);
    }
    for plugin in &plugins {
        rows.push(Starts::new(format!("host, {}, cold", plugin.describe())));
        rows.push(Starts::new(format!("host, {}, cached", plugin.describe())));
    }
    for round in 0..bench.options.rounds {
        let mut row = rows.iter_mut();
        let mut add = |start| row.next().map(|row| row.starts.push(start)).context("there is a row for each start");
        add(start(bench, Kind::Native(Work::Hello))?)?;
        for plugin in &plugins {
            // A folder of its own for each round: empty at first, and full of what the first start has compiled after
            // it.
            let cache = bench.cache(&format!("cache-{}-{round}", plugin.name))?;
            for state in ["cold", "cached"] {
                let started = start(bench, bench.host(&plugin.path, &cache));
                add(started.with_context(|| format!("start the host {state} with {}", plugin.path.display()))?)?;
            }
        }
    }
    let mut section = Section::new("Starting")
        .text(
            "From the start of the process. Cold: nothing is compiled yet, the folder of `--cache-dir` is empty. \
             Cached: started before with that folder. The first answer includes connecting.",
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

struct Plugin {
    name: &'static str,
    path: PathBuf,
    bytes: u64,
}

impl Plugin {
    fn new(name: &'static str, path: PathBuf) -> anyhow::Result<Self> {
        let bytes = path.metadata().with_context(|| format!("read {}", path.display()))?.len();
        Ok(Self { name, path, bytes })
    }

    fn describe(&self) -> String {
        let name = self.path.file_name().map(Path::new).map(Path::display);
        let name = name.map_or_else(String::new, |name| name.to_string());
        match self.bytes {
            bytes @ 0..1_000_000 => format!("`{name}` ({} kB)", bytes / 1_000),
            bytes => format!("`{name}` ({:.1} MB)", bytes as f64 / 1e6),
        }
    }
}

fn start(bench: &Bench<'_>, kind: Kind<'_>) -> anyhow::Result<Start> {
    let begin = Instant::now();
    let server = bench.start(kind, 1)?;
    let listening = begin.elapsed().as_secs_f64();
    ask(server.address())?;
    let answered = begin.elapsed().as_secs_f64();
    server.stop()?;
    Ok(Start { listening, answered })
}

fn ask(server: SocketAddr) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect_timeout(&server, ANSWER_LIMIT)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    connection.write_all(QUESTION)?;
    let mut answer = Vec::new();
    connection
        .read_to_end(&mut answer)
        .with_context(|| format!("read the first answer, for at most {ANSWER_LIMIT:?}"))?;
    ensure!(answer == ANSWER, "answered `{}` instead of `{}`", answer.escape_ascii(), ANSWER.escape_ascii());
    Ok(())
}

/// The median, with the lowest and the highest in parentheses.
fn with_range(seconds: &[f64]) -> String {
    let lowest = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = seconds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let median = median(seconds.iter().copied());
    format!("{} ({}–{})", milliseconds(median), milliseconds(lowest), milliseconds(highest))
}
