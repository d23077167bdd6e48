//! What can go wrong with a restart that has nothing to do with what the two sides say: clients must not see any of it.

use crate::{
    clients::{Clients, descriptors_of_its_own, has_ended, is_stopped, ports_of_connections},
    harness::{self, Address, Setup, connect, directory, own_addresses, read_to_end, wait_for},
    service::{Service, exit_code, generation},
};
use nix::{
    sys::{
        resource::{Resource, getrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

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
            let successor = successor.split_once(' ').map_or(successor, |(pid, _)| pid);
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
    scripted.fails(&["start cannot be executed: Permission denied", "chmod +x"]);
    scripted.works();
    clients.goes_on(20);

    // What ends, or cannot be configured.
    let starts = [
        ("exit 7".to_owned(), vec!["ended before its \"hello\"", "env -i", "exit status: 7"]),
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
    assert!(
        scripted.service.host.log().contains("closes descriptors that it does not know"),
        "it says what closes descriptors"
    );
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
    scripted.fails(&["adopting: ", "the descriptor passed as tcp://127.0.0.1:0#0 is not a socket", "exit status: 3"]);
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
    let record = service.host.logged(&["successor started"]);
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

#[test]
fn idle_connections_are_served_by_whoever_has_accepted_them() {
    const IDLE: usize = 2000;
    let setup = Setup::serving("hello").without_records_of_connections().option("--rollback-window", "50ms");
    let service = Service::start(setup);
    let predecessor = service.current();
    let idle: Vec<_> = (0..IDLE).map(|_| service.host.connect()).collect();
    wait_for("their places", || (ports_of_connections(predecessor.pid).len() >= IDLE).then_some(()));
    let clients = Clients::start(service.host.addresses[0], 4);
    let successor = service.restart();
    clients.goes_on(50);
    assert!(!has_ended(predecessor.pid));
    assert!(ports_of_connections(successor.pid).len() < IDLE);
    for client in idle {
        assert_eq!(hello(client), "Hello bob!\n");
    }
    wait_for("its end", || has_ended(predecessor.pid).then_some(()));
    let losses = clients.stop();
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn generations_that_drain_are_limited_and_named() {
    let setup = Setup::serving("hello").option("--rollback-window", "50ms").option("--max-draining", "3");
    let service = Service::start(setup.without_records_of_connections());
    let clients = Clients::start(service.host.addresses[0], 4);
    let mut idle = Vec::new();
    let mut draining = Vec::new();
    for _ in 0..3 {
        let generation = service.current();
        let client = service.host.connect();
        let port = client.tcp().local_addr().unwrap().port();
        wait_for("its place", || ports_of_connections(generation.pid).contains(&port).then_some(()));
        draining.push(format!("{} (pid {})", generation.number, generation.pid));
        idle.push((client, generation));
        service.restart();
    }
    service.signal(Signal::SIGUSR1);
    let record = service.host.logged(&["command rejected command=\"restart\""]);
    assert!(record.contains("--max-draining 3") && record.contains(&draining.join(", ")), "{record}");
    clients.goes_on(20);
    let (oldest, generation) = idle.remove(0);
    assert_eq!(hello(oldest), "Hello bob!\n");
    wait_for("its end", || has_ended(generation.pid).then_some(()));
    let last = service.restart();
    assert_eq!(last.number, 5);

    // As fast as they come. Each is done, or is part of one that is under way, or comes to a process that has handed over.
    for (client, _) in idle {
        assert_eq!(hello(client), "Hello bob!\n");
    }
    let mut calm = service.host.connect();
    for _ in 0..20 {
        kill(Pid::from_raw(service.current().pid), Signal::SIGUSR1).ok();
        clients.goes_on(5);
    }
    wait_for("an end of the restarts", || {
        let log = service.host.log();
        let count = |what| log.lines().filter(|line| line.contains(what)).count();
        (count("successor started") == count("restart settled")).then_some(())
    });
    assert!(service.current().number > last.number);
    calm.write_all(b"bob\n").unwrap();
    assert_eq!(read_to_end(&mut calm), b"Hello bob!\n");
    clients.goes_on(20);
    let losses = clients.stop();
    assert!(losses.is_empty(), "{losses:?}");
}

/// TERM or USR1, to either side, within the window.
#[test]
fn a_signal_within_the_window_ends_it() {
    for (to_successor, signal) in
        [(true, Signal::SIGUSR1), (false, Signal::SIGUSR1), (true, Signal::SIGTERM), (false, Signal::SIGTERM)]
    {
        let setup = Setup::serving("hello").option("--rollback-window", "50s");
        let mut service = Service::start(setup.without_records_of_connections());
        let predecessor = service.current();
        let clients = Clients::start(service.host.addresses[0], 4);
        service.signal(Signal::SIGUSR1);
        service.host.logged(&["successor serving"]);
        let successor = generation(&service.host.logged(&["serving, predecessor watching"]));
        clients.goes_on(20);
        let told = if to_successor { successor } else { predecessor };
        kill(Pid::from_raw(told.pid), signal).unwrap();
        assert_eq!(service.host.exit_code(), 0);
        if signal == Signal::SIGTERM {
            assert_eq!(exit_code(successor.pid), Some(0));
            service.abandon();
            // Until nobody served any more, everybody was served.
            let losses = clients.stop();
            assert!(losses.iter().all(|loss| loss.port.is_none()), "{losses:?}");
            continue;
        }
        // The third generation is watched by the second, until that is told to let go as well.
        let third = wait_for("a third generation", || {
            let log = service.host.log();
            let mut watched = log.lines().filter(|line| line.contains("serving, predecessor watching"));
            watched.nth(1).map(generation)
        });
        assert_eq!(third.number, 3);
        clients.goes_on(20);
        let losses = clients.stop();
        assert!(losses.is_empty(), "{losses:?}");
        kill(Pid::from_raw(successor.pid), Signal::SIGTERM).unwrap();
        assert_eq!((exit_code(successor.pid), exit_code(third.pid)), (Some(0), Some(0)));
        service.abandon();
    }
}

#[test]
fn a_plugin_that_is_written_while_it_is_read_is_served_whole_or_not_at_all() {
    let scripted = Scripted::start(&[]);
    let service = &scripted.service;
    let clients = Clients::start(service.host.addresses[0], 4);
    let whole = fs::read(&scripted.plugin).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::write(&scripted.plugin, &whole[..whole.len() / 2]).unwrap();
                fs::write(&scripted.plugin, &whole).unwrap();
            }
        });
        for _ in 0..12 {
            let outcomes = || {
                let log = service.host.log();
                let what = ["restart settled", "restart failed"];
                log.lines().filter(|line| what.iter().any(|what| line.contains(what))).count()
            };
            let before = outcomes();
            service.signal(Signal::SIGUSR1);
            wait_for("an outcome", || (outcomes() > before).then_some(()));
        }
        done.store(true, Ordering::Relaxed);
    });
    for failure in service.host.log().lines().filter(|line| line.contains("restart failed")) {
        assert!(failure.contains("loading: ") && failure.contains("plugin.wasm"), "{failure}");
    }
    scripted.works();
    clients.goes_on(20);
    let losses = clients.stop();
    assert!(losses.is_empty(), "{losses:?}");
}

#[test]
fn listeners_come_and_go_with_the_generations() {
    let sockets = directory();
    let unix = |name: &str| format!("unix://{}", sockets.path().join(name).display());
    let [dropped, added] = own_addresses().map(Address::Tcp);
    let binds = ["tcp://127.0.0.1:0", &format!("tcp://{}", dropped.tcp()), &unix("kept"), &unix("dropped")].join(",");
    let mut scripted = Scripted::start(&[("BIND", &binds), ("MAX_CONNECTIONS", "4")]);
    let kept = scripted.service.host.addresses[0];
    for address in binds.split(',').skip(1) {
        assert_eq!(scripted.service.host.line(), format!("listening {address}"));
    }
    let path = |name| Address::Unix(Box::leak(sockets.path().join(name).into_boxed_path()));
    let (kept_unix, dropped_unix, added_unix) = (path("kept"), path("dropped"), path("added"));

    // The same port at every address.
    let wildcard = format!("tcp://0.0.0.0:{}", dropped.tcp().port());
    scripted.start_with(&format!("exec {HOST} --bind {wildcard}"));
    scripted.fails(&[
        "adopting: ",
        &wildcard,
        &format!("the predecessor listens on tcp://{}", dropped.tcp()),
        "exit status: 2",
    ]);

    // All places are taken, so that there are connections in every queue.
    let first = scripted.service.current();
    let idle: Vec<_> = (0..4).map(|_| connect(kept)).collect();
    wait_for("their places", || (ports_of_connections(first.pid).len() == 4).then_some(()));
    let queued = [kept, kept_unix, dropped, dropped_unix].map(connect);
    let clients = Clients::start(kept, 4);
    let binds = ["tcp://127.0.0.1:0", &unix("kept"), &unix("added"), &format!("tcp://{}", added.tcp())].join(",");
    scripted.start_with(&format!("export UNINTERRUPTIBLE_BIND={binds}; exec {HOST}"));
    scripted.service.restart();
    clients.goes_on(20);
    let [on_kept, on_kept_unix, on_dropped, on_dropped_unix] = queued;
    for served_by_the_successor in [on_kept, on_kept_unix, connect(added), connect(added_unix), connect(kept_unix)] {
        assert_eq!(hello(served_by_the_successor), "Hello bob!\n");
    }
    assert!(!has_ended(first.pid));
    for served_by_the_predecessor in idle.into_iter().chain([on_dropped, on_dropped_unix]) {
        assert_eq!(hello(served_by_the_predecessor), "Hello bob!\n");
    }
    assert_eq!(scripted.service.host.exit_code(), 0);
    assert!(dropped.try_connect().is_err() && dropped_unix.try_connect().is_err());
    let paths = || ["kept", "dropped", "added"].map(|name| fs::exists(sockets.path().join(name)).unwrap());
    assert_eq!(paths(), [true, false, true]);
    let losses = clients.stop();
    assert!(losses.is_empty(), "{losses:?}");
    drop(scripted);
    assert_eq!(paths(), [false, false, false], "the last owner removes them");
}

/// Each restart starts the program of this process again: the error names its own path, not one in /proc.
#[test]
fn a_program_that_is_not_executable_any_more_is_named_by_its_path() {
    let directory = directory();
    let copy = directory.path().join("host");
    let script = format!("cp \"$1\" {0} && shift && exec {0} \"$@\"", copy.display());
    let service = Service::start(Setup::serving("hello").by_way_of(["sh", "-c", &script, "sh"]));
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    let record = service.restart_that_fails();
    let told = format!("{}, which this process runs, cannot be executed again: Permission denied", copy.display());
    assert!(record.contains(&told) && record.contains("chmod +x") && !record.contains("/proc/"), "{record}");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
}
