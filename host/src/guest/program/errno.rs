//! Error numbers of WASI 0.1, and the system's errors mapped to them.

use crate::guest::wasi::files::Refusal;
use rustix::io::Errno as System;
use std::{io, num::TryFromIntError, str::Utf8Error};

/// An error number of WASI 0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errno(u16);

/// The result of a call.
pub(super) type Answer<T = ()> = Result<T, Errno>;

/// The value that a function returns to the program.
pub(super) fn code(answer: Answer) -> u32 {
    answer.err().map_or(0, |errno| errno.0.into())
}

impl Errno {
    pub(super) const AGAIN: Self = Self(6);
    pub(super) const BADF: Self = Self(8);
    pub(super) const FAULT: Self = Self(21);
    pub(super) const ILSEQ: Self = Self(25);
    pub(super) const INVAL: Self = Self(28);
    pub(super) const IO: Self = Self(29);
    pub(super) const ISDIR: Self = Self(31);
    pub(super) const MFILE: Self = Self(33);
    pub(super) const NAMETOOLONG: Self = Self(37);
    pub(super) const NOTDIR: Self = Self(54);
    pub(super) const NOTSOCK: Self = Self(57);
    pub(super) const NOTSUP: Self = Self(58);
    pub(super) const PERM: Self = Self(63);
    pub(super) const SPIPE: Self = Self(70);

    /// The number alone, as an event of `poll_oneoff` has it.
    pub(super) fn number(self) -> u16 {
        self.0
    }
}

/// Errors of system calls on files and sockets, with WASI's numbers.
const OF_THE_SYSTEM: [(System, Errno); 46] = [
    (System::TOOBIG, Errno(1)),
    (System::ACCESS, Errno(2)),
    (System::AGAIN, Errno::AGAIN),
    (System::BADF, Errno::BADF),
    (System::BUSY, Errno(10)),
    (System::CANCELED, Errno(11)),
    (System::CONNABORTED, Errno(13)),
    (System::CONNREFUSED, Errno(14)),
    (System::CONNRESET, Errno(15)),
    (System::DQUOT, Errno(19)),
    (System::EXIST, Errno(20)),
    (System::FAULT, Errno::FAULT),
    (System::FBIG, Errno(22)),
    (System::HOSTUNREACH, Errno(23)),
    (System::ILSEQ, Errno::ILSEQ),
    (System::INTR, Errno(27)),
    (System::INVAL, Errno::INVAL),
    (System::IO, Errno::IO),
    (System::ISDIR, Errno::ISDIR),
    (System::LOOP, Errno(32)),
    (System::MFILE, Errno::MFILE),
    (System::MLINK, Errno(34)),
    (System::NAMETOOLONG, Errno::NAMETOOLONG),
    (System::NETRESET, Errno(39)),
    (System::NETUNREACH, Errno(40)),
    (System::NFILE, Errno(41)),
    (System::NOBUFS, Errno(42)),
    (System::NODEV, Errno(43)),
    (System::NOENT, Errno(44)),
    (System::NOLCK, Errno(46)),
    (System::NOMEM, Errno(48)),
    (System::NOSPC, Errno(51)),
    (System::NOTCONN, Errno(53)),
    (System::NOTDIR, Errno::NOTDIR),
    (System::NOTEMPTY, Errno(55)),
    (System::NOTSUP, Errno::NOTSUP),
    (System::NOTTY, Errno(59)),
    (System::NXIO, Errno(60)),
    (System::OVERFLOW, Errno(61)),
    (System::PERM, Errno::PERM),
    (System::PIPE, Errno(64)),
    (System::ROFS, Errno(69)),
    (System::SPIPE, Errno::SPIPE),
    (System::STALE, Errno(72)),
    (System::TIMEDOUT, Errno(73)),
    (System::XDEV, Errno(75)),
];

impl From<System> for Errno {
    fn from(system: System) -> Self {
        OF_THE_SYSTEM.iter().find(|(known, _)| *known == system).map_or(Self::IO, |(_, errno)| *errno)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        match System::from_io_error(&error) {
            Some(system) => system.into(),
            // The wire keeps an error's kind, not its number.
            None => match error.kind() {
                io::ErrorKind::BrokenPipe => System::PIPE.into(),
                io::ErrorKind::ConnectionAborted => System::CONNABORTED.into(),
                io::ErrorKind::ConnectionReset => System::CONNRESET.into(),
                io::ErrorKind::HostUnreachable => System::HOSTUNREACH.into(),
                io::ErrorKind::InvalidInput => Self::INVAL,
                io::ErrorKind::NetworkUnreachable => System::NETUNREACH.into(),
                io::ErrorKind::NotConnected => System::NOTCONN.into(),
                io::ErrorKind::TimedOut => System::TIMEDOUT.into(),
                _ => Self::IO,
            },
        }
    }
}

/// An argument that is out of range.
impl From<TryFromIntError> for Errno {
    fn from(_out_of_range: TryFromIntError) -> Self {
        Self::INVAL
    }
}

/// Names are UTF-8.
impl From<Utf8Error> for Errno {
    fn from(_not_text: Utf8Error) -> Self {
        Self::ILSEQ
    }
}

impl From<aws_lc_rs::error::Unspecified> for Errno {
    fn from(_no_random_numbers: aws_lc_rs::error::Unspecified) -> Self {
        Self::IO
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid => Self::INVAL,
            Refusal::NotDirectory => Self::NOTDIR,
            Refusal::NotPermitted => Self::PERM,
            Refusal::TooMany => Self::MFILE,
            Refusal::TooLong => System::DQUOT.into(),
            Refusal::Unsupported => Self::NOTSUP,
            Refusal::System(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_keep_their_meaning() {
        assert_eq!(Errno::from(io::Error::from(System::NOENT)), Errno(44));
        assert_eq!(Errno::from(io::Error::from(io::ErrorKind::ConnectionReset)), Errno(15));
        assert_eq!(Errno::from(io::Error::other("unknown")), Errno::IO);
        assert_eq!((code(Ok(())), code(Err(Errno::BADF))), (0, 8));
    }
}
