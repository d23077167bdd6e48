//! TLS: how many handshakes a second, full and resumed, and what each costs the server.

use std::time::Duration;

use super::{Bench, Both, Round, Section, Side};
use crate::encryption::{Files, Handshake};
use crate::options::Work;
use crate::report::{grouped, microseconds};
use crate::servers::Server;
use crate::statistics::{Ratio, median};

/// Before the first round that counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// For connections that were begun in time; the load gives up on each of them earlier.
const GRACE: Duration = Duration::from_secs(60);

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let options = bench.options;
    let files = Files::make(&bench.folder)?;
    let most = options.clients.iter().copied().max().unwrap_or(1);
    let start = |side| bench.start_encrypted(side, Work::Hello, most, &files);
    let servers = Both { native: start(Side::Native)?, host: start(Side::Host)? };
    let mut section = Section::new("TLS handshakes: `hello`")
        .text(
            "As with short connections, over TLS 1.3 with a key on P-256; both servers have the same library and \
             settings, and each handshake is verified to be full or resumed. The clients' half of each handshake is \
             done on the same machine and takes as long.",
        )
        .columns([
            "Handshake",
            "Clients",
            "Native, handshakes/s",
            "Host, handshakes/s",
            "Host ÷ native",
            "p99 native, µs",
            "p99 host, µs",
            "CPU native, µs",
            "CPU host, µs",
            "CPU host ÷ native",
        ]);
    for handshake in [Handshake::Full, Handshake::Resumed] {
        for &clients in &options.clients {
            let round = |side, time| round(bench, side, servers.get(side), &files, handshake, clients, time);
            for side in [Side::Native, Side::Host] {
                round(side, WARM_UP.min(options.seconds))?;
            }
            let rounds = Both::alternate(options.rounds, |side| round(side, options.seconds))?;
            section.row(row(handshake, clients, &rounds));
        }
    }
    servers.native.stop()?;
    servers.host.stop()?;
    Ok(section)
}

fn round(
    bench: &Bench<'_>,
    side: Side,
    server: &Server,
    files: &Files,
    handshake: Handshake,
    clients: usize,
    time: Duration,
) -> anyhow::Result<Round> {
    let (seconds, address) = (time.as_secs_f64(), server.address());
    let (certificate, handshake) = (files.tls_certificate.display(), word(handshake));
    let arguments = format!("handshakes {address} {handshake} {certificate} --clients {clients} --seconds {seconds}");
    bench.run_load(side, server, &arguments, time + GRACE)
}

fn word(handshake: Handshake) -> &'static str {
    match handshake {
        Handshake::Full => "full",
        Handshake::Resumed => "resumed",
    }
}

fn row(handshake: Handshake, clients: usize, rounds: &Both<Vec<Round>>) -> Vec<String> {
    let rate = rounds.figures(|round| round.outcome.completed as f64 / round.outcome.elapsed.as_secs_f64());
    let p99 = rounds.figures(|round| round.outcome.p99.as_secs_f64());
    let cpu = rounds.figures(|round| round.server_cpu_time.as_secs_f64() / round.outcome.completed as f64);
    vec![
        word(handshake).to_owned(),
        grouped(clients as f64),
        grouped(median(rate.native.iter().copied())),
        grouped(median(rate.host.iter().copied())),
        Ratio::of_pairs(&rate.native, &rate.host).to_string(),
        microseconds(median(p99.native)),
        microseconds(median(p99.host)),
        microseconds(median(cpu.native.iter().copied())),
        microseconds(median(cpu.host.iter().copied())),
        Ratio::of_pairs(&cpu.native, &cpu.host).to_string(),
    ]
}
