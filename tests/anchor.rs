//! One process id for supervisors that need one.

use crate::{
    harness::{Host, Load, Setup, directory, plugin, read_line, wait_for},
    service::{Generation, Service, generation as writer},
    supervisor::{Barriers, Supervisor},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::Command,
};

fn anchored(name: &str) -> Setup {
    Setup::serving(name).argument("--anchor")
}

/// The child processes of a process, in any state.
pub fn children(pid: i32) -> Vec<i32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// The generation that is an anchor's only child.
fn generation(anchor: i32) -> i32 {
    let children = children(anchor);
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

/// A field of /proc/PID/stat after the name.
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(field).map(str::to_owned)
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The last generation that has logged that it is the service.
fn current(host: &Host) -> Option<Generation> {
    host.log().lines().rev().find(|line| line.contains("restart settled")).map(writer)
}

/// Restarts through the anchor until that many generations have followed, and returns the last.
fn restarts(host: &Host, count: u64) -> Generation {
    let first = current(host).map_or(1, |current| current.number);
    for number in first + 1..=first + count {
        host.signal(Signal::SIGUSR1);
        wait_for("a successor that is the service", || current(host).filter(|current| current.number == number));
    }
    current(host).unwrap()
}

fn environment(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let lines = String::from_utf8_lossy(&environment).into_owned();
    lines.split('\0').find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

fn caught(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (signal as i32 - 1)) != 0)
}

#[test]
fn it_starts_a_generation_and_ends_with_it() {
    for ending in [Signal::SIGTERM, Signal::SIGINT] {
        let mut host = anchored("speaks-first").start();
        let generation = generation(host.pid());
        host.logged(&[&format!("[{generation}/1]"), "listening"]);
        let threads = fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap().count();
        assert_eq!(threads, 1, "the anchor is one thread");
        // The signal that a terminal sends to the foreground group must not arrive twice.
        assert_ne!(stat(host.pid(), 2), stat(generation, 2), "a process group of its own");
        let mut open = host.connect();
        assert_eq!(read_line(&mut open), "ready\n");
        host.signal(ending);
        host.logged(&["stopping"]);
        drop(open);
        assert_eq!(host.exit_code(), 0);
        assert_eq!(stat(generation, 0), None, "it was reaped");
    }
}

#[test]
fn the_exit_status_is_the_generations() {
    let (code, out, err) = Setup::bare().argument("--anchor").option("--plugin", "absent.wasm").run();
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("absent.wasm"), "{err}");
    let mut host = anchored("speaks-first").start();
    let mut open = host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    host.signal(Signal::SIGTERM);
    host.logged(&["stopping"]);
    assert_eq!(host.terminate(), 1, "cut short by a second signal");
    for (killed, code) in [(Signal::SIGKILL, 137), (Signal::SIGABRT, 134)] {
        let mut host = anchored("hello").start();
        signal(generation(host.pid()), killed);
        assert_eq!(host.exit_code(), code);
    }
}

#[test]
fn the_anchor_rejects_a_bad_option() {
    for (argument, needle) in [("--anchor=sometimes", "is not one of auto, always, never"), ("--anchors", "--anchor")] {
        let (code, _, err) = Setup::serving("hello").argument(argument).run();
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(needle), "{err}");
    }
}

/// Without handlers, a signal would end the process: USR1 and HUP as much as TERM.
#[test]
fn a_signal_at_any_instant_of_the_start_is_not_lost() {
    for round in 0..20 {
        let mut host = anchored("hello").spawn();
        wait_for("the anchor's handlers", || caught(host.pid(), Signal::SIGTERM).then_some(()));
        if round % 2 == 1 {
            // In the middle of the generation's start rather than before it.
            wait_for("a generation", || children(host.pid()).first().copied());
        }
        host.signal(Signal::SIGUSR1);
        host.signal(Signal::SIGHUP);
        host.signal(Signal::SIGTERM);
        assert_eq!(host.exit_code(), 0, "round {round}: {}", host.log());
    }
}

#[test]
fn a_supervisor_sees_one_process() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let mut host = anchored("hello").environment("NOTIFY_SOCKET", supervisor.socket().to_str().unwrap()).start();
    let ready = supervisor.told("READY=1");
    assert_eq!(ready.value("STATUS"), Some("generation 1 serves 1 listener"));
    assert_eq!(host.terminate(), 0);
    supervisor.told("STOPPING=1");
    let said = supervisor.said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().all(|said| said.sender == host.pid() && said.value("MAINPID").is_none()), "{said:?}");
}

#[test]
fn messages_from_strangers_are_ignored() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let host = anchored("hello").environment("NOTIFY_SOCKET", supervisor.socket().to_str().unwrap()).start();
    supervisor.told("READY=1");
    let generation = generation(host.pid());
    let inbox = environment(generation, "NOTIFY_SOCKET").unwrap();
    let address = SocketAddr::from_abstract_name(inbox.strip_prefix('@').unwrap()).unwrap();
    let stranger = UnixDatagram::unbound().unwrap();
    for lie in ["READY=1\nMAINPID=1", &format!("MAINPID={}", std::process::id()), "STOPPING=1", "\0\n=\n", ""] {
        stranger.send_to_addr(lie.as_bytes(), &address).unwrap();
    }
    // The next message shows that the host has read the false ones: the generation's own messages
    // are in the same queue.
    host.signal(Signal::SIGTERM);
    supervisor.told("STOPPING=1");
    assert_eq!(supervisor.said().len(), 2, "{:?}", supervisor.said());
    let mut host = host;
    assert_eq!(host.exit_code(), 0, "TERM went to the generation, which ended well");
}

/// Whether the kernel allows this user a pid namespace, tried with the command that a test uses.
fn namespaces() -> Option<Vec<&'static str>> {
    let commands = [vec!["unshare", "-pf", "--mount-proc"], vec!["unshare", "-Urpf", "--mount-proc"]];
    let allowed = |command: &Vec<&str>| {
        Command::new(command[0]).args(&command[1..]).arg("true").output().is_ok_and(|output| output.status.success())
    };
    let found = commands.into_iter().find(allowed);
    if found.is_none() {
        crate::harness::cannot("the kernel refuses process id namespaces");
    }
    found
}

#[test]
fn the_first_process_of_a_container_anchors_by_default_and_reaps_orphans() {
    let Some(mut wrapper) = namespaces() else { return };
    // The shell is the first process. It leaves the namespace an orphan, and then executes the
    // host.
    let script = r#"(sleep 0.2 &) ; (sleep 1000 &) ; exec "$0" "$@""#;
    wrapper.extend(["sh", "-c", script]);
    let mut host = Setup::serving("hello").by_way_of(wrapper).start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    let anchor = generation(host.pid());
    let status = fs::read_to_string(format!("/proc/{anchor}/status")).unwrap();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    assert_eq!(numbers.split_whitespace().last(), Some("1"), "the first process of its namespace");
    // The generation, and the orphan that still sleeps. The other orphan is reaped.
    let left = wait_for("the end of an orphan", || Some(children(anchor)).filter(|left| left.len() == 2));
    assert!(left.iter().all(|child| stat(*child, 0).is_some_and(|state| state != "Z")));
    signal(anchor, Signal::SIGTERM);
    assert_eq!(host.exit_code(), 0, "it does not wait for a process that is not a generation");
}

#[test]
fn the_first_process_of_a_container_can_run_without_an_anchor() {
    let Some(wrapper) = namespaces() else { return };
    let mut host = Setup::serving("hello").by_way_of(wrapper).argument("--anchor=never").start();
    let first = generation(host.pid());
    assert!(children(first).is_empty());
    signal(first, Signal::SIGTERM);
    assert_eq!(host.exit_code(), 0);
}

/// A shell as the first process of a namespace, and the host as its child: a container with an
/// init.
fn under_an_init() -> Option<Setup> {
    let mut wrapper = namespaces()?;
    wrapper.extend(["sh", "-c", r#""$0" "$@"; exit $?"#]);
    Some(Setup::serving("hello").option("--rollback-window", "10ms").by_way_of(wrapper))
}

/// The process that the init of such a container has started.
fn started_by_init(host: &Host) -> i32 {
    generation(generation(host.pid()))
}

#[test]
fn a_child_of_an_init_anchors_by_itself_and_survives_restarts() {
    let Some(setup) = under_an_init() else { return };
    let mut host = setup.start();
    let anchor = started_by_init(&host);
    for _ in 0..2 {
        let before = generation(anchor);
        signal(anchor, Signal::SIGUSR1);
        wait_for("one other generation", || {
            Some(children(anchor)).filter(|left| left.len() == 1 && left[0] != before).map(drop)
        });
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    }
    signal(anchor, Signal::SIGTERM);
    assert_eq!(host.exit_code(), 0);
}

#[test]
fn a_restart_that_would_end_the_container_is_rejected_with_the_reason() {
    let first_process = namespaces().map(|wrapper| Setup::serving("hello").by_way_of(wrapper));
    for (setup, reason) in [(first_process, "this process is pid 1"), (under_an_init(), "was started by sh (pid 1)")] {
        let Some(setup) = setup else { return };
        let mut host = setup.argument("--anchor=never").start();
        host.logged(&["WARN", "hot restarts disabled", reason, "--anchor"]);
        let serving = host.logged(&["listening"]);
        let below = if reason.contains("sh") { started_by_init(&host) } else { generation(host.pid()) };
        signal(below, Signal::SIGUSR1);
        host.logged(&["ERROR", "command rejected command=\"restart\"", reason, "--anchor"]);
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n", "{serving}");
        signal(below, Signal::SIGTERM);
        assert_eq!(host.exit_code(), 0);
    }
}

#[test]
fn an_anchor_works_under_tini() {
    if crate::harness::skip_unless("tini") {
        return;
    }
    let mut host = anchored("hello").by_way_of(["tini", "-s", "--"]).start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    let anchor = generation(host.pid());
    assert_eq!(children(anchor).len(), 1);
    assert_eq!(host.terminate(), 0);
    let mut host = anchored("hello").by_way_of(["tini", "-s", "--"]).start();
    signal(generation(generation(host.pid())), Signal::SIGKILL);
    assert_eq!(host.exit_code(), 137);
    // The operator need not know of the option.
    let setup = Setup::serving("hello").option("--rollback-window", "10ms");
    let mut host = setup.by_way_of(["tini", "-s", "--"]).start();
    host.signal(Signal::SIGUSR1);
    wait_for("a successor that is the service", || current(&host));
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert_eq!(host.terminate(), 0);
}

#[test]
fn a_supervisor_sees_one_process_through_twenty_restarts() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let dir = directory();
    let pidfile = dir.path().join("host.pid");
    let mut host = anchored("hello")
        .environment("NOTIFY_SOCKET", supervisor.socket().to_str().unwrap())
        .option("--rollback-window", "10ms")
        .option("--pidfile", &pidfile)
        .start();
    let load = Load::start(host.addresses[0], 4, "bob\n", "Hello bob!\n");
    let last = restarts(&host, 20);
    load.goes_on(100);
    load.stop();
    wait_for("the last generation's pidfile", || {
        (fs::read_to_string(&pidfile).unwrap() == format!("{}\n", last.pid)).then_some(())
    });
    // Every generation but the last has ended and is reaped.
    wait_for("one child", || (children(host.pid()) == [last.pid]).then_some(()));
    assert_eq!(host.terminate(), 0);
    supervisor.told("STOPPING=1");
    let said = supervisor.said();
    assert!(said.iter().all(|said| said.sender == host.pid() && said.value("MAINPID").is_none()), "{said:?}");
    assert_eq!(said.iter().filter(|said| said.has("READY=1")).count(), 21);
    assert_eq!(said.iter().filter(|said| said.has("STOPPING=1")).count(), 1);
    assert_eq!(said.iter().filter(|said| said.has("BARRIER=1")).count(), 20, "each successor was waited for");
}

#[test]
fn older_generations_drain_before_it_ends() {
    let mut host = anchored("speaks-first").option("--rollback-window", "10ms").start();
    let mut open = host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    let first = generation(host.pid());
    let second = restarts(&host, 1);
    host.signal(Signal::SIGTERM);
    // The current generation has no open connection; the one before it has one.
    wait_for("the end of the current generation", || {
        stat(second.pid, 0).is_none_or(|state| state == "Z").then_some(())
    });
    std::io::Write::write_all(&mut open, b"still here\n").unwrap();
    assert_eq!(crate::harness::read_to_end(&mut open), b"you said: still here\n");
    assert_eq!(host.exit_code(), 0);
    assert_eq!(stat(first, 0), None);
}

#[test]
fn a_second_stop_closes_connections_of_older_generations_too() {
    let mut host = anchored("speaks-first").option("--rollback-window", "10ms").start();
    let mut open = host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    let second = restarts(&host, 1);
    host.signal(Signal::SIGTERM);
    wait_for("the end of the current generation", || {
        stat(second.pid, 0).is_none_or(|state| state == "Z").then_some(())
    });
    assert_eq!(host.terminate(), 0, "as the current generation has ended");
}

/// Only its parent, an older generation that drains, learns its exit status.
#[test]
fn the_end_of_a_later_generation_is_seen() {
    let mut host = anchored("speaks-first").option("--rollback-window", "10ms").start();
    let mut open = host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    let second = restarts(&host, 1);
    assert_eq!(
        stat(second.pid, 1),
        Some(host.pid().to_string()),
        "it was left to the anchor, though its predecessor lives"
    );
    signal(second.pid, Signal::SIGKILL);
    assert_eq!(host.exit_code(), 137);
    // Outside a container the older generation goes on, with its open connection.
    std::io::Write::write_all(&mut open, b"still here\n").unwrap();
    assert_eq!(crate::harness::read_to_end(&mut open), b"you said: still here\n");
}

/// The anchor waits for a successor by its pid. If the successor anchored itself, that pid would be
/// the inner anchor's.
#[test]
fn a_restart_into_another_configuration_does_not_anchor() {
    let host = env!("CARGO_BIN_EXE_uninterruptible-host");
    let successor = format!(
        "{host} --anchor --plugin {} --bind tcp://127.0.0.1:0 --rollback-window 10ms",
        plugin("hello").display()
    );
    let service = Service::start(
        Setup::serving("hello").option("--rollback-window", "10ms").option("--start-command", successor),
    );
    let second = service.restart();
    assert!(children(second.pid).is_empty());
    assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn a_successor_whose_predecessor_is_killed_within_the_window_is_the_service() {
    let mut host = Setup::serving("hello").argument("--anchor=always").option("--rollback-window", "1h").start();
    let first = writer(&host.logged(&["listening", "/1]"]));
    host.signal(Signal::SIGUSR1);
    host.logged(&["serving, predecessor watching"]);
    // The anchor does not know the next generation yet.
    kill(Pid::from_raw(first.pid), Signal::SIGKILL).unwrap();
    host.logged(&["serving alone"]);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert_eq!(host.terminate(), 0, "{}", host.log());
}
