//! The process that started this one, and whether the service ends when this process does.
//!
//! A hot restart replaces the process. A supervisor that follows one process id takes that for the
//! end of the service: it stops the container, or starts the service a second time. An anchor keeps
//! the id for such a supervisor.

use std::{env, fmt, fs, os::unix::process::parent_id, process};

/// Programs that supervise their direct child, by the name in `/proc/PID/comm`, which the kernel
/// truncates to 15 bytes. A supervisor that is process 1 needs no entry here.
const SUPERVISORS: [&str; 16] = [
    "catatonit",
    "circusd",
    "conmon",
    "containerd-shim",
    "dinit",
    "docker-init",
    "dumb-init",
    "perpd",
    "runsv",
    "s6-supervise",
    "supervise",
    "supervise-daemo",
    "supervisord",
    "systemd",
    "tini",
    "tini-static",
];

/// A supervisor that takes the end of this process for the end of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supervision {
    /// This is process 1, and its pid namespace (its container) ends with it.
    FirstProcess,
    /// The parent is outside the pid namespace, as for the main process of a container that shares
    /// its namespace with others.
    Outside,
    /// The parent supervises this very process.
    Parent {
        /// Its name.
        name: String,
        /// Its process id.
        pid: u32,
    },
}

impl Supervision {
    /// The supervision of a process that neither an anchor nor a predecessor started. `None` if
    /// nothing is known to depend on its process id: a shell started it, or its service manager
    /// follows the main process.
    pub(super) fn of_this() -> Option<Self> {
        let parent = parent_id();
        let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
        let notified = env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        Self::known(process::id(), parent, name.trim_end(), notified)
    }

    fn known(pid: u32, parent: u32, name: &str, notified: bool) -> Option<Self> {
        if pid == 1 {
            return Some(Self::FirstProcess);
        }
        match parent {
            _ if notified => None,
            0 => Some(Self::Outside),
            1 => Some(Self::Parent { name: name.to_owned(), pid: parent }),
            _ => SUPERVISORS.contains(&name).then(|| Self::Parent { name: name.to_owned(), pid: parent }),
        }
    }
}

impl fmt::Display for Supervision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstProcess => f.write_str("this process is pid 1, and its container ends when it ends"),
            Self::Outside => f.write_str(
                "this process was started from outside of its pid namespace, as the main process of a container is, and its container ends when it ends",
            ),
            Self::Parent { name, pid } => {
                write!(
                    f,
                    "this process was started by {name} (pid {pid}), which takes the exit of this process for the end of the service"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supervisors_of_one_process_are_recognised() {
        let parent = |name: &str, pid| Some(Supervision::Parent { name: name.to_owned(), pid });
        for (pid, by, name, notified, expected) in [
            (1, 0, "", false, Some(Supervision::FirstProcess)),
            (1, 0, "", true, Some(Supervision::FirstProcess)),
            (7, 1, "tini", false, parent("tini", 1)),
            (7, 1, "sh", false, parent("sh", 1)),
            (7, 1, "systemd", false, parent("systemd", 1)),
            (7, 1, "systemd", true, None),
            (700, 600, "runsv", false, parent("runsv", 600)),
            (700, 600, "supervise-daemo", false, parent("supervise-daemo", 600)),
            (700, 600, "systemd", true, None),
            (700, 600, "bash", false, None),
            (700, 0, "", false, Some(Supervision::Outside)),
            (700, 0, "", true, None),
        ] {
            assert_eq!(Supervision::known(pid, by, name, notified), expected, "{pid} {by} {name} {notified}");
        }
        assert!(SUPERVISORS.iter().all(|name| name.len() <= 15));
    }
}
