//! `openssl s_client`, which speaks TLS as most clients do and prints what it saw.

use crate::harness::{Host, PATIENCE, wait_for};
use std::{
    ffi::OsString,
    io::{Read, Write},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

/// A client that can run any number of times.
#[derive(Clone)]
pub struct Client(Vec<OsString>);

/// Its output, of both streams.
pub struct Said(pub String);

impl Client {
    /// To a host's first listener.
    pub fn to(host: &Host) -> Self {
        let client = Self(vec!["s_client".into(), "-ign_eof".into()]);
        match host.addresses[0] {
            crate::harness::Address::Unix(path) => client.option("-unix", path),
            address => client.option("-connect", address.tcp().to_string()),
        }
    }

    pub fn option(self, name: &str, value: impl Into<OsString>) -> Self {
        self.flag(name).flag(value)
    }

    pub fn flag(mut self, name: impl Into<OsString>) -> Self {
        self.0.push(name.into());
        self
    }

    /// Connects, sends, and reads until the host ends the connection.
    pub fn ask(&self, request: &str) -> Said {
        let mut command = Command::new("openssl");
        command.args(&self.0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = command.spawn().expect("openssl");
        // It may have ended before it has read this.
        client.stdin.take().unwrap().write_all(request.as_bytes()).ok();
        let mut outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(client.stdout.take().unwrap()), Box::new(client.stderr.take().unwrap())];
        let said = thread::scope(|scope| {
            let reading = outputs.each_mut().map(|output| {
                scope.spawn(move || {
                    let mut said = Vec::new();
                    output.read_to_end(&mut said).map(|_| String::from_utf8_lossy(&said).into_owned())
                })
            });
            let began = Instant::now();
            wait_for("the end of openssl", || client.try_wait().unwrap());
            assert!(began.elapsed() < PATIENCE);
            reading.map(|reading| reading.join().unwrap().unwrap()).concat()
        });
        Said(said)
    }
}

impl Said {
    /// Whether its output has a line with this text.
    pub fn has(&self, what: &str) -> bool {
        self.0.contains(what)
    }

    /// The same as an assertion.
    pub fn shows(&self, what: &str) -> &Self {
        assert!(self.has(what), "{what:?} is not in the output of openssl:\n{}", self.0);
        self
    }

    pub fn lacks(&self, what: &str) -> &Self {
        assert!(!self.has(what), "{what:?} is in the output of openssl:\n{}", self.0);
        self
    }
}
