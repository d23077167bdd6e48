//! The pidfile: written before the ready line, held by one host at a time, removed with the host.

use crate::{
    harness::{Setup, directory, wait_for},
    service::Service,
};
use nix::sys::signal::Signal;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

#[test]
fn the_pidfile_exists_from_the_ready_line_to_the_end() {
    let dir = directory();
    let path = dir.path().join("host.pid");
    let mut host = Setup::serving("hello").option("--pidfile", &path).start();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", host.pid()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(host.terminate(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_gems_variable_sets_the_pidfile() {
    let dir = directory();
    let path = dir.path().join("host.pid");
    let host = Setup::serving("hello").environment("PID_FILE", path.to_str().unwrap()).start();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", host.pid()));
}

#[test]
fn a_live_hosts_pidfile_is_rejected_and_a_stale_one_replaced() {
    let dir = directory();
    let path = dir.path().join("host.pid");
    let setup = Setup::serving("hello").option("--pidfile", &path);
    let mut first = setup.start();
    let (code, out, err) = setup.run();
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains(&format!("is held by process {}, which is alive", first.pid())), "{err}");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", first.pid()));
    let dead = first.pid();
    first.signal(Signal::SIGKILL);
    first.await_end();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{dead}\n"), "a killed host leaves it behind");
    let second = setup.start();
    second.logged(&["stale pidfile replaced", &format!("stale=process {dead}")]);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", second.pid()));
}

#[test]
fn one_of_concurrent_hosts_serves() {
    let dir = directory();
    let path = dir.path().join("host.pid");
    // Each host finds it stale.
    fs::write(&path, "1\n").unwrap();
    let setup = Setup::serving("hello").option("--pidfile", &path);
    let mut hosts: Vec<_> = (0..4).map(|_| setup.spawn()).collect();
    let ready: Vec<_> = hosts.iter_mut().filter_map(|host| host.line_or_end().map(|_line| host.pid())).collect();
    assert_eq!(ready.len(), 1, "one host serves");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", ready[0]));
    for host in &mut hosts {
        let code = if host.pid() == ready[0] { host.terminate() } else { host.exit_code() };
        assert_eq!(code, if host.pid() == ready[0] { 0 } else { 3 }, "{}", host.log());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn an_unwritable_pidfile_is_rejected_before_binding() {
    let dir = directory();
    let text = dir.path().join("notes.txt");
    fs::write(&text, "important\n").unwrap();
    let absent = dir.path().join("absent/host.pid");
    for (path, code, needle) in [
        (dir.path().to_str().unwrap(), 2, "is a directory"),
        (text.to_str().unwrap(), 2, "holds something other than a process id"),
        (absent.to_str().unwrap(), 2, "its directory does not exist"),
        ("/", 2, "is not the name of a file"),
        ("/proc/host.pid", 3, "--pidfile /proc/host.pid"),
    ] {
        // The plugin is not valid either: the host checks the pidfile first, and binds no listener
        // before it has loaded the plugin.
        let (exit, out, err) = Setup::bare().option("--plugin", &text).option("--pidfile", path).run();
        assert_eq!((exit, out.as_str()), (code, ""), "{err}");
        assert!(err.contains("--pidfile") && err.contains(needle), "{err}");
    }
    assert_eq!(fs::read_to_string(&text).unwrap(), "important\n");
}

#[test]
fn a_reader_always_finds_a_complete_pidfile_over_two_hundred_restarts() {
    let dir = directory();
    let path = dir.path().join("host.pid");
    let service = Service::start(Setup::serving("hello").option("--pidfile", &path).option("--rollback-window", "1ms"));
    let over = AtomicBool::new(false);
    let named = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut named = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&path).expect("it is never missing");
                let pid: i32 = text.strip_suffix('\n').expect("it is never torn").parse().expect("it is a number");
                if named.last() != Some(&pid) {
                    named.push(pid);
                }
            }
            named
        });
        let mut expected = vec![service.host.pid()];
        for _ in 0..200 {
            let pid = service.restart().pid;
            expected.push(pid);
            wait_for("the pidfile of the next", || {
                (fs::read_to_string(&path).unwrap() == format!("{pid}\n")).then_some(())
            });
        }
        over.store(true, Ordering::Relaxed);
        let named = reading.join().unwrap();
        // It may have missed some, but saw them in order, and no other process.
        let mut rest = expected.iter();
        assert!(named.iter().all(|pid| rest.any(|expected| expected == pid)), "{named:?} in {expected:?}");
        named
    });
    assert!(named.len() > 100, "it has seen most of them: {}", named.len());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    drop(service);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
