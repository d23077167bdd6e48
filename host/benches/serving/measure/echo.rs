//! Long connections in bulk: how much they carry a second, and their cost for the server.

use std::time::Duration;

use super::series::Series;
use super::{Bench, Contestant, Round, Section, Side};
use crate::aims::Bound;
use crate::options::Work;
use crate::report::{grouped, microseconds, milliseconds};
use crate::statistics::{Ratio, median};

/// The load gives up on each connection earlier.
const LIMIT: Duration = Duration::from_secs(360);
const MEBIBYTE: u64 = 1024 * 1024;

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let options = bench.options;
    let contestants =
        bench.start_all(&Side::USUAL, Work::Echo, options.echo_clients.iter().copied().max().unwrap_or(1))?;
    let total = options.echo_mebibytes;
    let mut section = Section::new("Bulk: `echo`")
        .text(format!(
            "The clients of a round share {total} MiB. Each sends its part over one connection, reads it back at the same \
             time, and compares every byte. Throughput counts each byte once. Time runs from connecting to the end of a \
             connection. CPU is the time of the server's process for each MiB, in user mode and in the kernel.",
        ))
        .columns(["Clients", "Server", "MiB/s", "÷ native", "time, ms", "user, µs", "system, µs", "CPU ÷ native"]);
    for &clients in &options.echo_clients {
        let bytes_per_client = total * MEBIBYTE / (clients as u64).max(1);
        for contestant in &contestants {
            round(bench, contestant, clients, bytes_per_client / 8)?;
        }
        let all = Series::alternate(&contestants, options.rounds, |contestant| {
            round(bench, contestant, clients, bytes_per_client)
        })?;
        for series in &all {
            section.row(row(clients, bytes_per_client, series, &all[0]));
        }
        if let (1, [native, host, concurrent]) = (clients, &all[..]) {
            let ratio =
                |series| Ratio::of_pairs(&rate(native, bytes_per_client), &rate(series, bytes_per_client)).median;
            bench.aim("bulk echo on one connection, 0.2", Bound::AtLeast(0.95), ratio(host), "× native");
            bench.aim("bulk echo on one connection, 0.3", Bound::AtLeast(0.98), ratio(concurrent), "× native");
        }
    }
    contestants.into_iter().try_for_each(|contestant| contestant.server.stop())?;
    Ok(section)
}

fn round(bench: &Bench<'_>, contestant: &Contestant, clients: usize, bytes_per_client: u64) -> anyhow::Result<Round> {
    let address = contestant.server.address();
    let arguments = format!("echo {address} --clients {clients} --bytes-per-client {bytes_per_client}");
    bench.run_load(contestant, &arguments, LIMIT)
}

fn mebibytes(round: &Round, bytes_per_client: u64) -> f64 {
    (round.outcome.completed * bytes_per_client) as f64 / MEBIBYTE as f64
}

fn rate(series: &Series, bytes_per_client: u64) -> Vec<f64> {
    series.figures(|round| mebibytes(round, bytes_per_client) / round.outcome.elapsed.as_secs_f64())
}

fn row(clients: usize, bytes_per_client: u64, series: &Series, native: &Series) -> Vec<String> {
    let time = series.figures(|round| round.outcome.p50.as_secs_f64());
    let cpu = |series: &Series, time: fn(&Round) -> Duration| {
        series.figures(|round| time(round).as_secs_f64() / mebibytes(round, bytes_per_client))
    };
    let both = |round: &Round| round.cpu.user + round.cpu.system;
    vec![
        grouped(clients as f64),
        series.name.clone(),
        grouped(median(rate(series, bytes_per_client))),
        Ratio::of_pairs(&rate(native, bytes_per_client), &rate(series, bytes_per_client)).to_string(),
        milliseconds(median(time)),
        microseconds(median(cpu(series, |round| round.cpu.user))),
        microseconds(median(cpu(series, |round| round.cpu.system))),
        Ratio::of_pairs(&cpu(native, both), &cpu(series, both)).to_string(),
    ]
}
