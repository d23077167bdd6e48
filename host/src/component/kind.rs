//! The kinds of plugins: the export of each, and the order if a file exports several.

use std::{fmt, str::FromStr};

/// A generation of WASI, and of our contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// 0.2.
    Wasi02,
    /// 0.3.
    Wasi03,
}

impl Generation {
    /// Whether a version belongs to it. A pre-release does not belong to any: it was not frozen.
    pub(super) fn has(self, version: &str) -> bool {
        let of_it = match self {
            Self::Wasi02 => version.starts_with("0.2."),
            Self::Wasi03 => version.starts_with("0.3."),
        };
        of_it && !version.contains('-')
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wasi02 => "0.2",
            Self::Wasi03 => "0.3",
        })
    }
}

/// The kind of a plugin, which decides how it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Our contract: called with a connection.
    Handler(Generation),
    /// Called with HTTP requests.
    Http(Generation),
    /// A program, whose standard input and output are the connection.
    Command(Generation),
    /// The same as a core module of WASI 0.1.
    Module,
}

impl Kind {
    /// All kinds. A file of several kinds is served as the first of them.
    pub(crate) const ALL: [Self; 7] = {
        use Generation::{Wasi02, Wasi03};
        [
            Self::Handler(Wasi03),
            Self::Handler(Wasi02),
            Self::Http(Wasi03),
            Self::Http(Wasi02),
            Self::Command(Wasi03),
            Self::Command(Wasi02),
            Self::Module,
        ]
    };

    /// Its word for `--plugin-kind`.
    pub(super) fn word(self) -> &'static str {
        use Generation::{Wasi02, Wasi03};
        match self {
            Self::Handler(Wasi03) => "handler-0.3",
            Self::Handler(Wasi02) => "handler-0.2",
            Self::Http(Wasi03) => "http-0.3",
            Self::Http(Wasi02) => "http-0.2",
            Self::Command(Wasi03) => "command-0.3",
            Self::Command(Wasi02) => "command-0.2",
            Self::Module => "command-0.1",
        }
    }

    /// Its export, without the version.
    pub(super) fn export(self) -> &'static str {
        match self {
            Self::Handler(_) => "uninterruptible:server/handler",
            Self::Http(Generation::Wasi03) => "wasi:http/handler",
            Self::Http(Generation::Wasi02) => "wasi:http/incoming-handler",
            Self::Command(_) => "wasi:cli/run",
            Self::Module => "_start",
        }
    }

    /// The generation of its export.
    pub(super) fn generation(self) -> Option<Generation> {
        match self {
            Self::Handler(generation) | Self::Http(generation) | Self::Command(generation) => Some(generation),
            Self::Module => None,
        }
    }

    /// Whether an export makes a component one of this kind.
    pub(super) fn is_made_by(self, export: &str) -> bool {
        let Some((interface, version)) = export.split_once('@') else { return false };
        interface == self.export() && self.generation().is_some_and(|generation| generation.has(version))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(generation) => write!(f, "handler of WASI {generation}"),
            Self::Http(generation) => write!(f, "HTTP handler of WASI {generation}"),
            Self::Command(generation) => write!(f, "command of WASI {generation}"),
            Self::Module => write!(f, "command of WASI 0.1"),
        }
    }
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or(
            "is not one of auto, handler-0.3, handler-0.2, http-0.3, http-0.2, command-0.3, command-0.2, command-0.1",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word() {
        for kind in Kind::ALL {
            assert_eq!(kind.word().parse(), Ok(kind));
            assert!("http".parse::<Kind>().unwrap_err().contains(kind.word()), "{kind} is not offered");
        }
    }

    #[test]
    fn a_kind_is_made_by_a_released_version_of_its_generation() {
        let run = Kind::Command(Generation::Wasi02);
        assert!(run.is_made_by("wasi:cli/run@0.2.6"));
        for other in ["wasi:cli/run@0.3.0", "wasi:cli/run@0.2.0-rc-2023-11-10", "wasi:cli/run", "wasi:cli/runs@0.2.6"] {
            assert!(!run.is_made_by(other), "{other}");
        }
        assert!(!Kind::Module.is_made_by("_start"), "that is not an export of a component");
    }
}
