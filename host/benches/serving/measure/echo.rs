//! Long connections on which much is sent and read back: how much a second, and what it costs the server.

use std::time::Duration;

use super::{Bench, Both, Round, Section, Side};
use crate::options::Work;
use crate::report::{grouped, microseconds, milliseconds};
use crate::servers::Server;
use crate::statistics::{Ratio, median};

/// The load gives up on each connection earlier.
const LIMIT: Duration = Duration::from_secs(360);
const MEBIBYTE: u64 = 1024 * 1024;

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let options = bench.options;
    let servers = bench.start_both(Work::Echo, options.echo_clients.iter().copied().max().unwrap_or(1))?;
    let total = options.echo_mebibytes;
    let mut section = Section::new("Bulk: `echo`")
        .text(format!(
            "The clients of a round share {total} MiB: each sends its part over one connection and reads it back at \
             the same time, and compares every byte. Throughput counts each byte once. Time is from connecting to the \
             end of a connection. CPU is user and system time of the server's process for each MiB.",
        ))
        .columns([
            "Clients",
            "Native, MiB/s",
            "Host, MiB/s",
            "Host ÷ native",
            "Time native, ms",
            "Time host, ms",
            "CPU native, µs",
            "CPU host, µs",
        ]);
    for &clients in &options.echo_clients {
        let bytes_per_client = total * MEBIBYTE / (clients as u64).max(1);
        for side in [Side::Native, Side::Host] {
            round(bench, side, servers.get(side), clients, bytes_per_client / 8)?;
        }
        let rounds =
            Both::alternate(options.rounds, |side| round(bench, side, servers.get(side), clients, bytes_per_client))?;
        section.row(row(clients, bytes_per_client, &rounds));
    }
    servers.native.stop()?;
    servers.host.stop()?;
    Ok(section)
}

fn round(
    bench: &Bench<'_>,
    side: Side,
    server: &Server,
    clients: usize,
    bytes_per_client: u64,
) -> anyhow::Result<Round> {
    let arguments = format!("echo {} --clients {clients} --bytes-per-client {bytes_per_client}", server.address());
    bench.run_load(side, server, &arguments, LIMIT)
}

fn row(clients: usize, bytes_per_client: u64, rounds: &Both<Vec<Round>>) -> Vec<String> {
    let mebibytes = |round: &Round| (round.outcome.completed * bytes_per_client) as f64 / MEBIBYTE as f64;
    let rate = rounds.figures(|round| mebibytes(round) / round.outcome.elapsed.as_secs_f64());
    let time = rounds.figures(|round| round.outcome.p50.as_secs_f64());
    let cpu = rounds.figures(|round| round.server_cpu_time.as_secs_f64() / mebibytes(round));
    vec![
        grouped(clients as f64),
        grouped(median(rate.native.iter().copied())),
        grouped(median(rate.host.iter().copied())),
        Ratio::of_pairs(&rate.native, &rate.host).to_string(),
        milliseconds(median(time.native)),
        milliseconds(median(time.host)),
        microseconds(median(cpu.native)),
        microseconds(median(cpu.host)),
    ]
}
