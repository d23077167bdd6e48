//! Medians, and the ratios of rounds that followed each other.

pub(crate) use crate::median::median;
use crate::section::milliseconds;

/// How a server compares with another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    lowest: f64,
    highest: f64,
}

impl Ratio {
    /// From the rounds of both, in the order in which they ran.
    ///
    /// Each round of a server is compared with the native server's round of the same turn: what
    /// else the machine does changes from minute to minute, and hardly within a turn. A ratio of
    /// two medians would mix turns.
    pub(crate) fn of_pairs(native: &[f64], server: &[f64]) -> Self {
        let ratios: Vec<f64> = native.iter().zip(server).map(|(native, server)| server / native).collect();
        Self {
            median: median(ratios.iter().copied()),
            lowest: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            highest: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "**{:.2}** ({:.2}–{:.2})", self.median, self.lowest, self.highest)
    }
}

/// Seconds as milliseconds: the median, with the lowest and the highest in parentheses.
pub(crate) fn with_range(seconds: &[f64]) -> String {
    let lowest = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = seconds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let median = median(seconds.iter().copied());
    format!("{} ({}–{})", milliseconds(median), milliseconds(lowest), milliseconds(highest))
}
