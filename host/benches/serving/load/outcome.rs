//! The outcome of one round, on its way from the load's process to the one that measures.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

/// Longer latencies count as this one.
const LONGEST: Duration = Duration::from_secs(600);

/// The outcome of one client.
pub(crate) struct Tally {
    latencies: Histogram<u64>,
    failures: u64,
    first_failure: Option<String>,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Three digits: an error of at most a thousandth.
        let latencies = Histogram::new_with_bounds(1, nanoseconds(LONGEST), 3)?;
        Ok(Self { latencies, failures: 0, first_failure: None })
    }

    pub(crate) fn completed(&mut self, latency: Duration) {
        self.latencies.saturating_record(nanoseconds(latency));
    }

    pub(crate) fn failed(&mut self, error: &anyhow::Error) {
        self.failures += 1;
        self.first_failure.get_or_insert_with(|| format!("{error:#}"));
    }

    pub(crate) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.latencies.add(&other.latencies)?;
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        Ok(())
    }

    pub(crate) fn into_outcome(self, elapsed: Duration) -> Outcome {
        let at = |quantile| Duration::from_nanos(self.latencies.value_at_quantile(quantile));
        Outcome {
            completed: self.latencies.len(),
            failures: self.failures,
            elapsed,
            p50: at(0.5),
            p99: at(0.99),
            first_failure: self.first_failure.unwrap_or_default(),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The outcome of all clients. As text it is one line.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Connections that went as they should.
    pub(crate) completed: u64,
    /// Connections that did not.
    pub(crate) failures: u64,
    /// From the first connection's start to the last one's end.
    pub(crate) elapsed: Duration,
    /// Half of the connections took less, from connecting to the end of the answer.
    pub(crate) p50: Duration,
    /// 99 of 100 connections took less.
    pub(crate) p99: Duration,
    /// Why the first one failed; empty where none did.
    pub(crate) first_failure: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, failures, elapsed, p50, p99, first_failure } = self;
        let (elapsed, p50, p99) = (elapsed.as_nanos(), p50.as_nanos(), p99.as_nanos());
        let first_failure = first_failure.replace('\n', " ");
        write!(f, "{completed} {failures} {elapsed} {p50} {p99} {first_failure}")
    }
}

impl FromStr for Outcome {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let mut fields = line.splitn(6, ' ');
        let mut number = || -> anyhow::Result<u64> {
            let field = fields.next().with_context(|| format!("an outcome of too few numbers: {line:?}"))?;
            field.parse().with_context(|| format!("not a number of an outcome: {field:?}"))
        };
        Ok(Self {
            completed: number()?,
            failures: number()?,
            elapsed: Duration::from_nanos(number()?),
            p50: Duration::from_nanos(number()?),
            p99: Duration::from_nanos(number()?),
            first_failure: fields.next().unwrap_or_default().to_owned(),
        })
    }
}
