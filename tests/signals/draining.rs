//! Signals to a process that has handed over or stops, and the ends of its connections.

use super::{STOPS, said, unwatched};
use crate::{
    harness::{read_line, read_to_end, wait_for},
    service::{Service, exit_code},
};
use nix::sys::signal::Signal;
use std::io::Write;

#[test]
fn a_draining_process_rejects_commands_and_only_a_second_stop_closes_connections() {
    for stop in STOPS {
        let mut service = Service::start(unwatched("speaks-first"));
        let mut finishing = service.host.connect();
        let mut cut = service.host.connect();
        assert_eq!((read_line(&mut finishing), read_line(&mut cut)), ("ready\n".into(), "ready\n".into()));
        service.restart();
        let predecessor = service.host.pid();
        service.host.signal(Signal::SIGUSR1);
        said(&service, predecessor, "command rejected command=\"USR1\"");
        service.host.signal(Signal::SIGHUP);
        said(&service, predecessor, "only the log reopens command=\"HUP\" detail=\"this process has handed over");
        service.host.signal(stop);
        said(&service, predecessor, "stop received, still draining");
        finishing.write_all(b"bye\n").unwrap();
        assert_eq!(read_to_end(&mut finishing), b"you said: bye\n");
        service.host.signal(stop);
        assert_eq!(service.host.exit_code(), 1);
        assert_eq!(read_to_end(&mut cut), b"");
        said(&service, predecessor, "reason=drain");
        let mut after = service.host.connect();
        assert_eq!(read_line(&mut after), "ready\n", "the successor serves on");
        drop(after);
        service.stops();
    }
}

#[test]
fn a_stopping_process_rejects_commands_and_a_second_stop_closes_connections() {
    for stop in STOPS {
        let mut service = Service::start(unwatched("speaks-first"));
        let mut open = service.host.connect();
        assert_eq!(read_line(&mut open), "ready\n");
        service.host.signal(Signal::SIGTERM);
        service.host.logged(&["stopping, draining connections"]);
        service.host.signal(Signal::SIGUSR1);
        service.host.logged(&["command rejected command=\"USR1\" detail=\"this process is stopping"]);
        service.host.signal(Signal::SIGHUP);
        service.host.logged(&["only the log reopens command=\"HUP\" detail=\"this process is stopping"]);
        service.host.signal(stop);
        assert_eq!(service.host.exit_code(), 1);
        service.host.logged(&["stopped by a second signal"]);
        assert_eq!(read_to_end(&mut open), b"");
    }
}

#[test]
fn the_drain_timeout_of_a_handoff_closes_connections_and_is_logged() {
    let mut service = Service::start(unwatched("speaks-first").option("--handoff-drain-timeout", "300ms"));
    let mut open = service.host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    let successor = service.restart();
    let predecessor = service.host.pid();
    let record = said(&service, predecessor, "drain timed out");
    assert!(record.contains("open=1"), "{record}");
    assert_eq!(service.host.exit_code(), 1);
    assert_eq!(read_to_end(&mut open), b"");
    said(&service, predecessor, "reason=drain");
    said(&service, successor.pid, "draining generation finished");
    service.stops();
}

/// Without the timeout, an idle client of each generation would keep its process for ever.
#[test]
fn idle_clients_keep_a_generation_at_most_for_the_idle_timeout() {
    let mut service = Service::start(unwatched("speaks-first").option("--idle-timeout", "1s"));
    let mut idle = Vec::new();
    let mut generations = Vec::new();
    for _ in 0..4 {
        let mut client = service.host.connect();
        assert_eq!(read_line(&mut client), "ready\n");
        idle.push(client);
        generations.push(service.current().pid);
        service.restart();
    }
    assert_eq!(service.host.exit_code(), 0);
    for pid in &generations[1..] {
        assert_eq!(exit_code(*pid), Some(0), "process {pid}");
    }
    idle.iter_mut().for_each(|client| assert_eq!(read_to_end(client), b""));
    wait_for("a record of each", || (service.host.log().matches("reason=idle").count() == 4).then_some(()));
    service.stops();
}
