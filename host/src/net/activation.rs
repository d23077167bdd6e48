//! The sockets that a service manager has opened and passed to this process, as systemd does
//! (sd_listen_fds(3)).
//!
//! Three variables name the process that they are for, their number and their names. The
//! descriptors begin at 3. Each is checked when it is adopted, like a descriptor from a
//! predecessor. `config` reads the variables, not this module.

use super::key::Key;
use crate::{record::secret::Shown, system::kernel};
use std::{
    fmt,
    os::fd::{OwnedFd, RawFd},
    str::FromStr,
    sync::Arc,
};

/// The first passed descriptor: lower numbers are the standard streams.
const FIRST: RawFd = 3;

/// More than this program can hand over.
const MOST: usize = 200;

/// With the rest of its key, as long as the longest key of a unix listener.
const LONGEST_NAME: usize = 96;

/// The name that systemd gives a socket without one.
const UNNAMED: &str = "unknown";

/// The name that a service manager gives a socket: `FileDescriptorName=` of its unit, or else the
/// name of that unit.
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

/// The variables of the protocol, as found in the environment.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `LISTEN_PID`: the process that they are for.
    pub pid: Option<String>,
    /// `LISTEN_FDS`: the number of descriptors.
    pub count: Option<String>,
    /// `LISTEN_FDNAMES`: the names of the descriptors, separated by colons.
    pub names: Option<String>,
}

/// The variables or the descriptors are not valid.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `LISTEN_PID` is not a process id.
    #[error("LISTEN_PID {}: is not a process id; unset it, or leave it to the service manager", Shown::of(.0))]
    Pid(String),
    /// `LISTEN_FDS` is not a number in its range.
    #[error("LISTEN_FDS {}: is not a number from 0 to {MOST}; unset it, or leave it to the service manager", Shown::of(.0))]
    Count(String),
    /// A name in `LISTEN_FDNAMES` is not valid.
    #[error("LISTEN_FDNAMES {names}: {problem}", names = Shown::of(names))]
    Name {
        /// All names.
        names: String,
        /// The error in one of them.
        problem: String,
    },
    /// `LISTEN_FDNAMES` does not have one name for each descriptor.
    #[error("LISTEN_FDNAMES {names}: does not name {count} descriptors, the number in LISTEN_FDS; leave both to the service manager", names = Shown::of(names))]
    Names {
        /// The names.
        names: String,
        /// The number of descriptors.
        count: usize,
    },
    /// A descriptor is missing.
    #[error(
        "LISTEN_FDS {count}: descriptor {number} is not open here: a program between the service manager and this one (sudo, an \
         interpreter) has closed it; start the host without that program"
    )]
    Closed {
        /// The number of descriptors.
        count: usize,
        /// The missing descriptor.
        number: RawFd,
    },
}

/// One passed socket.
#[derive(Debug)]
pub struct Passed {
    /// Its number, by which the service manager's log identifies it.
    pub number: RawFd,
    /// The key under which it is handed over.
    pub key: Key,
    /// The descriptor; not yet checked to be a socket.
    pub descriptor: OwnedFd,
}

/// The sockets that were passed to this process.
#[derive(Debug, Default)]
pub struct Activation {
    /// In the order of their numbers.
    pub sockets: Vec<Passed>,
    /// The process that they are for, if it is another one.
    pub meant_for: Option<u32>,
}

impl Activation {
    /// Takes the descriptors passed to any of `recipients`: this process, or the anchor that
    /// started it. Call it once. Without variables the result is empty.
    ///
    /// # Errors
    ///
    /// If the variables contradict each other or the descriptors.
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
    /// The number of descriptors that were passed to a process.
    ///
    /// # Errors
    ///
    /// If the variables are not valid.
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
        // Without descriptors there is no name, not an empty one.
        let named: Vec<_> = names.split(':').filter(|_| count > 0).map(named).collect::<Result<_, _>>()?;
        if named.len() == count { Ok(named) } else { Err(Error::Names { names: names.clone(), count }) }
    }
}

/// Closes descriptors that were passed to this process for one that it has started.
pub fn close(count: usize) {
    (FIRST..).take(count).for_each(|number| drop(kernel::inherited(number, |_| true)));
}

/// `parse` alone would accept a sign.
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
    fn errors_name_the_variable_and_its_value() {
        // Numbers far from any descriptor of this process. Nothing is taken before all variables
        // are checked.
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
    fn descriptors_for_another_process_are_not_taken() {
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
