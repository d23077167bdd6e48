//! What the figures should be, beside what they are.

use std::fmt;

use crate::report::Section;
use crate::section::scaled;

/// From which side a figure is to keep away from its bound.
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

/// All aims of a run. It fails for none of them: that is left to whoever knows how busy the machine was.
pub(crate) fn section(aims: &[Aim]) -> Section {
    let mut section = Section::new("Aims")
        .text("What was aimed for, and what this run shows. The tables below say how each figure was measured.")
        .columns(["What", "Aim", "Measured", "Unit", "Reached"]);
    for Aim { what, bound, measured, unit } in aims {
        let figure = if *measured < 10.0 { format!("{measured:.2}") } else { scaled(*measured) };
        let reached = if bound.is_kept(*measured) { "yes" } else { "no" };
        section.row(vec![(*what).to_owned(), bound.to_string(), figure, (*unit).to_owned(), reached.to_owned()]);
    }
    section
}
