//! Figures beside their aims.

use std::fmt;

use crate::report::Section;
use crate::section::scaled;

/// The side of its bound on which a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn is_kept(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

/// A figure and its bound.
#[derive(Debug)]
pub(crate) struct Aim {
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
}

/// All aims of a run. A missed aim does not fail it, since the machine may have been busy.
pub(crate) fn section(aims: &[Aim]) -> Section {
    let mut section = Section::new("Aims")
        .text("The tables below say how each figure was measured.")
        .columns(["Figure", "Aim", "Measured", "Unit", "Reached"]);
    for Aim { what, bound, measured, unit } in aims {
        let figure = if *measured < 10.0 { format!("{measured:.2}") } else { scaled(*measured) };
        let reached = if bound.is_kept(*measured) { "yes" } else { "no" };
        section.row(vec![(*what).to_owned(), bound.to_string(), figure, (*unit).to_owned(), reached.to_owned()]);
    }
    section
}
