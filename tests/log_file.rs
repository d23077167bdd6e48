//! The log in a file: its records, its rotation in every state, and failures of the file, which do
//! no harm.

use crate::harness::{Host, Setup, directory, plugin, read_line, read_to_end, shared_cache, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A host whose log is at `path`.
fn logging_to(path: &Path, plugin: &str) -> Setup {
    Setup::serving(plugin).option("--rollback-window", "50ms").option("--log-file", path)
}

/// Waits until a file has a line with all of `needles`, and returns it.
fn logged(path: &Path, needles: &[&str]) -> String {
    wait_for(&format!("a line with {needles:?} in {}", path.display()), || {
        let log = fs::read_to_string(path).ok()?;
        log.lines().find(|line| needles.iter().all(|needle| line.contains(needle))).map(str::to_owned)
    })
}

/// Moves a log away, as a rotation does.
fn rotate(path: &Path, count: u32) -> PathBuf {
    let old = path.with_extension(format!("log.{count}"));
    fs::rename(path, &old).unwrap();
    old
}

#[test]
fn records_go_to_the_file_and_not_to_standard_error() {
    let directory = directory();
    let path = directory.path().join("host.log");
    for generation in 1..=2 {
        let mut host = logging_to(&path, "hello").start();
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
        assert_eq!(host.terminate(), 0);
        let mark = format!("[{}/1] ", host.pid());
        logged(&path, &[&mark, "all connections finished"]);
        assert_eq!(host.log(), "");
        let log = fs::read_to_string(&path).unwrap();
        assert_eq!(log.matches("all connections finished").count(), generation);
        assert!(log.lines().all(|line| line.starts_with('[')), "{log}");
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
}

#[test]
fn every_generation_follows_a_rotation() {
    let directory = directory();
    let path = directory.path().join("host.log");
    let pidfile = directory.path().join("pid");
    let mut host = logging_to(&path, "speaks-first").option("--pidfile", &pidfile).start();
    let mut open = host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    host.signal(Signal::SIGUSR1);
    let settled = logged(&path, &["/2]", "restart settled"]);
    logged(&path, &[&format!("[{}/1]", host.pid()), "handed over"]);
    let serves: i32 = fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    assert!(settled.starts_with(&format!("[{serves}/2]")), "{settled}");

    let first = rotate(&path, 1);
    kill(Pid::from_raw(serves), Signal::SIGHUP).unwrap();
    logged(&path, &[&format!("[{serves}/2]"), "reloaded"]);
    logged(
        &path,
        &[&format!("[{}/1]", host.pid()), "only the log reopens command=\"HUP\" detail=\"this process has handed over"],
    );
    let size = fs::metadata(&first).unwrap().len();

    let mut last = host.connect();
    assert_eq!(read_line(&mut last), "ready\n");
    open.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut open), b"you said: bye\n");
    drop(open);
    assert_eq!(host.exit_code(), 0);
    logged(&path, &[&format!("[{}/1]", host.pid()), "all connections finished"]);

    kill(Pid::from_raw(serves), Signal::SIGTERM).unwrap();
    logged(&path, &["stopping, draining connections"]);
    rotate(&path, 2);
    kill(Pid::from_raw(serves), Signal::SIGHUP).unwrap();
    logged(&path, &["only the log reopens command=\"HUP\" detail=\"this process is stopping"]);
    last.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut last), b"you said: bye\n");
    drop(last);
    logged(&path, &[&format!("[{serves}/2]"), "all connections finished"]);
    assert_eq!(fs::metadata(&first).unwrap().len(), size, "no process writes to the moved file");
}

#[test]
fn the_log_reopens_while_a_plugin_is_broken_and_stays_open_if_it_cannot() {
    let directory = directory();
    let (path, served) = (directory.path().join("host.log"), directory.path().join("plugin.wasm"));
    fs::copy(plugin("hello"), &served).unwrap();
    let setup = Setup::bare().option("--plugin", &served).option("--cache-dir", shared_cache());
    let host = setup.option("--bind", "tcp://127.0.0.1:0").option("--log-file", &path).start();
    fs::remove_file(&served).unwrap();
    let first = rotate(&path, 1);
    host.signal(Signal::SIGHUP);
    logged(&path, &["reload failed, nothing changed"]);

    let second = rotate(&path, 2);
    fs::create_dir(&path).unwrap();
    host.signal(Signal::SIGHUP);
    logged(&second, &["log file reopen failed", path.to_str().unwrap(), "name a file"]);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    fs::remove_dir(&path).unwrap();
    host.signal(Signal::SIGHUP);
    logged(&path, &["log file reopened"]);
    assert!(!fs::read_to_string(first).unwrap().contains("log file reopened"));
}

#[test]
fn a_log_that_cannot_be_written_is_named_before_anything_is_bound() {
    let directory = directory();
    let inside = |name: &str| directory.path().join(name);
    fs::write(inside("file"), "").unwrap();
    let pipe = inside("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, code, remedy) in [
        (inside("absent/host.log"), 2, "create its directory"),
        (inside("file/host.log"), 2, "name a file"),
        (directory.path().to_owned(), 2, "name a file"),
        (pipe, 3, "start the reader first"),
        (PathBuf::new(), 2, "a value is required"),
    ] {
        let (exit, out, err) = logging_to(&path, "hello").run();
        assert_eq!((exit, out.as_str()), (code, ""), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.contains("--log-file") && err.contains(remedy), "{remedy:?} is not in {err}");
        assert!(err.contains(path.to_str().unwrap()), "{err}");
    }
}

/// Records of a time without a writable log appear once the log is writable again.
#[test]
fn a_full_disk_does_no_harm_and_lost_records_are_counted() {
    let directory = directory();
    let path = directory.path().join("host.log");
    // No file of this process may be longer than 8 blocks of 512 bytes.
    let limited = ["sh", "-c", "ulimit -f 8; exec \"$@\"", "sh"];
    let host = logging_to(&path, "hello").by_way_of(limited).start();
    let full = || fs::metadata(&path).unwrap().len() >= 8 * 512;
    for _ in 0..100 {
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    }
    assert!(full(), "the test needs more than fits");
    // What is still queued would fill the file again, before the report.
    wait_for("an empty queue", || waits(host.pid(), "log").then_some(()));
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    let record = logged(&path, &["log records dropped"]);
    let dropped = record.rsplit_once("dropped=").unwrap().1.split_whitespace().next().unwrap();
    assert!(dropped.parse::<u32>().unwrap() > 10, "{record}");
    let log = fs::read_to_string(&path).unwrap();
    assert!(log.lines().skip(1).all(|line| line.starts_with('[')), "each line is complete:\n{log}");
}

/// Whether a thread of this name waits for work.
fn waits(process: i32, name: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|thread| thread.unwrap().path());
    let thread = threads.into_iter().find(|thread| fs::read_to_string(thread.join("comm")).unwrap().trim() == name);
    let state = fs::read_to_string(thread.expect("such a thread").join("stat")).unwrap();
    state.rsplit_once(") ").unwrap().1.starts_with('S')
}

/// A reader that does not read fills its pipe, and then the queue.
#[test]
fn a_full_pipe_does_no_harm() {
    let directory = directory();
    let path = directory.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _reader = fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut host: Host = logging_to(&path, "hello").start();
    for _ in 0..1000 {
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    }
    assert_eq!(host.terminate(), 0);
}
