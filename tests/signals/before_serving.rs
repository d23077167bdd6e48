//! Signals before the successor serves: starting, adopting, offering, committed.

use super::{Clients, STOPS, held, in_state, is_gone, load, said, send, successor, unwatched, watched};
use crate::{
    boot::plugins::spinning,
    harness::{Setup, directory, plugin, wait_for},
    service::Service,
    shutdown::handles,
};
use nix::sys::signal::Signal;
use std::{fs, path::Path};

/// A host whose plugin is at `path`, which holds `hello` at first.
fn with_plugin_at(path: &Path) -> Setup {
    fs::copy(plugin("hello"), path).unwrap();
    Setup::bare()
        .option("--plugin", path)
        .option("--cache-dir", "none")
        .option("--guest-cpu-time", "60s")
        .option("--bind", "tcp://127.0.0.1:0")
        .option("--log-level", "debug")
}

/// A plugin that never finishes its start.
fn endless(path: &Path) {
    let draft = path.with_extension("draft");
    fs::write(&draft, spinning(u64::MAX)).unwrap();
    fs::rename(draft, path).unwrap();
}

/// The handler for XFSZ is the last to be installed.
fn has_handlers(pid: i32) {
    wait_for("signal handlers", || handles(pid, Signal::SIGXFSZ).then_some(()));
}

#[test]
fn a_starting_process_rejects_restarts_ignores_reloads_and_stops_at_once() {
    for stop in STOPS {
        let directory = directory();
        let path = directory.path().join("plugin.wasm");
        let setup = with_plugin_at(&path);
        endless(&path);
        let mut host = setup.spawn();
        has_handlers(host.pid());
        host.signal(Signal::SIGUSR1);
        host.logged(&["command rejected command=\"USR1\" detail=\"this process is starting"]);
        host.signal(Signal::SIGHUP);
        host.logged(&["command ignored command=\"HUP\""]);
        host.signal(stop);
        assert_eq!(host.exit_code(), 0);
        host.logged(&["stopped before serving"]);
        assert_eq!(host.line_or_end(), None, "it never listened");
    }
}

#[test]
fn a_starting_successor_reports_its_stop() {
    let directory = directory();
    let path = directory.path().join("plugin.wasm");
    let service = Service::start(with_plugin_at(&path));
    let load = load(&service);
    endless(&path);
    service.signal(Signal::SIGUSR1);
    let pid = successor(&service);
    has_handlers(pid);
    send(pid, Signal::SIGUSR1);
    said(&service, pid, "command rejected command=\"USR1\" detail=\"this process is starting");
    send(pid, Signal::SIGHUP);
    said(&service, pid, "command ignored command=\"HUP\"");
    send(pid, Signal::SIGTERM);
    let record = service.host.logged(&["restart failed"]);
    assert!(record.contains("it was told to stop") && record.contains("exit status: 0"), "{record}");
    assert!(is_gone(pid));
    load.goes_on(20);
    load.stop();
}

#[test]
fn a_stop_aborts_a_restart_whose_successor_starts() {
    let directory = directory();
    let path = directory.path().join("plugin.wasm");
    let mut service = Service::start(with_plugin_at(&path));
    let clients = Clients::of(&service);
    endless(&path);
    service.signal(Signal::SIGUSR1);
    let pid = successor(&service);
    has_handlers(pid);
    clients.stop(service.host.pid(), Signal::SIGTERM);
    service.host.logged(&["restart aborted by a stop"]);
    service.host.logged(&["stopping, draining connections"]);
    assert!(is_gone(pid), "it is reaped before the service stops");
    clients.end();
    assert_eq!(service.host.exit_code(), 0);
}

#[test]
fn an_adopting_successor_rejects_restarts_ignores_reloads_and_reports_its_stop() {
    for stop in STOPS {
        let service = Service::start(watched());
        let load = load(&service);
        service.inject("predecessor after-receiving hello stop");
        service.signal(Signal::SIGUSR1);
        in_state(service.host.pid(), 'T');
        service.inject("");
        let pid = successor(&service);
        send(pid, Signal::SIGUSR1);
        said(&service, pid, "command rejected command=\"USR1\" detail=\"this process is starting");
        send(pid, Signal::SIGHUP);
        said(&service, pid, "command ignored command=\"HUP\"");
        send(pid, stop);
        said(&service, pid, "stopped before serving");
        in_state(pid, 'Z');
        service.host.signal(Signal::SIGCONT);
        let record = service.host.logged(&["restart failed"]);
        assert!(record.contains("it was told to stop") && record.contains("exit status: 0"), "{record}");
        assert!(is_gone(pid));
        load.goes_on(20);
        load.stop();
    }
}

#[test]
fn while_offering_a_restart_joins_and_a_reload_goes_to_the_successor() {
    let service = Service::start(unwatched("hello"));
    let load = load(&service);
    let pid = held(&service, "before-sending prepared");
    let predecessor = service.host.pid();
    service.signal(Signal::SIGUSR1);
    said(&service, predecessor, "command joins the restart");
    service.signal(Signal::SIGHUP);
    said(&service, predecessor, "command deferred until the restart ends command=\"HUP\"");
    load.goes_on(20);
    send(pid, Signal::SIGCONT);
    said(&service, pid, "reloaded");
    said(&service, pid, "restart settled");
    load.goes_on(20);
    load.stop();
    let log = service.host.settled_log();
    assert_eq!(log.matches("successor started").count(), 1, "one restart:\n{log}");
    assert_eq!(log.matches(" reloaded").count(), 1, "one reload:\n{log}");
}

#[test]
fn the_predecessor_runs_a_reload_after_a_failed_restart() {
    for moment in ["before-sending prepared", "before-sending serving"] {
        let service = Service::start(watched());
        let load = load(&service);
        let pid = held(&service, moment);
        service.signal(Signal::SIGHUP);
        service.host.logged(&["command deferred until the restart ends command=\"HUP\""]);
        load.goes_on(20);
        send(pid, Signal::SIGKILL);
        service.host.logged(&["restart failed", "signal: 9"]);
        said(&service, service.host.pid(), "reloaded");
        assert!(is_gone(pid));
        load.goes_on(20);
        load.stop();
    }
}

#[test]
fn a_stop_while_offering_aborts_the_restart_at_once() {
    for stop in STOPS {
        let mut service = Service::start(watched());
        let clients = Clients::of(&service);
        let pid = held(&service, "before-sending prepared");
        clients.stop(service.host.pid(), stop);
        service.host.logged(&["restart aborted by a stop"]);
        service.host.logged(&["stopping, draining connections"]);
        assert!(is_gone(pid), "it is reaped before the service stops");
        clients.end();
        assert_eq!(service.host.exit_code(), 0);
    }
}

#[test]
fn once_committed_a_restart_joins_and_a_reload_goes_to_the_successor() {
    let service = Service::start(unwatched("hello"));
    let load = load(&service);
    let pid = held(&service, "before-sending serving");
    let predecessor = service.host.pid();
    service.signal(Signal::SIGUSR1);
    said(&service, predecessor, "command joins the restart");
    service.signal(Signal::SIGHUP);
    said(&service, predecessor, "command deferred until the restart ends command=\"HUP\"");
    load.goes_on(20);
    send(pid, Signal::SIGCONT);
    said(&service, pid, "reloaded");
    said(&service, pid, "restart settled");
    load.goes_on(20);
    load.stop();
    let log = service.host.settled_log();
    assert_eq!(log.matches("successor started").count(), 1, "one restart:\n{log}");
}

#[test]
fn once_committed_a_stop_waits_for_the_successor_and_stops_it() {
    for stop in STOPS {
        let service = Service::start(watched());
        let clients = Clients::of(&service);
        let pid = held(&service, "before-sending serving");
        clients.stop(service.host.pid(), stop);
        service.host.logged(&["stop deferred until the restart ends"]);
        send(pid, Signal::SIGCONT);
        said(&service, pid, "stopping, draining connections");
        clients.end();
        service.ends(pid);
    }
}

#[test]
fn once_committed_a_stop_runs_when_the_successor_fails() {
    let mut service = Service::start(watched());
    let clients = Clients::of(&service);
    let pid = held(&service, "before-sending serving");
    clients.stop(service.host.pid(), Signal::SIGTERM);
    service.host.logged(&["stop deferred until the restart ends"]);
    send(pid, Signal::SIGKILL);
    service.host.logged(&["restart failed"]);
    clients.end();
    assert!(is_gone(pid));
    assert_eq!(service.host.exit_code(), 0);
}

#[test]
fn a_successor_stopped_before_it_serves_serves_and_stops() {
    let service = Service::start(watched());
    let clients = Clients::of(&service);
    let pid = held(&service, "before-sending serving");
    clients.stop(pid, Signal::SIGTERM);
    send(pid, Signal::SIGCONT);
    service.host.logged(&["command forwarded to the successor"]);
    clients.end();
    service.ends(pid);
}
