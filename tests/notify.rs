//! The messages that a supervisor receives, and their time.

use crate::{
    harness::{Setup, directory, plugin, read_line, read_to_end, wait_for},
    service::{Service, exit_code, generation},
    supervisor::{Barriers, Supervisor},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, io::Write, path::Path, process::Command};

fn supervised(plugin: &str, socket: &Path) -> Setup {
    Setup::serving(plugin).environment("NOTIFY_SOCKET", socket.to_str().unwrap())
}

#[test]
fn a_host_announces_ready_when_it_listens_and_stopping_at_a_stop() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let mut host = supervised("speaks-first", supervisor.socket()).option("--bind", "tcp://127.0.0.1:0").start();
    let ready = supervisor.told("READY=1");
    assert_eq!((ready.sender, ready.uid), (host.pid(), nix::unistd::getuid().as_raw()));
    assert_eq!(ready.value("STATUS"), Some("generation 1 serves 2 listeners"));
    let mut open = host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    assert_eq!(supervisor.said().len(), 1, "nothing before it is ready, and nothing while it serves");
    host.signal(Signal::SIGTERM);
    let stopping = supervisor.told("STOPPING=1");
    assert_eq!(stopping.sender, host.pid());
    assert!(stopping.value("STATUS").is_some());
    open.write_all(b"bye\n").unwrap();
    drop(open);
    assert_eq!(host.exit_code(), 0);
    assert_eq!(supervisor.main_process(host.pid()), host.pid());
    assert_eq!(supervisor.said().len(), 2);
}

/// systemd waits for the end of its own children only. By then the process that it takes for the
/// main process must be its child, though the starter still lives.
#[test]
fn a_successor_is_the_supervisors_child_when_it_is_named_as_the_main_process() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let mut service =
        Service::start(supervised("speaks-first", supervisor.socket()).option("--rollback-window", "60s"));
    let mut open = service.host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    service.signal(Signal::SIGUSR1);
    let watched = generation(&service.host.logged(&["serving, predecessor watching"])).pid;
    let starter = parent(watched);
    assert_eq!(parent(starter), service.host.pid(), "it learns the successor's exit status within the window");
    service.signal(Signal::SIGUSR1);
    supervisor.told(&format!("MAINPID={watched}"));
    assert_eq!(
        parent(watched),
        i32::try_from(std::process::id()).unwrap(),
        "as the next that reaps, this is who has it"
    );
    assert!(!fs::exists(format!("/proc/{starter}")).unwrap(), "the process in between is gone");
    service.host.logged(&["handed over"]);
    open.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut open), b"you said: bye\n");
    assert_eq!(service.host.exit_code(), 0);
    service.forgo_window();
}

/// This process only stands between the two.
#[test]
fn a_starter_that_is_killed_ends_nothing() {
    let service = Service::start(Setup::serving("hello").option("--rollback-window", "60s"));
    service.signal(Signal::SIGUSR1);
    let watched = generation(&service.host.logged(&["serving, predecessor watching"])).pid;
    let starter = Pid::from_raw(parent(watched));
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGINT] {
        kill(starter, signal).unwrap();
    }
    assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
    assert_eq!(parent(watched), starter.as_raw(), "the message for all processes of a service does not reach it");
    kill(starter, Signal::SIGKILL).unwrap();
    wait_for("its end", || (parent(watched) != starter.as_raw()).then_some(()));
    assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
    assert!(!service.host.settled_log().contains("successor died"));
    service.forgo_window();
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_host_that_cannot_start_is_never_ready() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let (code, _, _) = supervised("hello", supervisor.socket()).option("--pidfile", "/absent/host.pid").run();
    assert_eq!(code, 2);
    assert!(supervisor.said().is_empty());
}

#[test]
fn a_missing_supervisor_does_no_harm() {
    let dir = directory();
    let socket = dir.path().join("notify");
    let host = supervised("hello", &socket).start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    host.logged(&["supervisor notification failed", "READY=1"]);
}

/// systemd's own tool accepts the supervisor of these tests.
#[test]
fn a_barrier_holds_systemds_own_tool_until_it_is_answered() {
    let supervisor = Supervisor::new(Barriers::Held);
    let tool = Command::new("systemd-notify").arg("--ready").env("NOTIFY_SOCKET", supervisor.socket()).spawn();
    let Ok(mut tool) = tool else {
        crate::harness::skip("systemd-notify is not installed");
        return;
    };
    supervisor.told("READY=1");
    let barrier = supervisor.told("BARRIER=1");
    assert_eq!(barrier.descriptors, 1);
    assert!(tool.try_wait().unwrap().is_none(), "it waits");
    supervisor.answer_barriers();
    assert!(wait_for("its end", || tool.try_wait().unwrap()).success());
}

/// The order matters to a supervisor with NotifyAccess=main: the main process names the next one,
/// and leaves only after the supervisor has read that.
#[test]
fn each_generation_names_the_next_as_the_main_process() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let setup = supervised("hello", supervisor.socket()).option("--rollback-window", "10ms");
    let service = Service::start(setup);
    let first = service.host.pid();
    for _ in 0..5 {
        let before = service.current();
        let after = service.restart();
        assert_eq!(supervisor.main_process(first), after.pid);
        let said: Vec<_> = supervisor.said().into_iter().filter(|said| said.sender == before.pid).collect();
        let position = |line: &str| said.iter().rposition(|said| said.has(line));
        let named = position(&format!("MAINPID={}", after.pid));
        assert!(position("RELOADING=1") < named && named < position("BARRIER=1"), "{said:?}");
    }
    let last = service.current();
    service.inject("successor before-sending prepared kill");
    service.restart_that_fails();
    wait_for("that it is ready again", || {
        let said = supervisor.said();
        let reloading = said.iter().rposition(|said| said.has("RELOADING=1"));
        let ready = said.iter().rposition(|said| said.has("READY=1"));
        (reloading < ready).then_some(())
    });
    assert_eq!(supervisor.main_process(first), last.pid, "the serving process is still the main one");
    service.inject("");
}

/// How often the process has announced a reload, and whether it was ready after the last.
fn reloads(supervisor: &Supervisor, sender: i32) -> (usize, bool) {
    let said: Vec<_> = supervisor.said().into_iter().filter(|said| said.sender == sender).collect();
    let last = |line: &str| said.iter().rposition(|said| said.has(line));
    (said.iter().filter(|said| said.has("RELOADING=1")).count(), last("READY=1") > last("RELOADING=1"))
}

/// The service manager accepts messages from the predecessor only, which is still its main process.
#[test]
fn a_reload_within_the_window_is_announced_by_the_main_process() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let directory = directory();
    let plugin_file = directory.path().join("plugin.wasm");
    fs::copy(plugin("hello"), &plugin_file).unwrap();
    let setup = Setup::serving_file(&plugin_file).environment("NOTIFY_SOCKET", supervisor.socket().to_str().unwrap());
    let service = Service::start(setup.option("--rollback-window", "60s"));
    let first = service.host.pid();
    service.signal(Signal::SIGUSR1);
    service.host.logged(&["successor serving"]);
    let second = generation(&service.host.logged(&["serving, predecessor watching"])).pid;
    assert_eq!(reloads(&supervisor, first).0, 1, "of the restart");
    for (count, signalled) in [(2, first), (3, second)] {
        kill(Pid::from_raw(signalled), Signal::SIGHUP).unwrap();
        wait_for("the end of a reload", || (reloads(&supervisor, first) == (count, true)).then_some(()));
    }
    fs::write(&plugin_file, "not WebAssembly").unwrap();
    kill(Pid::from_raw(first), Signal::SIGHUP).unwrap();
    wait_for("the end of a reload that fails", || (reloads(&supervisor, first) == (4, true)).then_some(()));
    assert!(supervisor.said().iter().any(|said| said.value("STATUS").is_some_and(|status| status.contains("failed"))));
    assert_eq!(supervisor.main_process(first), first);
    fs::copy(plugin("hello"), &plugin_file).unwrap();
    service.forgo_window();
}

/// A service manager kills the rest of a service when its main process ends.
#[test]
fn a_main_process_that_stops_waits_for_earlier_generations() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let setup = supervised("speaks-first", supervisor.socket()).option("--rollback-window", "10ms");
    let service = Service::start(setup);
    let mut client = service.host.connect();
    assert_eq!(read_line(&mut client), "ready\n");
    let second = service.restart();
    service.signal(Signal::SIGTERM);
    service.host.logged(&[&format!("[{}/", second.pid), "waiting for draining generations"]);
    client.write_all(b"x\n").unwrap();
    assert_eq!(read_to_end(&mut client), b"you said: x\n");
    assert_eq!(exit_code(second.pid), Some(0));
    let log = service.host.log();
    let lines: Vec<_> = log.lines().filter(|line| line.starts_with(&format!("[{}/", second.pid))).collect();
    let position = |words: &str| lines.iter().position(|line| line.contains(words));
    assert!(position("draining generation finished") < position("all connections finished"), "{lines:#?}");
    service.ends(second.pid);
}

#[test]
fn a_main_process_waits_for_earlier_generations_until_the_drain_timeout() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let setup = supervised("speaks-first", supervisor.socket()).option("--rollback-window", "10ms");
    let mut service = Service::start(setup.option("--drain-timeout", "100ms"));
    let mut client = service.host.connect();
    assert_eq!(read_line(&mut client), "ready\n");
    let second = service.restart();
    service.signal(Signal::SIGTERM);
    let record = service.host.logged(&[&format!("[{}/", second.pid), "drain timed out"]);
    assert!(record.contains("elsewhere=1") && record.contains("generations=\"1 (pid "), "{record}");
    assert_eq!(exit_code(second.pid), Some(1));
    client.write_all(b"x\n").unwrap();
    assert_eq!(read_to_end(&mut client), b"you said: x\n", "without a service manager it lives on");
    assert_eq!(service.host.exit_code(), 0);
    service.abandon();
}
