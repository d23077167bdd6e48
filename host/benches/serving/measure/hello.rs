//! Short connections: how many a second, how long each takes, and what each costs the server.

use std::time::Duration;

use super::{Bench, Both, Round, Section, Side};
use crate::options::Work;
use crate::report::{grouped, microseconds};
use crate::servers::Server;
use crate::statistics::{Ratio, median};

/// Before the first round that counts, so that connection pools, page tables and branch predictors know the work.
const WARM_UP: Duration = Duration::from_millis(500);
/// For connections that were begun in time; the load gives up on each of them earlier.
const GRACE: Duration = Duration::from_secs(60);

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let options = bench.options;
    let servers = bench.start_both(Work::Hello, options.clients.iter().copied().max().unwrap_or(1))?;
    let mut section = Section::new("Short connections: `hello`")
        .text(
            "Each client connects, sends `bob` and a newline, reads `Hello bob!` to the end of the connection, and \
             begins again. Latency is from connecting to the end. CPU is user and system time of the server's process \
             for each connection.",
        )
        .columns([
            "Clients",
            "Native, connections/s",
            "Host, connections/s",
            "Host ÷ native",
            "p50 native, µs",
            "p50 host, µs",
            "p99 native, µs",
            "p99 host, µs",
            "p99 host ÷ native",
            "CPU native, µs",
            "CPU host, µs",
        ]);
    for &clients in &options.clients {
        for side in [Side::Native, Side::Host] {
            round(bench, side, servers.get(side), clients, WARM_UP.min(options.seconds))?;
        }
        let rounds =
            Both::alternate(options.rounds, |side| round(bench, side, servers.get(side), clients, options.seconds))?;
        section.row(row(clients, &rounds));
    }
    servers.native.stop()?;
    servers.host.stop()?;
    Ok(section)
}

fn round(bench: &Bench<'_>, side: Side, server: &Server, clients: usize, time: Duration) -> anyhow::Result<Round> {
    let seconds = time.as_secs_f64();
    let arguments = format!("hello {} --clients {clients} --seconds {seconds}", server.address());
    bench.run_load(side, server, &arguments, time + GRACE)
}

fn row(clients: usize, rounds: &Both<Vec<Round>>) -> Vec<String> {
    let rate = rounds.figures(|round| round.outcome.completed as f64 / round.outcome.elapsed.as_secs_f64());
    let p50 = rounds.figures(|round| round.outcome.p50.as_secs_f64());
    let p99 = rounds.figures(|round| round.outcome.p99.as_secs_f64());
    let cpu = rounds.figures(|round| round.server_cpu_time.as_secs_f64() / round.outcome.completed as f64);
    vec![
        grouped(clients as f64),
        grouped(median(rate.native.iter().copied())),
        grouped(median(rate.host.iter().copied())),
        Ratio::of_pairs(&rate.native, &rate.host).to_string(),
        microseconds(median(p50.native)),
        microseconds(median(p50.host)),
        microseconds(median(p99.native.iter().copied())),
        microseconds(median(p99.host.iter().copied())),
        Ratio::of_pairs(&p99.native, &p99.host).to_string(),
        microseconds(median(cpu.native)),
        microseconds(median(cpu.host)),
    ]
}
