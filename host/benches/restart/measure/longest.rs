//! The longest request around a restart, beside the longest without one.

use std::time::{Duration, Instant};

use super::{Bench, Section, median_and_highest};
use crate::load::{Answers, Load};
use crate::patience::pass;
use crate::service::Logged;

/// The shortest duration of a round.
const ROUND: Duration = Duration::from_secs(2);
/// The part of a round before its restart, and the shortest part after it.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_millis(500);

pub(crate) fn section(bench: &Bench<'_>) -> anyhow::Result<Section> {
    let mut section = Section::new("The longest wait")
        .text(
            "The longest request of any client in each round, from connecting to the end of the answer. A round is 2 s with a \
             restart after 0.5 s, then 2 s without one. Columns show the median and the maximum of the rounds. The longest of \
             thousands of requests also depends on the rest of the machine, so compare the two.",
        )
        .columns([
            "Transport",
            "Clients",
            "Rounds",
            "With a restart, ms: median",
            "maximum",
            "Without, ms: median",
            "maximum",
        ]);
    let rounds = bench.options.rounds as usize;
    for (transport, clients) in bench.combinations() {
        eprintln!("measuring the longest waits over {transport} with {clients} clients");
        let mut service = bench.start(&bench.options.plugin, transport, Logged::Service)?;
        // Window 0 is for requests outside of every round: the clients' own start.
        let load = Load::start(service.address(), clients, 2 * rounds + 1, Answers::Counted)?;
        pass(ROUND)?;
        for round in 0..rounds {
            load.enter(2 * round + 1);
            let begin = Instant::now();
            pass(BEFORE)?;
            service.restart()?;
            // A slow machine gets a longer round instead of one that ends before its restart.
            pass(AFTER.max(ROUND.saturating_sub(begin.elapsed())))?;
            let length = begin.elapsed();
            load.enter(2 * round + 2);
            pass(length)?;
        }
        load.enter(0);
        let seen = load.stop()?;
        bench.note_outcome(&seen);
        bench.note(service.stop()?);
        let of = |first: usize| -> Vec<f64> {
            seen.longest.iter().skip(first).step_by(2).map(Duration::as_secs_f64).collect()
        };
        let [restarted, restarted_highest] = median_and_highest(&of(1));
        let [undisturbed, undisturbed_highest] = median_and_highest(&of(2));
        section.row(vec![
            transport.to_string(),
            clients.to_string(),
            rounds.to_string(),
            restarted,
            restarted_highest,
            undisturbed,
            undisturbed_highest,
        ]);
    }
    Ok(section)
}
