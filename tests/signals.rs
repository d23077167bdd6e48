//! Each signal in each state of a process, to the predecessor and to the successor: the table in docs/restart.md, row by row.

use crate::{
    boot::spinning,
    harness::{Address, Load, Setup, directory, plugin, read_line, read_to_end, wait_for},
    service::{Service, exit_code},
    shutdown::handles,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{ErrorKind, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

const STOPS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// A window that ends only when something ends it.
fn watched() -> Setup {
    Setup::serving("hello").option("--rollback-window", "60s")
}

fn unwatched(name: &str) -> Setup {
    Setup::serving(name).option("--rollback-window", "50ms")
}

fn load(service: &Service) -> Load {
    Load::start(service.host.addresses[0], 4, "bob\n", "Hello bob!\n")
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn in_state(pid: i32, state: char) {
    wait_for(&format!("process {pid} in state {state}"), || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().starts_with(state).then_some(())
    });
}

/// Whether nothing is left of it, not even a zombie.
fn is_gone(pid: i32) -> bool {
    !fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Waits until this process has said so.
fn said(service: &Service, pid: i32, what: &str) -> String {
    service.host.logged(&[&format!("[{pid}/"), what])
}

/// The first successor, once it is started.
fn successor(service: &Service) -> i32 {
    let record = service.host.logged(&["successor started"]);
    record.rsplit_once("successor=").unwrap().1.parse().unwrap()
}

/// A restart that goes as far as its successor gets, which is stopped there.
fn held(service: &Service, moment: &str) -> i32 {
    service.order(&format!("successor {moment} stop"));
    service.signal(Signal::SIGUSR1);
    let pid = successor(service);
    in_state(pid, 'T');
    service.order("");
    pid
}

/// A restart whose successor serves, and is watched.
fn under_watch(service: &Service) -> i32 {
    service.signal(Signal::SIGUSR1);
    let pid = successor(service);
    said(service, pid, "serving, predecessor watching");
    said(service, service.host.pid(), "successor serving");
    pid
}

/// Clients that ask `hello` until nobody listens any more: whoever has connected is answered, and nobody is refused before the
/// service is told to stop.
struct Clients {
    told: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    asking: Vec<thread::JoinHandle<()>>,
}

impl Clients {
    fn of(service: &Service) -> Self {
        let address = service.host.addresses[0];
        let (told, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = || {
            let (told, answered) = (Arc::clone(&told), Arc::clone(&answered));
            thread::spawn(move || {
                while asks(address, &told) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let asking = (0..4).map(|_| client()).collect();
        let clients = Self { told, answered, asking };
        wait_for("answers", || (clients.answered.load(Ordering::Relaxed) > 20).then_some(()));
        clients
    }

    fn stop(&self, pid: i32, signal: Signal) {
        self.told.store(true, Ordering::Relaxed);
        send(pid, signal);
    }

    fn end(self) {
        self.asking.into_iter().for_each(|client| client.join().expect("every client that connected is answered"));
    }
}

fn asks(address: Address, told: &AtomicBool) -> bool {
    match address.try_connect() {
        Ok(mut stream) => {
            stream.write_all(b"bob\n").unwrap();
            assert_eq!(String::from_utf8_lossy(&read_to_end(&mut stream)), "Hello bob!\n");
            true
        }
        Err(error) => {
            assert!(error.kind() == ErrorKind::ConnectionRefused && told.load(Ordering::Relaxed), "{error}");
            false
        }
    }
}

/// A host whose plugin is at `path`, which is `hello` first.
fn with_plugin_at(path: &Path) -> Setup {
    fs::copy(plugin("hello"), path).unwrap();
    Setup::bare()
        .option("--plugin", path)
        .option("--cache-dir", "none")
        .option("--guest-cpu-time", "60s")
        .option("--bind", "tcp://127.0.0.1:0")
        .option("--log-level", "debug")
}

/// A plugin that never comes to its end of starting.
fn endless(path: &Path) {
    let draft = path.with_extension("draft");
    fs::write(&draft, spinning(u64::MAX)).unwrap();
    fs::rename(draft, path).unwrap();
}

/// XFSZ is the last that gets its handler.
fn has_handlers(pid: i32) {
    wait_for("signal handlers", || handles(pid, Signal::SIGXFSZ).then_some(()));
}

#[test]
fn starting_knows_no_restart_and_no_reload_and_ends_at_once() {
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
fn a_successor_that_starts_says_that_it_was_told_to_stop() {
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
fn a_stop_calls_a_restart_off_whose_successor_starts() {
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
fn adopting_knows_no_restart_and_no_reload_and_says_that_it_was_told_to_stop() {
    for stop in STOPS {
        let service = Service::start(watched());
        let load = load(&service);
        service.order("predecessor after-receiving hello stop");
        service.signal(Signal::SIGUSR1);
        in_state(service.host.pid(), 'T');
        service.order("");
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
fn offering_takes_a_restart_for_its_own_and_leaves_a_reload_to_the_successor() {
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
fn a_reload_during_a_restart_that_fails_is_done_by_the_predecessor() {
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
fn a_stop_while_offering_calls_the_restart_off_at_once() {
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
fn committed_takes_a_restart_for_its_own_and_leaves_a_reload_to_the_successor() {
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
fn a_stop_while_committed_waits_for_the_successor_and_stops_it() {
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
fn a_stop_while_committed_is_done_when_the_successor_fails() {
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
fn a_successor_that_was_told_to_stop_before_it_served_serves_and_leaves() {
    let service = Service::start(watched());
    let clients = Clients::of(&service);
    let pid = held(&service, "before-sending serving");
    clients.stop(pid, Signal::SIGTERM);
    send(pid, Signal::SIGCONT);
    service.host.logged(&["command forwarded to the successor"]);
    clients.end();
    service.ends(pid);
}

#[test]
fn a_stop_while_watching_is_the_successors() {
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

/// Whoever signals every process of a service (an anchor, systemd) reaches the successor twice, and asks only once.
#[test]
fn a_stop_that_was_forwarded_is_not_the_first_of_two_signals() {
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
fn a_restart_while_watching_is_the_successors() {
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
fn a_reload_while_watching_is_the_successors() {
    let service = Service::start(watched());
    let load = load(&service);
    let pid = under_watch(&service);
    service.host.signal(Signal::SIGHUP);
    service.host.logged(&["HUP forwarded to the successor"]);
    said(&service, pid, "reloaded");
    load.goes_on(20);
    load.stop();
    assert!(!service.host.log().contains("settled"), "the window goes on");
    service.forgo_window();
}

#[test]
fn a_stop_on_probation_lets_the_predecessor_go_first() {
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
fn a_restart_on_probation_lets_the_predecessor_go_first() {
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
fn a_reload_on_probation_is_done_and_the_window_goes_on() {
    let service = Service::start(watched());
    let load = load(&service);
    let pid = under_watch(&service);
    send(pid, Signal::SIGHUP);
    said(&service, pid, "reloaded");
    load.goes_on(20);
    load.stop();
    assert!(!service.host.log().contains("settled"), "the window goes on");
    service.forgo_window();
}

#[test]
fn draining_takes_no_orders_and_only_the_second_stop_cuts() {
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
        assert_eq!(read_line(&mut after), "ready\n", "the service is somebody else's, and goes on");
        drop(after);
        service.stops();
    }
}

#[test]
fn a_successor_that_was_rolled_back_finishes_what_it_has_whatever_it_is_told_once() {
    let service = Service::start(Setup::serving("speaks-first").option("--rollback-window", "60s"));
    let pid = under_watch(&service);
    let mut open = service.host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    service.order("successor rollback");
    service.host.logged(&["rolled back, serving again"]);
    said(&service, pid, "handed back");
    service.order("");
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

#[test]
fn stopping_takes_no_orders_and_the_second_stop_cuts() {
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
fn the_drain_timeout_of_a_handoff_cuts_and_says_so() {
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

/// An idle client for each restart would keep a process for each, for ever.
#[test]
fn idle_clients_keep_no_generation_for_longer_than_the_idle_timeout() {
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
