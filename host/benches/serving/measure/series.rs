//! The rounds of several servers that take turns, and their rows in a table.

use std::time::Duration;

use super::{Bench, Contestant, Round};
use crate::report::{grouped, microseconds};
use crate::statistics::{Ratio, median};

/// Before the first round that counts, so that connection pools, page tables and branch predictors
/// know the work.
const WARM_UP: Duration = Duration::from_millis(500);
/// For connections that were begun in time; the load gives up on each of them earlier.
const GRACE: Duration = Duration::from_secs(60);

/// The columns that a table of short connections ends with.
pub(super) const COLUMNS: [&str; 9] = [
    "Server",
    "connections/s",
    "÷ native",
    "p50, µs",
    "p99, µs",
    "p99 ÷ native",
    "user, µs",
    "system, µs",
    "CPU ÷ native",
];

/// The rounds of one server.
pub(super) struct Series {
    pub(super) name: String,
    rounds: Vec<Round>,
}

impl Series {
    /// Lets the contestants take turns: from the first to the last, then from the last to the
    /// first, and so on. So what one of them leaves behind in the kernel does not always meet the
    /// same other one.
    pub(super) fn alternate(
        contestants: &[Contestant],
        rounds: u32,
        mut round: impl FnMut(&Contestant) -> anyhow::Result<Round>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut series: Vec<Self> =
            contestants.iter().map(|contestant| Self { name: contestant.name.clone(), rounds: Vec::new() }).collect();
        for turn in 0..rounds {
            let mut order: Vec<(&Contestant, &mut Self)> = contestants.iter().zip(&mut series).collect();
            if !turn.is_multiple_of(2) {
                order.reverse();
            }
            for (contestant, series) in order {
                series.rounds.push(round(contestant)?);
            }
        }
        Ok(series)
    }

    /// The same with clients that ask for a time, after a warm-up. `arguments` are those of the
    /// load, but for the time.
    pub(super) fn for_a_time(
        bench: &Bench<'_>,
        contestants: &[Contestant],
        arguments: impl Fn(&Contestant) -> String,
    ) -> anyhow::Result<Vec<Self>> {
        let round = |contestant: &Contestant, time: Duration| {
            let arguments = format!("{} --seconds {}", arguments(contestant), time.as_secs_f64());
            bench.run_load(contestant, &arguments, time + GRACE)
        };
        let time = bench.options.seconds;
        for contestant in contestants {
            round(contestant, WARM_UP.min(time))?;
        }
        Self::alternate(contestants, bench.options.rounds, |contestant| round(contestant, time))
    }

    /// One figure of each round.
    pub(super) fn figures(&self, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }

    /// Connections that went as they should, each second.
    pub(super) fn rate(&self) -> Vec<f64> {
        self.figures(|round| round.outcome.completed as f64 / round.outcome.elapsed.as_secs_f64())
    }

    pub(super) fn p99(&self) -> Vec<f64> {
        self.figures(|round| round.outcome.p99.as_secs_f64())
    }

    /// The server's CPU time in user mode for each connection, in microseconds.
    pub(super) fn user_time(&self) -> Vec<f64> {
        self.cpu(|round| round.cpu.user).into_iter().map(|seconds| seconds * 1e6).collect()
    }

    /// The same in the kernel.
    pub(super) fn system_time(&self) -> Vec<f64> {
        self.cpu(|round| round.cpu.system).into_iter().map(|seconds| seconds * 1e6).collect()
    }

    /// The server's time for each connection.
    fn cpu(&self, time: impl Fn(&Round) -> Duration) -> Vec<f64> {
        self.figures(|round| time(round).as_secs_f64() / round.outcome.completed as f64)
    }

    /// The cells under [`COLUMNS`], compared with what `native` did in the same rounds.
    pub(super) fn cells(&self, native: &Self) -> Vec<String> {
        let p50 = self.figures(|round| round.outcome.p50.as_secs_f64());
        let cpu = |series: &Self| series.cpu(|round| round.cpu.user + round.cpu.system);
        vec![
            self.name.clone(),
            grouped(median(self.rate())),
            Ratio::of_pairs(&native.rate(), &self.rate()).to_string(),
            microseconds(median(p50)),
            microseconds(median(self.p99())),
            Ratio::of_pairs(&native.p99(), &self.p99()).to_string(),
            microseconds(median(self.cpu(|round| round.cpu.user))),
            microseconds(median(self.cpu(|round| round.cpu.system))),
            Ratio::of_pairs(&cpu(native), &cpu(self)).to_string(),
        ]
    }
}
