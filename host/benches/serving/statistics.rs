//! Medians, and the ratios of rounds that followed each other.

pub(crate) use crate::median::median;

/// How the host compares with the native server.
pub(crate) struct Ratio {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Ratio {
    /// From the rounds of both, in the order in which they ran.
    ///
    /// Each round of the host is compared with the native one right before it: what else the machine does changes from
    /// minute to minute, and within a pair it is nearly the same. A ratio of two medians would not have that.
    pub(crate) fn of_pairs(native: &[f64], host: &[f64]) -> Self {
        let ratios: Vec<f64> = native.iter().zip(host).map(|(native, host)| host / native).collect();
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
