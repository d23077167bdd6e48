//! The sockets that a service manager has opened and started this process with, as systemd does (sd_listen_fds(3)).
//!
//! Three variables say whom they are for, how many there are and what they are called; the descriptors begin at 3. What each
//! of them is gets judged when it is adopted, as what a predecessor offers is. No variable is read here: `config` does that.

use super::key::Key;
use crate::{record::secret::Shown, system::kernel};
use std::{
    fmt,
    os::fd::{OwnedFd, RawFd},
    str::FromStr,
    sync::Arc,
};

/// The first that is passed: those below are the standard streams.
const FIRST: RawFd = 3;

/// More than this program can hand over.
const MOST: usize = 200;

/// With what else a key has, as long as the longest key of a unix listener.
const LONGEST_NAME: usize = 96;

/// What systemd calls a socket without a name.
const UNNAMED: &str = "unknown";

/// What a service manager calls a socket: `FileDescriptorName=` of its unit, or else the name of that unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketName(Arc<str>);

impl FromStr for SocketName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() {
            return Err("has an empty name".into());
        }
        if name.len() > LONGEST_NAME {
            return Err(format!("has a name that is {} bytes long; give it one of at most {LONGEST_NAME}", name.len()));
        }
        if name.starts_with('/') || !name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':') {
            return Err(
                "has a name that a socket unit cannot have; write it as in systemd:web for FileDescriptorName=web"
                    .into(),
            );
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The variables of the protocol, as they were found.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `LISTEN_PID`: the process that is meant.
    pub pid: Option<String>,
    /// `LISTEN_FDS`: how many descriptors there are.
    pub count: Option<String>,
    /// `LISTEN_FDNAMES`: what they are called, between colons.
    pub names: Option<String>,
}

/// Sockets were passed in a way that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody knows whom they are for.
    #[error("LISTEN_PID {}: is not a process id; unset it, or leave it to the service manager", Shown::of(.0))]
    Pid(String),
    /// Nobody knows how many there are.
    #[error("LISTEN_FDS {}: is not a number from 0 to {MOST}; unset it, or leave it to the service manager", Shown::of(.0))]
    Count(String),
    /// Nobody knows what one is called.
    #[error("LISTEN_FDNAMES {names}: {problem}", names = Shown::of(names))]
    Name {
        /// All names.
        names: String,
        /// What is wrong with one.
        problem: String,
    },
    /// Nobody knows which is called what.
    #[error("LISTEN_FDNAMES {names}: does not name {count} descriptors, the number in LISTEN_FDS; leave both to the service manager", names = Shown::of(names))]
    Names {
        /// The names.
        names: String,
        /// How many there should be.
        count: usize,
    },
    /// One is missing.
    #[error(
        "LISTEN_FDS {count}: descriptor {number} is not open here: something between the service manager and this program (sudo, an \
         interpreter) closes what it does not know; start it without"
    )]
    Closed {
        /// How many there should be.
        count: usize,
        /// Which is missing.
        number: RawFd,
    },
}

/// One socket that was passed.
#[derive(Debug)]
pub struct Passed {
    /// Its number, by which the service manager's log knows it.
    pub number: RawFd,
    /// Under which it is handed over.
    pub key: Key,
    /// The socket, if it is one.
    pub descriptor: OwnedFd,
}

/// What was passed to this process.
#[derive(Debug, Default)]
pub struct Activation {
    /// In their order.
    pub sockets: Vec<Passed>,
    /// The process for which there were some, where it is another.
    pub meant_for: Option<u32>,
}

impl Activation {
    /// Takes what was passed to any of `recipients`: this process, and the anchor that has started it. To be called once.
    ///
    /// # Errors
    ///
    /// Where the variables contradict themselves or the descriptors. Without variables nothing was passed.
    pub fn take(variables: &Variables, recipients: &[u32]) -> Result<Self, Error> {
        let Some((pid, count)) = variables.passed()? else { return Ok(Self::default()) };
        if !recipients.contains(&pid) {
            return Ok(Self { sockets: Vec::new(), meant_for: Some(pid) });
        }
        let names = variables.names(count)?;
        let keys = Key::passed(&names);
        let take = |(number, key)| match kernel::inherited(number, |_| true) {
            Some(descriptor) => Ok(Passed { number, key, descriptor }),
            None => Err(Error::Closed { count, number }),
        };
        Ok(Self { sockets: (FIRST..).zip(keys).map(take).collect::<Result<_, _>>()?, meant_for: None })
    }
}

impl Variables {
    /// How many descriptors were passed to a process.
    ///
    /// # Errors
    ///
    /// Where that cannot be understood.
    pub fn count_for(&self, process: u32) -> Result<usize, Error> {
        Ok(self.passed()?.filter(|(pid, _)| *pid == process).map_or(0, |(_, count)| count))
    }

    fn passed(&self) -> Result<Option<(u32, usize)>, Error> {
        let (Some(pid), Some(count)) = (&self.pid, &self.count) else { return Ok(None) };
        let pid = number(pid).filter(|pid| *pid > 0).ok_or_else(|| Error::Pid(pid.clone()))?;
        let count = number(count).filter(|count| *count <= MOST).ok_or_else(|| Error::Count(count.clone()))?;
        Ok(Some((pid, count)))
    }

    fn names(&self, count: usize) -> Result<Vec<SocketName>, Error> {
        let Some(names) = &self.names else { return Ok(vec![SocketName(UNNAMED.into()); count]) };
        let named = |name: &str| name.parse().map_err(|problem| Error::Name { names: names.clone(), problem });
        // Of nothing there is no name, rather than an empty one.
        let named: Vec<_> = names.split(':').filter(|_| count > 0).map(named).collect::<Result<_, _>>()?;
        if named.len() == count { Ok(named) } else { Err(Error::Names { names: names.clone(), count }) }
    }
}

/// Closes what was passed to this process and is meant for one that it has started.
pub fn close(count: usize) {
    (FIRST..).take(count).for_each(|number| drop(kernel::inherited(number, |_| true)));
}

/// `parse` alone would take a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pid: &str, count: &str, names: Option<&str>) -> Variables {
        Variables { pid: Some(pid.into()), count: Some(count.into()), names: names.map(str::to_owned) }
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        // Far from any descriptor of this process, since nothing is taken before all is understood.
        for (pid, count, names, problem) in [
            ("", "1", None, "LISTEN_PID \"\": is not a process id"),
            ("0", "1", None, "LISTEN_PID \"0\""),
            ("+7", "1", None, "LISTEN_PID \"+7\""),
            ("7", "", None, "LISTEN_FDS \"\": is not a number from 0 to 200"),
            ("7", "-1", None, "LISTEN_FDS \"-1\""),
            ("7", "201", None, "LISTEN_FDS \"201\""),
            ("7", "1", Some("a:b"), "LISTEN_FDNAMES \"a:b\": does not name 1 descriptors"),
            ("7", "2", Some("a"), "does not name 2 descriptors"),
            ("7", "1", Some(""), "LISTEN_FDNAMES \"\": has an empty name"),
            ("7", "1", Some("a\n"), "has a name that a socket unit cannot have"),
        ] {
            let error = Activation::take(&variables(pid, count, names), &[7]).unwrap_err().to_string();
            assert!(error.contains(problem), "{pid} {count} {names:?}: {error}");
        }
    }

    #[test]
    fn what_is_for_another_process_is_left_alone() {
        let passed = Activation::take(&variables("7", "2", None), &[8, 9]).unwrap();
        assert_eq!((passed.sockets.len(), passed.meant_for), (0, Some(7)));
        let nothing = Activation::take(&Variables::default(), &[7]).unwrap();
        assert_eq!((nothing.sockets.len(), nothing.meant_for), (0, None));
        assert_eq!(variables("7", "2", None).count_for(7).unwrap(), 2);
        assert_eq!(variables("7", "2", None).count_for(8).unwrap(), 0);
        assert!(Activation::take(&variables("7", "0", Some("")), &[7]).unwrap().sockets.is_empty());
    }

    #[test]
    fn a_name_is_one_that_a_socket_unit_can_have() {
        for name in ["web", "app.socket", "a b#1", &"n".repeat(LONGEST_NAME)] {
            assert_eq!(name.parse::<SocketName>().unwrap().to_string(), name);
        }
        for name in ["", "//web", "a:b", "caf\u{e9}", "a\tb", &"n".repeat(LONGEST_NAME + 1)] {
            name.parse::<SocketName>().expect_err(name);
        }
    }
}
