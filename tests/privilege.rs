//! `--user` and `--group`: no root privilege is left, the next generation works without it, and the
//! operator hears of every exception.

use crate::{
    harness::{Host, Setup, directory, plugin, unix_uri, wait_for},
    service::Service,
};
use nix::unistd::{Gid, Uid, User, chown};
use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

/// A user without any privilege, on every system.
const NOBODY: &str = "nobody";

/// A directory with the files that a host needs after it has become `nobody`.
struct Home {
    directory: tempfile::TempDir,
    user: User,
}

impl Home {
    /// `None`, with a listed reason, where the test cannot run.
    fn new() -> Option<Self> {
        if !Uid::effective().is_root() {
            crate::harness::cannot("only root can change its user or group");
            return None;
        }
        let Some(user) = User::from_name(NOBODY).unwrap() else {
            crate::harness::cannot("the user nobody does not exist here");
            return None;
        };
        let mut host = Command::new(env!("CARGO_BIN_EXE_uninterruptible-host"));
        if !host
            .arg("--version")
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .output()
            .is_ok_and(|run| run.status.success())
        {
            crate::harness::cannot("only root can reach the host's binary");
            return None;
        }
        let directory = directory();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        chown(directory.path(), Some(user.uid), Some(user.gid)).unwrap();
        fs::copy(plugin("hello"), directory.path().join("plugin.wasm")).unwrap();
        Some(Self { directory, user })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn setup(&self) -> Setup {
        Setup::bare()
            .option("--plugin", self.path("plugin.wasm"))
            .option("--cache-dir", "none")
            .option("--log-level", "debug")
            .option("--rollback-window", "50ms")
            // The working directory of a successor.
            .environment("APP_ROOT", self.directory.path().to_str().unwrap())
    }
}

/// A line of /proc/PID/status, of the process and of each of its threads.
fn status(pid: i32, field: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |thread: std::io::Result<fs::DirEntry>| fs::read_to_string(thread.unwrap().path().join("status")).ok();
    let line = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    threads.filter_map(read).map(line).collect()
}

fn assert_is(pid: i32, user: u32, group: u32) {
    let four = |id: u32| [id; 4].map(|id| id.to_string()).join(" ");
    for (field, expected) in [("Uid", four(user)), ("Gid", four(group)), ("Groups", String::new())] {
        let found = status(pid, field);
        assert!(found.len() > 2 && found.iter().all(|found| *found == expected), "{field}: {found:?}, not {expected}");
    }
}

fn owner(path: &Path) -> (u32, u32) {
    let file = fs::symlink_metadata(path).unwrap();
    (file.uid(), file.gid())
}

#[test]
fn no_thread_keeps_root_privileges_and_no_file_of_root_is_left() {
    let Some(home) = Home::new() else { return };
    let (user, group) = (home.user.uid.as_raw(), home.user.gid.as_raw());
    let names = ["host.sock", "handoff.sock", "pid", "host.log"];
    let [socket, handoff, pidfile, log] = names.map(|name| home.path(name));
    let mut host = home
        .setup()
        .option("--bind", unix_uri(&socket) + "?mode=0660")
        .option("--handoff-socket", &handoff)
        .option("--pidfile", &pidfile)
        .option("--log-file", &log)
        .option("--user", NOBODY)
        .start();
    assert_is(host.pid(), user, group);
    for field in ["CapPrm", "CapEff", "CapAmb"] {
        assert!(status(host.pid(), field).iter().all(|capabilities| capabilities.bytes().all(|digit| digit == b'0')));
    }
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    for path in [&socket, &handoff, &pidfile, &log] {
        assert_eq!(owner(path), (user, group), "{}", path.display());
    }
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(host.terminate(), 0);
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("privileges dropped identity=--user nobody") && !log.contains("will fail"), "{log}");
    assert!([&socket, &handoff, &pidfile].iter().all(|path| !path.exists()));
}

#[test]
fn every_generation_after_the_first_starts_without_root() {
    let Some(home) = Home::new() else { return };
    let (socket, pidfile) = (home.path("host.sock"), home.path("pid"));
    let service = Service::start(
        home.setup()
            .option("--bind", unix_uri(&socket) + "?mode=0600")
            .option("--bind", "tcp://127.0.0.1:0")
            .option("--handoff-socket", home.path("handoff.sock"))
            .option("--pidfile", &pidfile)
            .option("--user", NOBODY),
    );
    for _ in 0..2 {
        let successor = service.restart();
        assert_is(successor.pid, home.user.uid.as_raw(), home.user.gid.as_raw());
        assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
        let named = || (fs::read_to_string(&pidfile).ok()?.trim() == successor.pid.to_string()).then_some(());
        wait_for("a pidfile that names the successor", named);
    }
    let log = service.host.log();
    assert_eq!(log.matches("privileges dropped").count(), 1, "only the first has anything to give up:\n{log}");
    for trouble in ["not applied", "removal failed", "will fail"] {
        assert!(!log.contains(trouble), "{log}");
    }
    let mut host = service;
    assert_eq!(host.host.exit_code(), 0);
    host.stops();
    assert!(!socket.exists() && !pidfile.exists());
}

#[test]
fn files_that_a_later_generation_cannot_open_are_named_correctly() {
    let Some(home) = Home::new() else { return };
    let closed = home.path("closed");
    fs::create_dir(&closed).unwrap();
    let log = home.path("host.log");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(home.path("plugin.wasm"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut host = home
        .setup()
        .option("--bind", unix_uri(&closed.join("host.sock")))
        .option("--pidfile", closed.join("pid"))
        .option("--log-file", &log)
        .option("--user", NOBODY)
        .start();
    let said = || fs::read_to_string(&log).unwrap();
    let has = |needles: &[&str]| said().lines().any(|line| needles.iter().all(|needle| line.contains(needle)));
    for path in [home.path("plugin.wasm"), log.clone(), closed.join("pid")] {
        let needles = ["WARN", "a hot restart will fail: this user cannot open", path.to_str().unwrap(), "denied"];
        wait_for("a warning", || has(&needles).then_some(()));
    }
    assert!(has(&["WARN", "host.sock will be left behind when this host stops"]), "{}", said());
    host.signal(nix::sys::signal::Signal::SIGUSR1);
    wait_for("a restart that fails", || has(&["restart failed, still serving"]).then_some(()));
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert_eq!(host.terminate(), 0);
    let mut left: Vec<_> = fs::read_dir(&closed).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["host.sock", "pid"], "as was said, and nothing else");
}

#[test]
fn a_group_can_be_changed_alone_or_with_the_user() {
    let Some(home) = Home::new() else { return };
    let bound = || home.setup().option("--bind", "tcp://127.0.0.1:0");
    assert_is(bound().option("--group", "7").start().pid(), 0, 7);
    let (user, both) = (home.user.uid.as_raw(), bound().option("--user", NOBODY).option("--group", "7"));
    assert_is(both.start().pid(), user, 7);
}

/// Started as `nobody`, with supplementary groups.
fn as_nobody(home: &Home, setup: Setup) -> Option<Setup> {
    if Command::new("setpriv").arg("--version").output().is_err() {
        crate::harness::skip("setpriv is not installed");
        return None;
    }
    let user = format!("--reuid={}", home.user.uid);
    Some(setup.by_way_of(["setpriv".to_owned(), user, "--regid=8".into(), "--groups=7,9".into()]))
}

#[test]
fn a_host_that_runs_as_the_user_already_changes_nothing() {
    let Some(home) = Home::new() else { return };
    let bound = || home.setup().option("--bind", "tcp://127.0.0.1:0").option("--user", NOBODY);
    let Some(setup) = as_nobody(&home, bound()) else { return };
    let host: Host = setup.start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert!(status(host.pid(), "Groups").iter().all(|groups| groups == "7 9"));
    assert!(status(host.pid(), "Gid").iter().all(|groups| groups == "8 8 8 8"));
    let log = host.whole_log();
    assert!(!log.contains("privileges dropped"), "{log}");

    let another = home.setup().option("--bind", "tcp://127.0.0.1:0").option("--user", "root");
    for (setup, identity) in [(another, "--user root"), (bound().option("--group", "7"), "--user nobody --group 7")] {
        let (code, out, err) = as_nobody(&home, setup).unwrap().run();
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(err.contains(&format!("{identity}: the system refuses to drop supplementary groups")), "{err}");
        assert!(err.contains("only root can change its user or group"), "{err}");
    }
}

#[test]
fn a_restart_cannot_add_a_port_below_1024() {
    let Some(home) = Home::new() else { return };
    let lowest = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if lowest.trim().parse::<u16>().unwrap() < 1024 {
        crate::harness::cannot("this system lets every user bind any port");
        return;
    }
    // An address of its own, so that tests do not collide.
    let [.., high, low] = std::process::id().to_be_bytes();
    let (first, second) = (format!("tcp://127.77.{high}.{low}:80"), format!("tcp://127.77.{high}.{low}:81"));
    let options = format!("--plugin {} --cache-dir none --user {NOBODY}", home.path("plugin.wasm").display());
    let command = format!("{} {options} --bind {second}", env!("CARGO_BIN_EXE_uninterruptible-host"));
    let setup = home.setup().option("--bind", &first).option("--user", NOBODY).option("--start-command", command);
    let service = Service::start(setup);
    let record = service.restart_that_fails();
    assert!(record.contains(&format!("--bind {second}: Permission denied")), "{record}");
    assert!(record.contains("which --user gives up"), "{record}");
    assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn an_anchor_leads_generations_of_another_user() {
    let Some(home) = Home::new() else { return };
    let setup = home.setup().option("--bind", "tcp://127.0.0.1:0").option("--user", NOBODY).argument("--anchor");
    let mut host = setup.start();
    host.signal(nix::sys::signal::Signal::SIGUSR1);
    let record = host.logged(&["/2]", "restart settled"]);
    let pid = crate::service::generation(&record).pid;
    assert_is(pid, home.user.uid.as_raw(), home.user.gid.as_raw());
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert_eq!(host.terminate(), 0);
}

/// Like a supervisor that starts every generation itself, as root.
#[test]
fn root_takes_over_from_another_user_and_becomes_that_user() {
    let Some(home) = Home::new() else { return };
    let handoff = home.path("handoff.sock");
    let setup = || {
        let setup = home.setup().option("--bind", unix_uri(&home.path("host.sock"))).option("--user", NOBODY);
        setup.option("--handoff-socket", &handoff)
    };
    let mut first = setup().start();
    let second = setup().option("--take-over", &handoff).start();
    second.logged(&["restart settled"]);
    // The predecessor cannot signal it, and so cannot watch it, but knows its pid.
    first.logged(&["successor connected", &format!("successor={}", second.pid())]);
    assert_eq!(first.exit_code(), 0);
    assert_is(second.pid(), home.user.uid.as_raw(), home.user.gid.as_raw());
    assert_eq!(second.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn an_unknown_user_is_named_with_a_remedy() {
    let unlisted = (3_000_000_000_u32..).find(|id| User::from_uid(Uid::from_raw(*id)).unwrap().is_none()).unwrap();
    let unlisted = unlisted.to_string();
    for (option, value, remedy) in [
        ("--user", "no-such-user", "is not a user of this system; give a user name or a numeric id"),
        ("--user", "4294967295", "is not a user of this system"),
        ("--user", unlisted.as_str(), "give --group as well"),
        ("--group", "no-such-group", "is not a group of this system"),
        ("--group", "-1", "is not a group of this system"),
    ] {
        let (code, out, err) = Setup::serving("hello").argument(format!("{option}={value}")).run();
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(&format!("{option} {value:?}: ")) && err.contains(remedy), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    // Naming the current user changes nothing, for root and others alike.
    let setup = Setup::serving("hello").option("--user", Uid::current().to_string());
    assert_eq!(setup.option("--group", Gid::current().to_string()).start().ask("bob\n"), b"Hello bob!\n");
}
