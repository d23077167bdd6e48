//! Hot restarts under clients that ask all the time. Every request must be answered.

use crate::{
    harness::{Load, Setup, read_line, read_to_end, wait_for},
    service::{Service, generation},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, symlink},
};

fn setup() -> Setup {
    Setup::serving("hello").option("--rollback-window", "50ms")
}

#[test]
fn a_restart_loses_no_request() {
    let service = Service::start(setup());
    let load = Load::start(service.host.addresses[0], 16, "bob\n", "Hello bob!\n");
    for _ in 0..10 {
        service.restart();
        load.goes_on(50);
    }
    load.stop();
    assert_eq!(service.current().number, 11);
}

#[test]
fn a_successor_that_dies_before_it_serves_changes_nothing() {
    let service = Service::start(setup());
    let load = Load::start(service.host.addresses[0], 8, "bob\n", "Hello bob!\n");
    service.inject("successor before-sending prepared kill");
    let record = service.restart_that_fails();
    assert!(record.contains("before its \"prepared\"") && record.contains("signal: 9"), "{record}");
    load.goes_on(50);
    service.inject("");
    service.restart();
    load.goes_on(50);
    load.stop();
}

#[test]
fn a_draining_predecessor_does_not_listen() {
    let setup = Setup::serving("speaks-first").option("--rollback-window", "0s");
    let mut service = Service::start(setup);
    let mut old = service.host.connect();
    assert_eq!(read_line(&mut old), "ready\n");
    service.restart();
    service.host.logged(&["handed over"]);
    // With a leaked descriptor peers would wait for ever after the successor ends.
    assert_eq!(listening(service.host.pid()), 0, "{}", service.host.log());
    assert_eq!(listening(service.current().pid), 1);
    old.write_all(b"x\n").unwrap();
    assert_eq!(read_to_end(&mut old), b"you said: x\n");
    drop(old);
    assert_eq!(service.host.exit_code(), 0);
    wait_for("the successor to take note", || {
        service.host.log().contains("draining generation finished").then_some(())
    });
}

/// How many listening TCP sockets a process has open.
fn listening(pid: i32) -> usize {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let rows = table.lines().map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    let inodes: Vec<u64> = rows.filter(|row| row.get(3) == Some(&"0A")).map(|row| row[9].parse().unwrap()).collect();
    let mut open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|fd| fs::metadata(fd.ok()?.path()).ok());
    // A duplicate for the accept loop is the same socket.
    let mut found: Vec<_> = open.by_ref().map(|file| file.ino()).filter(|inode| inodes.contains(inode)).collect();
    found.sort_unstable();
    found.dedup();
    found.len()
}

#[test]
fn a_link_that_is_flipped_starts_the_new_release() {
    for named in ["absolute", "relative"] {
        let directory = crate::harness::directory();
        let place = |name: &str| directory.path().join(name);
        for release in ["r1", "r2"] {
            fs::create_dir(place(release)).unwrap();
            let host = place(release).join("host");
            // Copies where the file systems differ.
            if fs::hard_link(env!("CARGO_BIN_EXE_uninterruptible-host"), &host).is_err() {
                fs::copy(env!("CARGO_BIN_EXE_uninterruptible-host"), &host).unwrap();
            }
        }
        symlink("r1", place("current")).unwrap();
        let host = if named == "absolute" { place("current/host") } else { "./host".into() };
        // The shell enters the link as a user does, and drops the program name that the harness
        // passes.
        let script = r#"cd "$1" && name=$2 && shift 3 && exec "$name" "$@""#;
        let by_way =
            ["sh", "-c", script, "sh", place("current").to_str().unwrap(), host.to_str().unwrap()].map(str::to_owned);
        let service = Service::start(setup().by_way_of(by_way));
        symlink("r2", place("next")).unwrap();
        fs::rename(place("next"), place("current")).unwrap();
        let successor = service.restart();
        let of_successor = |what: &str| fs::read_link(format!("/proc/{}/{what}", successor.pid)).unwrap();
        assert_eq!(of_successor("exe"), place("r2/host"), "{named}");
        assert_eq!(of_successor("cwd"), place("r2"), "{named}");
    }
}

#[test]
fn a_predecessor_that_continues_late_obeys_its_successors_stop() {
    let service = Service::start(Setup::serving("hello").option("--rollback-window", "1h"));
    service.signal(Signal::SIGUSR1);
    let successor = generation(&service.host.logged(&["serving, predecessor watching"]));
    service.host.signal(Signal::SIGSTOP);
    kill(Pid::from_raw(successor.pid), Signal::SIGTERM).unwrap();
    // It stops without a message from the predecessor, and has removed the paths of both.
    service.host.logged(&["restart settled, predecessor timed out"]);
    service.host.logged(&[&format!("[{}/2]", successor.pid), "all connections finished"]);
    service.host.signal(Signal::SIGCONT);
    service.host.logged(&[&format!("[{}/1]", service.host.pid()), "all connections finished"]);
    service.ends(successor.pid);
}

#[test]
fn a_pidfile_that_the_successor_does_not_have_is_removed() {
    let directory = crate::harness::directory();
    let pidfile = directory.path().join("pid");
    let mut setup = setup().option("--pidfile", &pidfile);
    let host = env!("CARGO_BIN_EXE_uninterruptible-host");
    let plugin = crate::harness::plugin("hello");
    let command = format!("{host} --plugin {} --bind tcp://127.0.0.1:0 --rollback-window 50ms", plugin.display());
    setup = setup.option("--start-command", command);
    let service = Service::start(setup);
    assert!(pidfile.exists());
    service.restart();
    wait_for("the end of the pidfile", || (!pidfile.exists()).then_some(()));
}

#[test]
fn a_successor_stopped_while_adopting_leaves_no_socket() {
    let directory = crate::harness::directory();
    let socket = directory.path().join("new.sock");
    let host = env!("CARGO_BIN_EXE_uninterruptible-host");
    let plugin = crate::harness::plugin("hello");
    let command = format!(
        "{host} --plugin {} --bind tcp://127.0.0.1:0 --bind unix://{} --log-level debug",
        plugin.display(),
        socket.display()
    );
    let service = Service::start(setup().option("--start-command", command));
    // The predecessor hangs before it commits; its successor has bound its sockets by then.
    service.inject("predecessor before-sending commit stop");
    service.signal(Signal::SIGUSR1);
    let successor = generation(&service.host.logged(&["handoff offer received", "predecessor=1"]));
    wait_for("a new socket", || socket.exists().then_some(()));
    kill(Pid::from_raw(successor.pid), Signal::SIGTERM).unwrap();
    service.host.logged(&["stopped before serving"]);
    wait_for("the end of the socket", || (!socket.exists()).then_some(()));
    service.inject("");
    service.host.signal(Signal::SIGCONT);
    let record = service.host.logged(&["restart failed"]);
    assert!(record.contains("it was told to stop"), "{record}");
}
