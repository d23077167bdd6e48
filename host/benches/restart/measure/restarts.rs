//! Restarts back to back under load: whether every client is answered, and whether anything is left
//! over.

use std::time::{Duration, Instant};

use super::{Bench, Section, median_and_highest};
use crate::load::{Answers, Load};
use crate::options::Transport;
use crate::patience::pass;
use crate::resources::Resources;
use crate::section::grouped;
use crate::service::{Logged, Service};

/// How long clients ask before the benchmark counts a process's resources: by then its pool and its
/// buffers have their final size.
const WARM_UP: Duration = Duration::from_secs(1);

/// The table of the clients' results, and that of the service's resources before and after.
pub(crate) fn sections(bench: &Bench<'_>) -> anyhow::Result<(Section, Section)> {
    let mut outcome = Section::new("Restarts under load")
        .text(
            "Each client connects, sends `bob` and a newline, reads `Hello bob!` to the end of the connection, and begins \
             again. Meanwhile restarts follow each other: USR1, a wait until the pidfile names the successor, then one answer \
             for each client.\n\n\
             A failure is a connection that was refused, reset or truncated, or that got a wrong answer or none within 60 s. \
             Each read of the pidfile found it whole. *Named after* runs from USR1 to the first read that found the \
             successor's number.",
        )
        .columns([
            "Transport",
            "Clients",
            "Restarts",
            "Answered",
            "Failures",
            "Answers/s",
            "Pidfile reads",
            "Named after, ms: median",
            "maximum",
        ]);
    let mut at_rest = Section::new("What is left")
        .text(
            "The service before the restarts, after one, and after all of them: each time warmed up by the same clients for \
             1 s, at rest, and with earlier generations gone. A second generation keeps some things of its predecessor, so it \
             differs from the first. The last must not differ from the second.\n\n\
             Columns show the descriptors, memory (VmRSS) and mappings (lines of `maps`) of the serving process, the \
             descendants of the first process, zombies, and the files in the service's folder: the pidfile and the socket.",
        )
        .columns([
            "Transport",
            "Clients",
            "Generation",
            "Descriptors",
            "VmRSS, KiB",
            "Mappings",
            "Processes",
            "Zombies",
            "Files",
        ]);
    for (transport, clients) in bench.combinations() {
        eprintln!("measuring {} restarts over {transport} with {clients} clients", bench.options.restarts);
        measure(bench, transport, clients, &mut outcome, &mut at_rest)?;
    }
    Ok((outcome, at_rest))
}

fn measure(
    bench: &Bench<'_>,
    transport: Transport,
    clients: usize,
    outcome: &mut Section,
    at_rest: &mut Section,
) -> anyhow::Result<()> {
    let mut service = bench.start(&bench.options.plugin, transport, Logged::Service)?;
    let before = warm_at_rest(bench, &service, clients)?;
    service.restart()?;
    service.drained()?;
    let after_one = warm_at_rest(bench, &service, clients)?;
    let reads_before = service.pidfile_reads();
    let load = Load::start(service.address(), clients, 0, Answers::Counted)?;
    load.goes_on(clients as u64)?;
    let (start, answered_before) = (Instant::now(), load.answered());
    let mut named = Vec::new();
    for _ in 0..bench.options.restarts {
        let restart = service.restart()?;
        named.push(restart.named.duration_since(restart.asked).as_secs_f64());
        load.goes_on(clients as u64)?;
    }
    let rate = (load.answered() - answered_before) as f64 / start.elapsed().as_secs_f64();
    let seen = load.stop()?;
    bench.note_outcome(&seen);
    let reads = service.pidfile_reads() - reads_before;
    service.drained()?;
    let after = warm_at_rest(bench, &service, clients)?;
    bench.note(service.stop()?);
    let [median, highest] = median_and_highest(&named);
    outcome.row(vec![
        transport.to_string(),
        clients.to_string(),
        named.len().to_string(),
        grouped(seen.answered as f64),
        seen.failures.len().to_string(),
        grouped(rate),
        grouped(reads as f64),
        median,
        highest,
    ]);
    for (which, resources) in [("first generation", before), ("second", after_one), ("last", after)] {
        let Resources { descriptors, resident, mappings, processes, zombies, files } = resources;
        at_rest.row(vec![
            transport.to_string(),
            clients.to_string(),
            which.to_owned(),
            descriptors.to_string(),
            grouped(resident as f64),
            grouped(mappings as f64),
            processes.to_string(),
            zombies.to_string(),
            files.to_string(),
        ]);
    }
    Ok(())
}

/// The resources of the service after clients have come and gone.
fn warm_at_rest(bench: &Bench<'_>, service: &Service, clients: usize) -> anyhow::Result<Resources> {
    let load = Load::start(service.address(), clients, 0, Answers::Counted)?;
    pass(WARM_UP)?;
    bench.note_outcome(&load.stop()?);
    // The host closes its side of the last connections a moment after their clients have.
    pass(WARM_UP / 4)?;
    Resources::of(service.current(), service.folder())
}
