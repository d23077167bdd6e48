//! HUP: the same process loads the plugin again for new connections, and the reload succeeds or
//! fails as a whole.

use crate::{
    harness::{Host, Load, Setup, directory, plugin, read_line, read_to_end, wait_for},
    supervisor::{Barriers, Notification, Supervisor},
};
use nix::sys::signal::Signal;
use std::{
    fs::{self, File},
    io::Write,
    net::Shutdown,
    path::{Path, PathBuf},
};

/// A host whose plugin is a file of the test's own.
struct Changing {
    host: Host,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Changing {
    fn serving(name: &str) -> Self {
        Self::with(name, |setup| setup)
    }

    fn with(name: &str, options: impl FnOnce(Setup) -> Setup) -> Self {
        let directory = directory();
        let path = directory.path().join("plugin.wasm");
        replace(&path, name);
        let setup = Setup::serving_file(&path);
        Self { host: options(setup).start(), path, _directory: directory }
    }

    fn load(&self) -> Load {
        Load::start(self.host.addresses[0], 4, "bob\n", "Hello bob!\n")
    }

    fn count(&self, what: &str) -> usize {
        self.host.log().matches(what).count()
    }

    /// Sends HUP, waits for this outcome, and returns its record.
    fn reload(&self, outcome: &str) -> String {
        let before = self.count(outcome);
        self.host.signal(Signal::SIGHUP);
        wait_for(outcome, || (self.count(outcome) > before).then_some(()));
        self.host.log().lines().rfind(|line| line.contains(outcome)).unwrap().to_owned()
    }
}

const DONE: &str = "reloaded";
const FAILED: &str = "reload failed, nothing changed";

/// As a deployment does it: the file is complete at any instant.
fn replace(path: &Path, name: &str) {
    let draft = path.with_extension("draft");
    fs::copy(plugin(name), &draft).unwrap();
    fs::rename(draft, path).unwrap();
}

#[test]
fn new_connections_get_the_new_plugin_and_old_ones_go_on_with_the_old() {
    let changing = Changing::serving("speaks-first");
    let mut old = changing.host.connect();
    assert_eq!(read_line(&mut old), "ready\n");
    replace(&changing.path, "hello");
    changing.reload(DONE);
    assert_eq!(changing.host.ask("bob\n"), b"Hello bob!\n");
    old.write_all(b"still here\n").unwrap();
    assert_eq!(read_to_end(&mut old), b"you said: still here\n");
    assert!(changing.host.log().lines().all(|line| line.starts_with(&format!("[{}/1]", changing.host.pid()))));
}

/// The guest that tries the new plugin has a place of its own.
#[test]
fn a_plugin_is_reloaded_while_every_place_is_taken() {
    for (before, after) in [("speaks-first", "hello"), ("cat-async", "hello-async")] {
        let changing = Changing::with(before, |setup| setup.option("--max-connections", "1"));
        let mut old = changing.host.connect();
        old.write_all(b"here\n").unwrap();
        let first = read_line(&mut old);
        replace(&changing.path, after);
        changing.reload(DONE);
        old.shutdown(Shutdown::Write).unwrap();
        assert!(!first.is_empty() && read_to_end(&mut old).len() < 100);
        assert_eq!(changing.host.ask("bob\n"), b"Hello bob!\n");
    }
}

#[test]
fn an_invalid_plugin_changes_nothing() {
    let changing = Changing::serving("hello");
    let load = changing.load();
    let path = &changing.path;
    let remove = || {
        if path.is_dir() { fs::remove_dir(path).unwrap() } else { fs::remove_file(path).unwrap() }
    };
    let damaged = fs::read(plugin("speaks-first")).unwrap();
    let cases: [(&dyn Fn(), &str); 5] = [
        (&|| fs::write(path, b"garbage").unwrap(), "is not WebAssembly"),
        (&|| fs::write(path, b"\0asm\x01\0\0\0").unwrap(), "is a core WebAssembly module"),
        (&|| fs::write(path, &damaged[..damaged.len() / 2]).unwrap(), "is damaged"),
        (&|| fs::create_dir(path).unwrap(), "is not a regular file"),
        (&|| (), "No such file"),
    ];
    for (make, reason) in cases {
        remove();
        make();
        let record = changing.reload(FAILED);
        assert!(record.contains("ERROR") && record.contains(reason), "{record}");
        load.goes_on(20);
        if reason == "No such file" {
            replace(path, "hello");
        }
    }
    load.stop();
    replace(path, "speaks-first");
    changing.reload(DONE);
    assert_eq!(read_line(&mut changing.host.connect()), "ready\n");
}

#[test]
fn the_last_of_several_reloads_wins() {
    let changing = Changing::serving("hello");
    for name in ["hello", "speaks-first", "echo", "hello", "speaks-first", "hello", "echo"] {
        replace(&changing.path, name);
        changing.host.signal(Signal::SIGHUP);
    }
    wait_for("the last plugin", || (changing.host.ask("as it came") == b"as it came").then_some(()));
    assert_eq!(changing.count(FAILED), 0);
    // One more reload shows that no earlier one was pending.
    changing.reload(DONE);
    assert_eq!(changing.host.ask("as it came"), b"as it came");
}

#[test]
fn a_partly_written_plugin_is_rejected_until_it_is_complete() {
    let changing = Changing::serving("hello");
    let load = changing.load();
    let whole = fs::read(plugin("hello-async")).unwrap();
    // In place, as a careless deployment does it.
    let mut file = File::create(&changing.path).unwrap();
    let mut pieces = whole.chunks(whole.len() / 8 + 1).peekable();
    while let Some(piece) = pieces.next() {
        file.write_all(piece).unwrap();
        let record = changing.reload(if pieces.peek().is_some() { FAILED } else { DONE });
        assert!(record.contains("reloaded") || record.contains("is damaged"), "{record}");
        load.goes_on(10);
    }
    load.stop();
}

/// The resources of a process that could leak.
#[derive(Debug)]
struct Holdings {
    mappings: usize,
    descriptors: usize,
    threads: usize,
    resident: u64,
}

impl Holdings {
    fn of(host: &Host) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{}/{what}", host.pid())).unwrap().count();
        let maps = fs::read_to_string(format!("/proc/{}/maps", host.pid())).unwrap();
        Self {
            mappings: maps.lines().count(),
            descriptors: count("fd"),
            threads: count("task"),
            resident: host.status_kib("VmRSS"),
        }
    }

    fn is_no_more_than(&self, before: &Self) -> bool {
        // The allocator keeps some freed memory, and threads for blocking work come and go.
        self.mappings <= before.mappings + 40
            && self.descriptors <= before.descriptors
            && self.threads <= before.threads + 4
            && self.resident <= before.resident * 5 / 4 + 8192
    }
}

#[test]
fn fifty_reloads_under_load_fail_no_client_and_leave_nothing_behind() {
    let changing = Changing::with("hello", |setup| setup.option("--max-connections", "64"));
    let reloads = |count: usize| {
        let load = changing.load();
        for name in ["hello-async", "hello"].into_iter().cycle().take(count) {
            replace(&changing.path, name);
            changing.reload(DONE);
            load.goes_on(5);
        }
        load.stop();
    };
    // The first reloads compile both plugins and fill the allocator's arenas.
    reloads(10);
    let before = Holdings::of(&changing.host);
    reloads(50);
    wait_for(&format!("no more than {before:?}, now {:?}", Holdings::of(&changing.host)), || {
        Holdings::of(&changing.host).is_no_more_than(&before).then_some(())
    });
}

/// The lines that give a supervisor the state, without those for people.
fn states(supervisor: &Supervisor) -> Vec<String> {
    let state = |said: &Notification| said.lines.first().filter(|line| !line.starts_with("BARRIER")).cloned();
    supervisor.said().iter().filter_map(state).collect()
}

/// Waits until the supervisor has received exactly these states, all of them from the main process.
fn heard(supervisor: &Supervisor, first: i32, expected: &[&str]) {
    wait_for(&format!("{expected:?}"), || (states(supervisor).len() >= expected.len()).then_some(()));
    assert_eq!(states(supervisor), expected);
    supervisor.main_process(first);
    let stamps = supervisor.said().into_iter().filter(|said| said.has("RELOADING=1"));
    for stamp in stamps.map(|said| said.value("MONOTONIC_USEC").map(str::to_owned)) {
        stamp.expect("MONOTONIC_USEC with RELOADING=1").parse::<u64>().unwrap();
    }
}

fn supervised(supervisor: &Supervisor, setup: Setup) -> Setup {
    setup.environment("NOTIFY_SOCKET", supervisor.socket().to_str().unwrap())
}

/// A unit of Type=notify-reload waits for both messages, whether the reload succeeds or fails.
#[test]
fn each_reload_and_its_end_are_reported_to_the_supervisor() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let changing = Changing::with("hello", |setup| supervised(&supervisor, setup));
    changing.reload(DONE);
    heard(&supervisor, changing.host.pid(), &["READY=1", "RELOADING=1", "READY=1"]);
    fs::remove_file(&changing.path).unwrap();
    changing.reload(FAILED);
    heard(&supervisor, changing.host.pid(), &["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]);
    let last = supervisor.said().pop().unwrap();
    assert_eq!(last.value("STATUS"), Some("generation 1 serves; its last reload failed"));
}

#[test]
fn each_failed_restart_and_its_end_are_reported_to_the_supervisor() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let changing = Changing::with("hello", |setup| {
        supervised(&supervisor, setup).option("--start-command", "/absent/uninterruptible-host")
    });
    changing.host.logged(&["next generation may fail", "/absent/uninterruptible-host cannot be executed"]);
    changing.host.signal(Signal::SIGUSR1);
    changing.host.logged(&["restart failed", "/absent/uninterruptible-host"]);
    heard(&supervisor, changing.host.pid(), &["READY=1", "RELOADING=1", "READY=1"]);
}

#[test]
fn a_failing_and_a_settling_successor_are_reported_to_the_supervisor() {
    let supervisor = Supervisor::new(Barriers::Answered);
    let directory = directory();
    let path = directory.path().join("plugin.wasm");
    replace(&path, "hello");
    let setup = supervised(&supervisor, Setup::serving_file(&path)).option("--rollback-window", "50ms");
    let service = crate::service::Service::start(setup);
    let first = service.host.pid();
    fs::write(&path, "garbage").unwrap();
    service.restart_that_fails();
    heard(&supervisor, first, &["READY=1", "RELOADING=1", "READY=1"]);
    replace(&path, "hello");
    let second = service.restart();
    heard(&supervisor, first, &["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]);
    assert_eq!(supervisor.main_process(first), second.pid);
    // The new main process reports its own state.
    service.signal(Signal::SIGHUP);
    service.host.logged(&["/2]", DONE]);
    let both = ["READY=1", "RELOADING=1"].into_iter().cycle().take(7).collect::<Vec<_>>();
    heard(&supervisor, first, &both);
}
