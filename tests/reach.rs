//! The commands of the guests `reach` and `reach-async`, and the files and servers within their
//! reach.

use crate::harness::{Host, Stream, directory, read_line, wait_for};
use nix::{sys::stat::Mode, unistd::mkfifo};
use std::{
    fs,
    io::{ErrorKind, Write},
    net::TcpListener,
    os::unix::fs::symlink,
};
use tempfile::TempDir;

/// One guest, which runs commands and reports each result.
pub struct Guest(pub Stream);

impl Guest {
    pub fn of(host: &Host) -> Self {
        Self(host.connect())
    }

    pub fn run(&mut self, command: &str) -> String {
        // In one packet, without a wait for acknowledgements.
        self.0.write_all(format!("{command}\n").as_bytes()).unwrap();
        read_line(&mut self.0).trim_end().to_owned()
    }

    /// Each command with its result.
    pub fn answers(&mut self, expected: &[(&str, &str)]) {
        for (command, answer) in expected {
            assert_eq!(self.run(command), *answer, "{command}");
        }
    }
}

/// A server that guests cannot reach unless a test has granted it.
pub struct Server {
    listener: TcpListener,
    pub address: String,
    pub port: u16,
}

impl Server {
    pub fn on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address: address.to_string(), port: address.port() }
    }

    pub fn was_left_alone(&self) {
        let accepted = self.listener.accept();
        assert!(accepted.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{} was reached", self.address);
    }

    pub fn was_reached(&self) {
        wait_for("a connection from a guest", || self.listener.accept().ok());
    }
}

/// A granted directory, and files beside it that a guest must not reach.
pub struct Tree(TempDir);

impl Tree {
    pub fn new() -> Self {
        let tree = Self(directory());
        fs::create_dir_all(tree.path("granted/deep/deeper")).unwrap();
        fs::create_dir(tree.path("other")).unwrap();
        fs::write(tree.path("granted/file"), "content").unwrap();
        fs::write(tree.path("other/secret"), "secret").unwrap();
        symlink("../other/secret", tree.path("granted/out")).unwrap();
        symlink(tree.path("other/secret"), tree.path("granted/absolute")).unwrap();
        symlink("../../file", tree.path("granted/deep/deeper/inside")).unwrap();
        symlink("../other", tree.path("granted/outside")).unwrap();
        symlink("/proc/self/environ", tree.path("granted/magic")).unwrap();
        mkfifo(&tree.path("granted/pipe"), Mode::S_IRWXU).unwrap();
        tree
    }

    pub fn path(&self, below: &str) -> std::path::PathBuf {
        self.0.path().join(below)
    }

    pub fn grant(&self, below: &str, guest: &str) -> String {
        format!("{}::{guest}", self.path(below).display())
    }

    /// No guest has read, written, made or removed anything outside of the granted directory.
    pub fn outside_is_as_it_was(&self) {
        assert_eq!(fs::read_to_string(self.path("other/secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.path("other")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 2);
    }
}

pub fn descriptors(host: &Host) -> usize {
    fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count()
}

/// The same for any access: no path of these may be opened.
pub const OUTSIDE: [&str; 11] = [
    "../other/secret",
    "deep/../../other/secret",
    "deep/deeper/../../../other/secret",
    "..",
    "/etc/passwd",
    "/",
    "out",
    "absolute",
    "outside/secret",
    "magic",
    "deep/deeper/inside/../../../../other/secret",
];
