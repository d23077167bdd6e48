//! Hot restarts that nobody sees, with clients that ask all the time and must all be answered.

use crate::{
    harness::{Load, Setup, read_line, read_to_end, wait_for},
    service::Service,
};
use std::{fs, io::Write, os::unix::fs::MetadataExt};

fn setup() -> Setup {
    Setup::serving("hello").option("--rollback-window", "50ms")
}

#[test]
fn nobody_sees_a_restart() {
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
    service.order("successor before-sending prepared kill");
    let record = service.restart_that_fails();
    assert!(record.contains("before its \"prepared\"") && record.contains("signal: 9"), "{record}");
    load.goes_on(50);
    service.order("");
    service.restart();
    load.goes_on(50);
    load.stop();
}

#[test]
fn a_predecessor_that_drains_listens_no_more() {
    let setup = Setup::serving("speaks-first").option("--rollback-window", "0s");
    let mut service = Service::start(setup);
    let mut old = service.host.connect();
    assert_eq!(read_line(&mut old), "ready\n");
    service.restart();
    service.host.logged(&["handed over"]);
    // A descriptor that is left open would make peers wait for ever, should the successor go.
    assert_eq!(listening(service.host.pid()), 0, "{}", service.host.log());
    assert_eq!(listening(service.current().pid), 1);
    old.write_all(b"x\n").unwrap();
    assert_eq!(read_to_end(&mut old), b"you said: x\n");
    drop(old);
    assert_eq!(service.host.exit_code(), 0);
    wait_for("the successor to take note", || {
        service.host.log().contains("the predecessor has finished").then_some(())
    });
}

/// How many listening tcp sockets a process has open.
fn listening(pid: i32) -> usize {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let rows = table.lines().map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    let inodes: Vec<u64> = rows.filter(|row| row.get(3) == Some(&"0A")).map(|row| row[9].parse().unwrap()).collect();
    let mut open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|fd| fs::metadata(fd.ok()?.path()).ok());
    // A copy for the accept loop is the same socket.
    let mut found: Vec<_> = open.by_ref().map(|file| file.ino()).filter(|inode| inodes.contains(inode)).collect();
    found.sort_unstable();
    found.dedup();
    found.len()
}
