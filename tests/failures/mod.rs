//! Restarts that fail for reasons outside the handoff protocol. Clients must not notice any of
//! them.

mod generations;
mod starting;

use crate::{
    clients::descriptors_of_its_own,
    harness::{self, Setup, directory, read_to_end, wait_for},
    service::{Service, exit_code},
};
use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::PathBuf};

const HOST: &str = env!("CARGO_BIN_EXE_uninterruptible-host");

/// A service whose successors a script starts, and the environment configures.
struct Scripted {
    service: Service,
    plugin: PathBuf,
    script: PathBuf,
    _directory: tempfile::TempDir,
}

impl Scripted {
    fn start(options: &[(&str, &str)]) -> Self {
        let directory = directory();
        let script = directory.path().join("start");
        let plugin = directory.path().join("plugin.wasm");
        fs::copy(harness::plugin("hello"), &plugin).unwrap();
        let environment = [
            ("START_COMMAND", script.to_str().unwrap()),
            ("PLUGIN", plugin.to_str().unwrap()),
            ("CACHE_DIR", harness::shared_cache().to_str().unwrap()),
            ("BIND", "tcp://127.0.0.1:0"),
            ("MAX_CONNECTIONS", "64"),
            ("ROLLBACK_WINDOW", "50ms"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let options = options.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let setup = environment
            .into_iter()
            .chain(options)
            .fold(Setup::bare(), |setup, (name, value)| setup.environment(&format!("UNINTERRUPTIBLE_{name}"), &value));
        let scripted = Self { service: Service::start(setup), plugin, script, _directory: directory };
        scripted.start_with(&format!("exec {HOST}"));
        scripted
    }

    fn start_with(&self, commands: &str) {
        self.start_with_file(&format!("#!/bin/bash\n{commands}\n"), 0o755);
    }

    fn start_with_file(&self, contents: &str, mode: u32) {
        // The kernel does not execute a script that is open for writing.
        let draft = self.script.with_extension("draft");
        fs::write(&draft, contents).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(draft, &self.script).unwrap();
    }

    /// Runs a restart that must fail, with a record that has all of `reasons`, and without
    /// leftovers.
    fn fails(&self, reasons: &[&str]) {
        let before = (self.service.current(), descriptors_of_its_own(self.service.current().pid));
        let record = self.service.restart_that_fails();
        for reason in reasons {
            assert!(record.contains(reason), "no {reason:?} in {record}");
        }
        if let Some((_, successor)) = record.rsplit_once("successor=") {
            let successor = successor.split_once(' ').map_or(successor, |(pid, _)| pid);
            assert!(!fs::exists(format!("/proc/{successor}")).unwrap(), "a zombie is left: {record}");
            let left = processes_of_group(successor.parse().unwrap());
            assert!(left.is_empty(), "of its group there are left {left:?}: {record}");
        }
        assert_eq!(self.service.current(), before.0);
        // A connection in its closing phase may not count as one for a moment.
        wait_for("descriptors as they were", || (descriptors_of_its_own(before.0.pid) <= before.1).then_some(()));
    }

    /// Runs a restart that must succeed.
    fn works(&self) {
        self.start_with(&format!("exec {HOST}"));
        let before = self.service.current();
        self.service.restart();
        if before.number > 1 {
            exit_code(before.pid);
        }
    }
}

/// The processes of a group that are not zombies.
fn processes_of_group(group: i32) -> Vec<i32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|number| {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').map(str::to_owned).collect::<Vec<_>>());
            fields.is_some_and(|fields| fields[0] != "Z" && fields[2] == group.to_string())
        })
        .collect()
}

fn hello(mut client: harness::Stream) -> String {
    client.write_all(b"bob\n").unwrap();
    String::from_utf8(read_to_end(&mut client)).unwrap()
}
