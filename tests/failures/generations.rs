//! Several generations side by side: their clients, listeners and signals, and the limit on their
//! number.

use super::{HOST, Scripted, hello};
use crate::{
    clients::{Clients, descriptors_of_its_own, has_ended, is_stopped, ports_of_connections},
    harness::{Address, Setup, connect, directory, own_addresses, read_to_end, wait_for},
    service::{Service, exit_code, generation},
};
use nix::{
    sys::{
        resource::{Resource, getrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use std::{fs, io::Write};

/// A regression: the successor took a predecessor that was dead and reaped for one that lives.
#[test]
fn a_predecessor_that_is_reaped_before_its_offer_is_read_has_handed_over() {
    let mut service = Service::start(Setup::serving("hello"));
    service.inject("successor after-receiving offer stop");
    service.signal(Signal::SIGUSR1);
    let record = service.host.logged(&["successor started"]);
    let successor: i32 = record.rsplit_once("successor=").unwrap().1.parse().unwrap();
    wait_for("a stop", || is_stopped(successor).then_some(()));
    service.inject("");
    service.host.kill();
    let queued = connect(service.host.addresses[0]);
    kill(Pid::from_raw(successor), Signal::SIGCONT).unwrap();
    service.host.logged(&["serving alone"]);
    assert_eq!(hello(queued), "Hello bob!\n");
    assert_eq!(service.current().pid, successor);
}

#[test]
fn a_host_at_its_descriptor_limit_keeps_serving_and_restarts_later() {
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
fn idle_connections_stay_with_the_generation_that_accepted_them() {
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

    // Restarts in quick succession. Each one runs, joins a restart under way, or reaches a process
    // that has handed over.
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
            // Every client was answered until the last process stopped serving.
            let losses = clients.stop();
            assert!(losses.iter().all(|loss| loss.port.is_none()), "{losses:?}");
            continue;
        }
        // The second generation watches the third, until a stop ends that too.
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

    // All places are taken, so that every queue holds connections.
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
