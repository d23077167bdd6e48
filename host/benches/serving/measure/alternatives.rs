//! Other tools for the same job, in one interleaved run with the host.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use super::series::{COLUMNS, Series};
use super::{Bench, Contestant, Section, Side};
use crate::aims::Bound;
use crate::alternatives::{Forking, handler, installed};
use crate::options::{Work, root};
use crate::report::grouped;
use crate::servers::{Launch, free_address, plugin};
use crate::statistics::Ratio;

const CLIENTS: [usize; 2] = [16, 64];
/// A process for each connection: not more of them than a machine has room for.
const MOST_PROCESSES: usize = 512;

/// With HTTP.
const HTTP_CLIENTS: usize = 32;
const HTTP_CONNECTIONS: usize = 1000;
const HTTP_COLUMNS: [&str; 10] = [
    "Connections",
    "Server",
    "requests/s",
    "÷ host",
    "p50, µs",
    "p99, µs",
    "p99 ÷ host",
    "user, µs",
    "system, µs",
    "CPU ÷ host",
];

/// How to get the server that runs HTTP plugins.
const WASMTIME: &str = "CARGO_PROFILE_RELEASE_LTO=fat cargo install wasmtime-cli --version 48.0.8 --locked --no-default-features \
    --features run,serve,component-model,component-model-async,pooling-allocator,cranelift,parallel-compilation,logging --root target/wasmtime";

/// These make it fast: memory, tables and stacks stay mapped from one guest to the next. The host
/// also runs such a component without the engine's concurrency, for which `wasmtime serve` has no
/// option.
const TUNED: [&str; 7] = [
    "-Opooling-allocator=y",
    "-Opooling-memory-keep-resident=2097152",
    "-Opooling-table-keep-resident=65536",
    "-Opooling-async-stack-keep-resident=65536",
    "-Opooling-pagemap-scan=yes",
    "-Opooling-max-unused-warm-slots=1000",
    "-Opooling-max-memory-size=67108864",
];

/// Servers that start a process for each connection, with the handler natively compiled.
pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let handler = handler(bench.folder())?;
    let mut contestants = bench.start_all(&[Side::Native, Side::Host], Work::Hello, MOST_PROCESSES)?;
    let mut text = "These servers start a process for each connection: a native program that does on its standard streams what \
                    `hello` does, and that loads only the C library. CPU is the time of the server and of all its children."
        .to_owned();
    for forking in Forking::ALL {
        let (name, address) = (forking.name(), free_address()?);
        match forking.command(address, &handler, MOST_PROCESSES) {
            Some(command) => {
                let server = bench.start(Launch::foreign(name, command, address))?;
                contestants.push(Contestant { name: name.to_owned(), server });
            }
            None => text += &format!(" Left out: {name} (Debian: `apt-get install {}`).", forking.package()),
        }
    }
    let mut section = Section::new("Against a process for each connection")
        .text(text)
        .columns(["Clients"].into_iter().chain(COLUMNS));
    let mut best = Vec::new();
    for clients in CLIENTS {
        let arguments = |contestant: &Contestant| format!("hello {} --clients {clients}", contestant.server.address());
        let all = Series::for_a_time(bench, &contestants, arguments)?;
        rows(&mut section, clients, &all);
        if let [_native, host, others @ ..] = &all[..] {
            best.extend(others.iter().map(|other| Ratio::of_pairs(&other.rate(), &host.rate()).median));
        }
    }
    if !best.is_empty() {
        let least = best.into_iter().fold(f64::INFINITY, f64::min);
        bench.aim(
            "against the best server with a process for each connection",
            Bound::AtLeast(1.0),
            least,
            "× its rate",
        );
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;
    Ok(section)
}

/// `wasmtime serve`, with a connection for each request and with one for all of a client's.
pub(crate) fn http(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let section = Section::new("Against `wasmtime serve`");
    let Some(wasmtime) = bench.options.wasmtime.clone().or_else(|| installed("wasmtime")).or_else(built) else {
        return Ok(
            section.text(format!("Not measured: it is not installed. To have it compared:\n\n```sh\n{WASMTIME}\n```"))
        );
    };
    ensure!(wasmtime.is_file(), "--wasmtime {}: no such file", wasmtime.display());
    let component = plugin("http-wasi")?;
    let serve = |name: &str, tuning: &[&str]| -> anyhow::Result<Contestant> {
        let address = free_address()?;
        let mut command = Command::new(&wasmtime);
        command.args(["serve", "-Scli", "--addr", &address.to_string()]).args(tuning).arg(&component);
        let name = name.to_owned();
        Ok(Contestant { name, server: bench.start(Launch::foreign("wasmtime", command, address))? })
    };
    let host = bench.start(bench.host(HTTP_CONNECTIONS)?.plugin(&component, 1))?;
    let contestants = [
        Contestant { name: "host".to_owned(), server: host },
        serve("wasmtime serve, tuned", &TUNED)?,
        serve("wasmtime serve", &[])?,
    ];
    let mut section = section
        .text(format!(
            "`GET /` with {HTTP_CLIENTS} clients. Both servers run the same component, `http-wasi.wasm` of the test guests, with a \
             fresh guest for each request. *Tuned* means:\n\n```\n{}\n```",
            TUNED.join("\n"),
        ))
        .columns(HTTP_COLUMNS);
    for (connections, option, aim) in [
        ("one for each request", "", "requests/s against `wasmtime serve`, tuned"),
        ("kept alive", " --keep-alive", "the same with connections that are kept alive"),
    ] {
        let arguments = |one: &Contestant| format!("http {} --clients {HTTP_CLIENTS}{option}", one.server.address());
        let all = Series::for_a_time(bench, &contestants, arguments)?;
        for series in &all {
            let mut row = vec![connections.to_owned()];
            row.extend(series.cells(&all[0]));
            section.row(row);
        }
        if let [host, tuned, _] = &all[..] {
            bench.aim(aim, Bound::AtLeast(1.0), Ratio::of_pairs(&tuned.rate(), &host.rate()).median, "× its rate");
        }
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;
    Ok(section)
}

/// Where [`WASMTIME`] puts it.
fn built() -> Option<PathBuf> {
    Some(root().join("target/wasmtime/bin/wasmtime")).filter(|path| path.is_file())
}

fn rows(section: &mut Section, clients: usize, all: &[Series]) {
    for series in all {
        let mut row = vec![grouped(clients as f64)];
        row.extend(series.cells(&all[0]));
        section.row(row);
    }
}
