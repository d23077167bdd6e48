//! What can go wrong with a restart that has nothing to do with what the two sides say: clients must not see any of it.

use crate::{
    clients::{Clients, descriptors_of_its_own, is_stopped},
    harness::{self, Setup, connect, directory, read_to_end, wait_for},
    service::{Service, exit_code},
};
use nix::{
    sys::{
        resource::{Resource, getrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use std::{fs, io::Write, net::TcpListener, os::unix::fs::PermissionsExt, path::PathBuf};

const HOST: &str = env!("CARGO_BIN_EXE_uninterruptible-host");

/// A service whose successors are started by a script, and configured by their environment.
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
        // A script that is being written cannot be executed.
        let draft = self.script.with_extension("draft");
        fs::write(&draft, contents).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(draft, &self.script).unwrap();
    }

    /// Has a restart fail with a record that has all of `reasons`, and leave no trace.
    fn fails(&self, reasons: &[&str]) {
        let before = (self.service.current(), descriptors_of_its_own(self.service.current().pid));
        let record = self.service.restart_that_fails();
        for reason in reasons {
            assert!(record.contains(reason), "no {reason:?} in {record}");
        }
        if let Some((_, successor)) = record.rsplit_once("successor=") {
            assert!(!fs::exists(format!("/proc/{successor}")).unwrap(), "a zombie is left: {record}");
            let left = processes_of_group(successor.parse().unwrap());
            assert!(left.is_empty(), "of its group there are left {left:?}: {record}");
        }
        assert_eq!(self.service.current(), before.0);
        // A connection that ends may be none for a moment.
        wait_for("descriptors as they were", || (descriptors_of_its_own(before.0.pid) <= before.1).then_some(()));
    }

    /// A restart that works.
    fn works(&self) {
        self.start_with(&format!("exec {HOST}"));
        let before = self.service.current();
        self.service.restart();
        if before.number > 1 {
            exit_code(before.pid);
        }
    }
}

/// Those that live.
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

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let scripted = Scripted::start(&[]);
    let clients = Clients::start(scripted.service.host.addresses[0], 4);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();

    // What cannot be executed.
    fs::remove_file(&scripted.script).unwrap();
    scripted.fails(&["start cannot be executed: No such file"]);
    fs::create_dir(&scripted.script).unwrap();
    scripted.fails(&["start cannot be executed: Permission denied"]);
    fs::remove_dir(&scripted.script).unwrap();
    scripted.start_with_file("#!/bin/bash\n", 0o644);
    scripted.fails(&["start cannot be executed: Permission denied"]);
    scripted.works();
    clients.goes_on(20);

    // What ends, or cannot be configured.
    let starts = [
        ("exit 7".to_owned(), vec!["ended before its \"hello\"", "exit status: 7"]),
        ("exit 0".to_owned(), vec!["ended before its \"hello\"", "exit status: 0"]),
        ("kill -9 $$".to_owned(), vec!["ended before its \"hello\"", "signal: 9"]),
        (format!("exec {HOST} --bakclog 7"), vec!["configuration: ", "--bakclog", "exit status: 2"]),
        (format!("exec {HOST} --guest-memory much"), vec!["configuration: ", "--guest-memory", "exit status: 2"]),
        (format!("exec {HOST} --plugin /absent.wasm"), vec!["loading: ", "/absent.wasm", "exit status: 2"]),
        (format!("exec {HOST} --plugin $0"), vec!["loading: ", "/start", "exit status: 2"]),
        (
            format!("exec {HOST} --bind tcp://127.0.0.1:0 --bind tcp://{taken}"),
            vec!["adopting: ", "in use", "exit status: 3"],
        ),
        (format!("exec {HOST} --pidfile /absent/pid"), vec!["configuration: ", "/absent", "exit status: 2"]),
        (format!("ulimit -n 60; exec {HOST}"), vec!["configuration: ", "ulimit -n", "exit status: 2"]),
        // Something like sudo in between.
        (
            format!("for n in {{3..63}}; do eval \"exec $n>&-\"; done; exec {HOST}"),
            vec!["ended before its \"hello\"", "exit status: 3"],
        ),
        // A wrapper that stays, one that goes.
        (format!("{HOST} --bakclog 7 & wait $!"), vec!["configuration: ", "--bakclog", "exit status: 2"]),
        (format!("{HOST} --bakclog 7 & exit 0"), vec!["configuration: ", "--bakclog", "exit status: 0"]),
    ];
    for (start, reasons) in starts {
        scripted.start_with(&start);
        scripted.fails(&reasons);
    }
    assert!(scripted.service.host.log().contains("closes what it does not know"), "it says what closes descriptors");
    clients.goes_on(20);
    scripted.works();
    clients.goes_on(20);
    let losses = clients.stop();
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn a_successor_that_hangs_or_panics_while_it_starts_changes_nothing() {
    let scripted = Scripted::start(&[("READY_TIMEOUT", "4s")]);
    let clients = Clients::start(scripted.service.host.addresses[0], 4);
    scripted.service.order("successor before-sending hello panic");
    scripted.start_with(&format!("exec {HOST}"));
    scripted.fails(&["ended before its \"hello\"", "exit status: 70"]);
    scripted.service.order("successor after-receiving offer panic");
    scripted.fails(&["ended before its \"prepared\"", "exit status: 70"]);
    scripted.service.order("predecessor before-sending offer swap");
    scripted.fails(&["adopting: ", "what came as tcp://127.0.0.1:0#0 is no socket", "exit status: 3"]);
    scripted.service.order("");
    scripted.start_with("sleep 1000 & wait");
    scripted.fails(&["no hello within 4s", "signal: 9"]);
    scripted.works();
    clients.goes_on(20);
    let losses = clients.stop();
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn a_successor_may_be_started_by_way_of_others() {
    let scripted = Scripted::start(&[]);
    let clients = Clients::start(scripted.service.host.addresses[0], 4);
    for wrapper in
        ["HOST & wait $!", "HOST & exit 0", "/bin/sh -c '\"$0\" \"$@\" & wait' HOST", "exec env -u LANG HOST"]
    {
        scripted.start_with(&wrapper.replace("HOST", HOST));
        scripted.service.restart();
        clients.goes_on(20);
    }
    let losses = clients.stop();
    assert!(losses.is_empty(), "{losses:?}");
}

/// It was taken for one that lives, since nobody could hold it any more.
#[test]
fn a_predecessor_that_is_dead_and_buried_when_its_offer_is_read_has_handed_over() {
    let mut service = Service::start(Setup::serving("hello"));
    service.order("successor after-receiving offer stop");
    service.signal(Signal::SIGUSR1);
    let record = service.host.logged(&["a successor was started"]);
    let successor: i32 = record.rsplit_once("successor=").unwrap().1.parse().unwrap();
    wait_for("a stop", || is_stopped(successor).then_some(()));
    service.order("");
    service.host.kill();
    let queued = connect(service.host.addresses[0]);
    kill(Pid::from_raw(successor), Signal::SIGCONT).unwrap();
    service.host.logged(&["serving alone"]);
    assert_eq!(hello(queued), "Hello bob!\n");
    assert_eq!(service.current().pid, successor);
}

fn hello(mut client: harness::Stream) -> String {
    client.write_all(b"bob\n").unwrap();
    String::from_utf8(read_to_end(&mut client)).unwrap()
}

#[test]
fn a_host_at_its_descriptor_limit_serves_on_and_restarts_when_there_are_some_again() {
    let service = Service::start(Setup::serving("hello").option("--rollback-window", "50ms"));
    let predecessor = service.current();
    let limits = |soft: &str| {
        let done = std::process::Command::new("prlimit")
            .args([format!("--pid={}", predecessor.pid), format!("--nofile={soft}:")])
            .status();
        assert!(done.unwrap().success());
    };
    let (usual, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let clients = Clients::start(service.host.addresses[0], 4);
    clients.goes_on(20);
    let before = descriptors_of_its_own(predecessor.pid);
    limits("3");
    let record = service.restart_that_fails();
    assert!(record.contains("Too many open files"), "{record}");
    limits(&usual.to_string());
    clients.goes_on(20);
    wait_for("descriptors as they were", || (descriptors_of_its_own(predecessor.pid) <= before).then_some(()));
    service.restart();
    clients.goes_on(20);
    let losses = clients.stop();
    assert!(losses.is_empty(), "{losses:?}");
}
