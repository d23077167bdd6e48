//! How many system calls a connection takes, and which.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};

use super::{Bench, Contestant, Section, Side};
use crate::alternatives::installed;
use crate::options::Work;
use crate::process::{Process, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
/// A call that is rarer than this does not belong to a connection, and is left out.
const RARE: f64 = 0.02;

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let section = Section::new("System calls");
    let Some(strace) = installed("strace") else {
        return Ok(section.text("Not measured: this needs `strace` (Debian: `apt-get install strace`)."));
    };
    let contestants = bench.start_all(&Side::USUAL, Work::Hello, 1)?;
    let mut calls: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    for (index, contestant) in contestants.iter().enumerate() {
        for (name, count) in counts(bench, &strace, contestant)? {
            calls.entry(name).or_default()[index] = count;
        }
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;

    let mut section = section
        .text(
            "System calls for each connection, counted by `strace -c`, with one client that asks one question after the other. \
             A traced server is slow, so it waits more often than it does under load: expect more calls that wait and wake.",
        )
        .columns(["Call", "native", "host, 0.2", "host, 0.3"]);
    let total = calls.values().fold([0.0; 3], |sum, counts| std::array::from_fn(|index| sum[index] + counts[index]));
    let mut rows: Vec<(String, [f64; 3])> =
        calls.into_iter().filter(|(_, counts)| counts.iter().any(|count| *count >= RARE)).collect();
    rows.sort_by(|(_, one), (_, other)| other[1].total_cmp(&one[1]));
    for (name, counts) in rows.into_iter().chain([("all".to_owned(), total)]) {
        section.row([name].into_iter().chain(counts.map(|count| format!("{count:.2}"))).collect());
    }
    Ok(section)
}

/// The calls by their names, for each connection.
fn counts(bench: &Bench<'_>, strace: &std::path::Path, contestant: &Contestant) -> anyhow::Result<Vec<(String, f64)>> {
    let load = format!("hello {} --clients 1 --seconds 1", contestant.server.address());
    bench.run_load(contestant, &load, LIMIT)?;
    let (output, log) = (bench.log(), bench.log());
    let mut command = Command::new(strace);
    command.args(["-f", "-c", "-p", &contestant.server.pid().to_string(), "-o"]).arg(&output);
    let tracer = Process::start("strace", &mut command, log.clone())?;
    let attached = || Ok(fs::read_to_string(&log)?.contains("attached").then_some(()));
    wait_for("strace to attach itself", LIMIT, attached).map_err(|error| tracer.failure(&format!("{error:#}")))?;
    let round = bench.run_load(contestant, &load, LIMIT)?;
    kill(tracer.pid(), Signal::SIGINT).context("end strace")?;
    let counted = || Ok(Some(fs::read_to_string(&output)?).filter(|text| text.contains("total")));
    let table = wait_for("the table of strace", LIMIT, counted)?;
    // % time, seconds, usecs/call, calls, errors where there were any, and the name.
    let lines = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let calls: f64 = fields.get(3)?.parse().ok()?;
        let name = fields.last().filter(|name| **name != "total")?;
        Some(((*name).to_owned(), calls / round.outcome.completed as f64))
    });
    Ok(lines.collect())
}
