//! Successors that do not start, hang, panic or find half a plugin.

use super::{HOST, Scripted};
use crate::{
    clients::Clients,
    harness::{Setup, directory, wait_for},
    service::Service,
};
use nix::sys::signal::Signal;
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let scripted = Scripted::start(&[]);
    let clients = Clients::start(scripted.service.host.addresses[0], 4);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();

    // Commands that cannot be executed.
    fs::remove_file(&scripted.script).unwrap();
    scripted.fails(&["start cannot be executed: No such file"]);
    fs::create_dir(&scripted.script).unwrap();
    scripted.fails(&["start cannot be executed: Permission denied"]);
    fs::remove_dir(&scripted.script).unwrap();
    scripted.start_with_file("#!/bin/bash\n", 0o644);
    scripted.fails(&["start cannot be executed: Permission denied", "chmod +x"]);
    scripted.works();
    clients.goes_on(20);

    // Successors that exit, or have an invalid configuration.
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
        // A wrapper that closes descriptors, like sudo.
        (
            format!("for n in {{3..63}}; do eval \"exec $n>&-\"; done; exec {HOST}"),
            vec!["ended before its \"hello\"", "exit status: 3"],
        ),
        // A wrapper that stays, and one that exits.
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
    scripted.service.inject("successor before-sending hello panic");
    scripted.start_with(&format!("exec {HOST}"));
    scripted.fails(&["ended before its \"hello\"", "exit status: 70"]);
    scripted.service.inject("successor after-receiving offer panic");
    scripted.fails(&["ended before its \"prepared\"", "exit status: 70"]);
    scripted.service.inject("predecessor before-sending offer swap");
    scripted.fails(&["adopting: ", "the descriptor passed as tcp://127.0.0.1:0#0 is not a socket", "exit status: 3"]);
    scripted.service.inject("");
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

#[test]
fn a_plugin_written_while_it_is_read_is_served_complete_or_not_at_all() {
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

/// Each restart runs the program of this process again: the error names its own path, not one in
/// /proc.
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
