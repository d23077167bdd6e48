//! Signals within the rollback window: the predecessor watches, the successor is on probation.

use super::{Clients, STOPS, is_gone, load, said, send, under_watch, watched};
use crate::{
    harness::{Setup, read_line, read_to_end, wait_for},
    service::{Service, exit_code},
};
use nix::sys::signal::Signal;
use std::io::Write;

#[test]
fn a_stop_while_watching_is_forwarded_to_the_successor() {
    for stop in STOPS {
        let service = Service::start(watched());
        let clients = Clients::of(&service);
        let pid = under_watch(&service);
        clients.stop(service.host.pid(), stop);
        said(&service, pid, "restart settled");
        said(&service, pid, "stopping, draining connections");
        clients.end();
        service.ends(pid);
    }
}

/// A supervisor that signals every process of a service (an anchor, systemd) reaches the successor
/// twice, and means one stop.
#[test]
fn a_forwarded_stop_is_not_the_first_of_two_signals() {
    let mut service = Service::start(Setup::serving("speaks-first").option("--rollback-window", "60s"));
    let pid = under_watch(&service);
    let (mut finishing, mut cut) = (service.host.connect(), service.host.connect());
    assert_eq!((read_line(&mut finishing), read_line(&mut cut)), ("ready\n".into(), "ready\n".into()));
    service.host.signal(Signal::SIGTERM);
    said(&service, pid, "stopping, draining connections");
    assert_eq!(service.host.exit_code(), 0);
    send(pid, Signal::SIGTERM);
    said(&service, pid, "already stopping");
    finishing.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut finishing), b"you said: bye\n");
    send(pid, Signal::SIGTERM);
    assert_eq!(exit_code(pid), Some(1));
    assert_eq!(read_to_end(&mut cut), b"");
    service.abandon();
}

#[test]
fn a_restart_while_watching_is_forwarded_to_the_successor() {
    let mut service = Service::start(watched());
    let load = load(&service);
    let pid = under_watch(&service);
    service.host.signal(Signal::SIGUSR1);
    let third = service.host.logged(&["/3]", "serving, predecessor watching"]);
    assert_eq!(service.host.exit_code(), 0);
    assert_eq!(service.current().pid, pid, "the second watches the third: {third}");
    load.goes_on(20);
    load.stop();
    service.forgo_window();
}

#[test]
fn a_reload_while_watching_is_forwarded_to_the_successor() {
    let service = Service::start(watched());
    let load = load(&service);
    let pid = under_watch(&service);
    service.host.signal(Signal::SIGHUP);
    service.host.logged(&["HUP forwarded to the successor"]);
    said(&service, pid, "reloaded");
    load.goes_on(20);
    load.stop();
    assert!(!service.host.settled_log().contains("settled"), "the window goes on");
    service.forgo_window();
}

#[test]
fn a_stop_on_probation_ends_the_predecessor_first() {
    for stop in STOPS {
        let service = Service::start(watched());
        let clients = Clients::of(&service);
        let pid = under_watch(&service);
        clients.stop(pid, stop);
        service.host.logged(&["command forwarded to the successor"]);
        said(&service, pid, "restart settled");
        said(&service, pid, "stopping, draining connections");
        clients.end();
        service.ends(pid);
    }
}

#[test]
fn a_restart_on_probation_ends_the_predecessor_first() {
    let mut service = Service::start(watched());
    let load = load(&service);
    let pid = under_watch(&service);
    send(pid, Signal::SIGUSR1);
    service.host.logged(&["command forwarded to the successor"]);
    said(&service, pid, "restart settled");
    service.host.logged(&["/3]", "serving, predecessor watching"]);
    assert_eq!(service.host.exit_code(), 0);
    load.goes_on(20);
    load.stop();
    service.forgo_window();
}

#[test]
fn a_reload_on_probation_runs_and_the_window_goes_on() {
    let service = Service::start(watched());
    let load = load(&service);
    let pid = under_watch(&service);
    send(pid, Signal::SIGHUP);
    said(&service, pid, "reloaded");
    load.goes_on(20);
    load.stop();
    assert!(!service.host.settled_log().contains("settled"), "the window goes on");
    service.forgo_window();
}

#[test]
fn a_rolled_back_successor_drains_and_ignores_a_single_signal() {
    let service = Service::start(Setup::serving("speaks-first").option("--rollback-window", "60s"));
    let pid = under_watch(&service);
    let mut open = service.host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    service.inject("successor rollback");
    service.host.logged(&["rolled back, serving again"]);
    said(&service, pid, "handed back");
    service.inject("");
    send(pid, Signal::SIGUSR1);
    said(&service, pid, "command rejected command=\"USR1\"");
    send(pid, Signal::SIGHUP);
    said(&service, pid, "only the log reopens command=\"HUP\" detail=\"this process has handed over");
    send(pid, Signal::SIGTERM);
    said(&service, pid, "stop received, still draining");
    open.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut open), b"you said: bye\n");
    drop(open);
    wait_for("its end", || is_gone(pid).then_some(()));
}
