//! `--watch`: the host serves a saved plugin, however it is saved, and never a part of it.

use crate::{
    certificates,
    harness::{Host, Load, Setup, connect, directory, plugin, read_to_end, shared_cache, wait_for},
    openssl::Client,
    service::Service,
};
use nix::sys::signal::Signal;
use std::{
    fs::{self, File},
    io::{Seek, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

const DONE: &str = "reloaded";
const FAILED: &str = "reload failed, nothing changed";

/// A host that watches a plugin in a directory of its own.
struct Watching {
    host: Host,
    path: PathBuf,
    directory: tempfile::TempDir,
}

impl Watching {
    /// `place` gives the path of `hello` in the directory.
    fn placed(place: impl FnOnce(&Path) -> PathBuf) -> Self {
        let directory = directory();
        let path = place(directory.path());
        let host = Setup::serving_file(&path).argument("--watch").start();
        Self { host, path, directory }
    }

    fn hello() -> Self {
        Self::placed(|directory| {
            let path = directory.join("plugin.wasm");
            fs::copy(plugin("hello"), &path).unwrap();
            path
        })
    }

    fn count(&self, what: &str) -> usize {
        self.host.log().matches(what).count()
    }

    /// Waits until `echo` answers.
    fn serves_echo(&self) {
        serves(&self.host, 0, "as it came");
    }

    fn serves_hello(&self) {
        serves(&self.host, 0, "Hello as it came!\n");
    }
}

fn ask(host: &Host, listener: usize) -> String {
    let mut stream = connect(host.addresses[listener]);
    stream.write_all(b"as it came").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    String::from_utf8(read_to_end(&mut stream)).unwrap()
}

fn serves(host: &Host, listener: usize, answer: &str) {
    wait_for(&format!("the answer {answer:?}"), || (ask(host, listener) == answer).then_some(()));
}

fn rename_into_place(path: &Path, name: &str) {
    let draft = path.with_extension("draft");
    fs::copy(plugin(name), &draft).unwrap();
    fs::rename(draft, path).unwrap();
}

#[test]
fn a_plugin_that_is_renamed_into_place_is_served() {
    let watching = Watching::hello();
    let load = Load::start(watching.host.addresses[0], 2, "bob\n", "Hello bob!\n");
    load.goes_on(10);
    load.stop();
    rename_into_place(&watching.path, "echo");
    watching.serves_echo();
    let record = watching.host.logged(&[DONE, "ms_since_saved="]);
    assert!(record.starts_with(&format!("[{}/1]", watching.host.pid())), "{record}");
    watching.host.logged(&["reloading", watching.path.to_str().unwrap()]);
    // Several times, since each change sets up the watches again.
    rename_into_place(&watching.path, "hello");
    watching.serves_hello();
    rename_into_place(&watching.path, "echo");
    watching.serves_echo();
    assert_eq!(watching.count(FAILED), 0);
}

#[test]
fn a_plugin_written_in_place_is_served_when_it_is_complete() {
    let watching = Watching::hello();
    let load = Load::start(watching.host.addresses[0], 2, "bob\n", "Hello bob!\n");
    let whole = fs::read(plugin("hello-async")).unwrap();
    let mut file = File::create(&watching.path).unwrap();
    for piece in whole.chunks(whole.len() / 4 + 1) {
        file.write_all(piece).unwrap();
        load.goes_on(50);
    }
    // Complete, but its writer could still change it.
    assert_eq!(watching.count("reloading"), 0);
    drop(file);
    watching.host.logged(&[DONE]);
    load.stop();
    assert_eq!(watching.count(FAILED), 0);
    watching.serves_hello();
}

/// As cargo does it: removes the name, and links it to a file that was built elsewhere.
#[test]
fn a_hard_link_is_served_and_watched_through_its_other_name() {
    let watching = Watching::hello();
    let built = watching.directory.path().join("deps").join("plugin.wasm");
    fs::create_dir(built.parent().unwrap()).unwrap();
    fs::copy(plugin("echo"), &built).unwrap();
    fs::remove_file(&watching.path).unwrap();
    fs::hard_link(&built, &watching.path).unwrap();
    watching.serves_echo();
    fs::copy(plugin("hello"), &built).unwrap();
    watching.serves_hello();
}

#[test]
fn a_link_that_is_flipped_is_followed() {
    let watching = Watching::placed(|directory| {
        fs::copy(plugin("hello"), directory.join("hello.wasm")).unwrap();
        fs::copy(plugin("echo"), directory.join("echo.wasm")).unwrap();
        symlink("hello.wasm", directory.join("plugin.wasm")).unwrap();
        directory.join("plugin.wasm")
    });
    let flip = |target: &str| {
        let draft = watching.path.with_extension("draft");
        symlink(target, &draft).unwrap();
        fs::rename(draft, &watching.path).unwrap();
    };
    flip("echo.wasm");
    watching.serves_echo();
    // As `ln -sf` does it on some systems.
    fs::remove_file(&watching.path).unwrap();
    symlink("hello.wasm", &watching.path).unwrap();
    watching.serves_hello();
    // The target of the link is watched too.
    rename_into_place(&watching.directory.path().join("hello.wasm"), "echo");
    watching.serves_echo();
}

#[test]
fn a_release_that_is_flipped_above_the_plugin_is_followed() {
    let watching = Watching::placed(|directory| {
        for (release, name) in [("1", "hello"), ("2", "echo")] {
            let release = directory.join("releases").join(release);
            fs::create_dir_all(&release).unwrap();
            fs::copy(plugin(name), release.join("plugin.wasm")).unwrap();
        }
        symlink("releases/1", directory.join("current")).unwrap();
        directory.join("current").join("plugin.wasm")
    });
    let current = watching.directory.path().join("current");
    symlink("./releases/../releases/2", current.with_extension("draft")).unwrap();
    fs::rename(current.with_extension("draft"), &current).unwrap();
    watching.serves_echo();
    // The directory itself, moved away and replaced.
    let releases = watching.directory.path().join("releases");
    fs::rename(releases.join("2"), releases.join("old")).unwrap();
    fs::rename(releases.join("1"), releases.join("2")).unwrap();
    watching.serves_hello();
}

#[test]
fn a_broken_plugin_is_logged_once_and_changes_nothing() {
    let watching = Watching::hello();
    let whole = fs::read(plugin("echo")).unwrap();
    fs::write(&watching.path, &whole[..whole.len() / 2]).unwrap();
    let record = watching.host.logged(&[FAILED]);
    assert!(record.contains("ERROR") && record.contains("is damaged"), "{record}");
    assert_eq!(ask(&watching.host, 0), "Hello as it came!\n");
    fs::write(&watching.path, &whole).unwrap();
    watching.serves_echo();
    assert_eq!(watching.count(FAILED), 1);
}

#[test]
fn a_briefly_broken_plugin_is_not_logged() {
    let watching = Watching::hello();
    // A program that writes a file in several steps, closing it after each. The log shows that the
    // host tried the first ones.
    fs::write(&watching.path, b"").unwrap();
    watching.host.logged(&["reloading"]);
    fs::remove_file(&watching.path).unwrap();
    fs::copy(plugin("echo"), &watching.path).unwrap();
    watching.serves_echo();
    // A failed attempt would have a record before this one.
    fs::write(&watching.path, b"garbage").unwrap();
    let record = watching.host.logged(&[FAILED]);
    assert!(record.contains("is not WebAssembly"), "{record}");
    assert_eq!(watching.count(FAILED), 1);
}

/// A rename is complete at once, even while a program still writes to the replaced file.
#[test]
fn a_writer_of_the_old_file_does_not_delay_the_new_one() {
    let watching = Watching::hello();
    let mut old = File::options().write(true).open(&watching.path).unwrap();
    old.rewind().unwrap();
    old.write_all(b"\0asm").unwrap();
    rename_into_place(&watching.path, "echo");
    watching.serves_echo();
    drop(old);
}

#[test]
fn other_files_in_the_directory_are_ignored() {
    let watching = Watching::hello();
    fs::copy(plugin("echo"), watching.directory.path().join("other.wasm")).unwrap();
    // Events in a directory come in order, so an earlier one would have been seen by then.
    rename_into_place(&watching.path, "echo");
    watching.serves_echo();
    assert_eq!(watching.count("reloading"), 1);
}

#[test]
fn every_plugin_is_watched_including_later_ones() {
    let directory = directory();
    let place = |name: &str| directory.path().join(name);
    for name in ["one.wasm", "two.wasm", "route.wasm", "late.wasm"] {
        fs::copy(plugin("hello"), place(name)).unwrap();
    }
    let (certificate, key) = certificates::localhost().write(directory.path(), "localhost");
    let config = place("host.toml");
    let write = |two: &str| {
        let text = format!(
            "watch = true\nbind-tls\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {:?}\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {:?}\n",
            place("one.wasm"),
            place(two),
        );
        let tls = format!(
            "[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {:?}\ntls-certificate = {certificate:?}\ntls-key = {key:?}\n\
             [[listener.route]]\nserver-name = \"localhost\"\nplugin = {:?}\n",
            place("one.wasm"),
            place("route.wasm"),
        );
        // The encrypted one first, where `openssl` looks.
        fs::write(&config, text.replace("bind-tls\n", &tls)).unwrap();
    };
    write("two.wasm");
    let setup = Setup::bare().option("--config", &config).option("--cache-dir", shared_cache());
    let host = setup.option("--max-connections", "64").start_on(3);
    rename_into_place(&place("two.wasm"), "echo");
    serves(&host, 2, "as it came");
    assert_eq!(ask(&host, 1), "Hello as it came!\n");
    rename_into_place(&place("one.wasm"), "echo");
    serves(&host, 1, "as it came");
    rename_into_place(&place("route.wasm"), "speaks-first");
    let client = Client::to(&host).option("-servername", "localhost");
    wait_for("the plugin of the route", || client.ask("bob\n").has("you said: bob").then_some(()));
    write("late.wasm");
    host.signal(Signal::SIGHUP);
    serves(&host, 2, "Hello as it came!\n");
    rename_into_place(&place("late.wasm"), "echo");
    serves(&host, 2, "as it came");
}

#[test]
fn a_successor_watches_too() {
    let directory = directory();
    let path = directory.path().join("plugin.wasm");
    fs::copy(plugin("hello"), &path).unwrap();
    let setup = Setup::serving_file(&path).argument("--watch").option("--rollback-window", "50ms");
    let service = Service::start(setup);
    let successor = service.restart();
    rename_into_place(&path, "echo");
    serves(&service.host, 0, "as it came");
    let record = service.host.logged(&[DONE]);
    assert!(record.starts_with(&format!("[{}/2]", successor.pid)), "{record}");
    assert_eq!(service.host.settled_log().matches(DONE).count(), 1);
}

/// Like HUP: a request in the meantime waits for the outcome.
#[test]
fn a_change_during_a_restart_that_fails_is_served_after_it() {
    let directory = directory();
    let path = directory.path().join("plugin.wasm");
    fs::copy(plugin("hello"), &path).unwrap();
    let setup = Setup::serving_file(&path).argument("--watch");
    let host = setup.option("--start-command", "sleep 60").option("--ready-timeout", "1s").start();
    host.signal(Signal::SIGUSR1);
    host.logged(&["successor started"]);
    rename_into_place(&path, "echo");
    host.logged(&["restart failed"]);
    serves(&host, 0, "as it came");
    let log = host.log();
    assert!(log.find("restart failed").unwrap() < log.find("reloading").unwrap());
}

#[test]
fn without_inotify_the_plugin_is_polled() {
    // A user namespace has limits of its own, so that only this host has no watches left.
    let without = ["unshare", "--user", "--map-root-user", "sh", "-c"];
    let without = without.into_iter().chain(["echo 0 >/proc/sys/user/max_inotify_instances && exec \"$@\"", "sh"]);
    let mut probe = without.clone().chain(["true"]);
    let may = Command::new(probe.next().unwrap()).args(probe).output();
    if !may.as_ref().is_ok_and(|output| output.status.success()) {
        crate::harness::cannot(format!("the kernel or unshare(1) refuses a user namespace: {may:?}"));
        return;
    }
    let directory = directory();
    let path = directory.path().join("plugin.wasm");
    fs::copy(plugin("hello"), &path).unwrap();
    let host = Setup::serving_file(&path).argument("--watch").by_way_of(without).start();
    let record = host.logged(&["inotify unavailable, polling plugins"]);
    assert!(record.contains("WARN") && record.contains("max_user_instances"), "{record}");
    rename_into_place(&path, "echo");
    serves(&host, 0, "as it came");
    fs::write(&path, "garbage").unwrap();
    host.logged(&[FAILED, "is not WebAssembly"]);
    fs::copy(plugin("hello"), &path).unwrap();
    serves(&host, 0, "Hello as it came!\n");
}
