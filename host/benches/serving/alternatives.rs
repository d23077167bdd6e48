//! Other tools for the same job, where they are installed.

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::options::root;

/// A server that starts a process for each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forking {
    Socat,
    Tcpserver,
    SystemdSocketActivate,
}

impl Forking {
    pub(crate) const ALL: [Self; 3] = [Self::Socat, Self::Tcpserver, Self::SystemdSocketActivate];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Socat => "socat, fork",
            Self::Tcpserver => "tcpserver",
            Self::SystemdSocketActivate => "systemd, Accept=yes",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Socat => "socat",
            Self::Tcpserver => "tcpserver",
            Self::SystemdSocketActivate => "systemd-socket-activate",
        }
    }

    /// Its package on Debian.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Socat => "socat",
            Self::Tcpserver => "ucspi-tcp",
            Self::SystemdSocketActivate => "systemd",
        }
    }

    /// The command that starts it at an address with a handler for each connection; `None` where it
    /// is not installed.
    pub(crate) fn command(self, address: SocketAddr, handler: &Path, most: usize) -> Option<Command> {
        let mut command = Command::new(installed(self.program())?);
        let (ip, port) = (address.ip(), address.port());
        match self {
            Self::Socat => command
                .arg(format!("TCP-LISTEN:{port},bind={ip},fork,reuseaddr,nodelay,backlog=4096,max-children={most}"))
                .arg(format!("EXEC:{}", handler.display())),
            // Without name look-ups (-H -R -l 0), and without a line for each connection (-q).
            Self::Tcpserver => command
                .args(["-q", "-H", "-R", "-D", "-l", "0", "-b", "4096", "-c", &most.to_string()])
                .args([ip.to_string(), port.to_string()])
                .arg(handler),
            Self::SystemdSocketActivate => {
                command.args(["--accept", "--inetd", "--listen", &address.to_string()]).arg(handler)
            }
        };
        Some(command)
    }
}

/// Where a program is found, as a shell would find it.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let places = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin"));
    env::split_paths(&places).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The handler that the forking servers start: does what `hello` does, for one connection on its
/// standard streams. Compiled by itself, so that it starts as fast as a program can.
pub(crate) fn handler(folder: &Path) -> anyhow::Result<PathBuf> {
    let (source, path) = (root().join("host/benches/serving/handler.rs"), folder.join("handler"));
    let mut command = Command::new("rustc");
    command.args(["--edition", "2024", "-C", "opt-level=3", "-C", "panic=abort", "-C", "strip=symbols", "-o"]);
    let status = command.arg(&path).arg(&source).status().context("start rustc")?;
    ensure!(status.success(), "compile {}: {status}", source.display());
    Ok(path)
}
