//! The exit codes: part of the interface, for supervisors and scripts to rely on.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: everything that was begun has finished.
    Finished,
    /// 1: cut short, by a second signal or by the drain deadline, with connections left behind; or what a running host was asked for
    /// was refused or has failed.
    CutShort,
    /// 2: wrong usage or configuration, a bad plugin included. Nothing was bound.
    Usage,
    /// 3: the system refused: a port in use, a permission, a limit.
    System,
    /// 70: a bug in this program.
    Bug,
    /// 75: this successor was refused, called off or rolled back; its predecessor serves.
    HandedBack,
}

impl Exit {
    /// The code.
    pub fn code(self) -> i32 {
        match self {
            Self::Finished => 0,
            Self::CutShort => 1,
            Self::Usage => 2,
            Self::System => 3,
            Self::Bug => 70,
            Self::HandedBack => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        u8::try_from(exit.code()).map_or(Self::FAILURE, Self::from)
    }
}
