//! The exit codes: part of the interface, for supervisors and scripts.

use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: everything that was started has finished.
    Finished,
    /// 1: a second signal or the drain timeout closed open connections. For a command that asks a
    /// running host: the host rejected it, or it failed.
    CutShort,
    /// 2: wrong usage or configuration, including an invalid plugin. Nothing was bound.
    Usage,
    /// 3: the system refused: a port in use, a permission, a limit.
    System,
    /// 70: a bug in this program.
    Bug,
    /// 75: this successor was rejected, cancelled or rolled back. Its predecessor serves.
    HandedBack,
}

impl Exit {
    /// The exit code.
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
