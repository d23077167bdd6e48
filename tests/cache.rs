//! Compiled plugins on disk: the host finds them again, and trusts them only where it should.

use crate::harness::{Setup, directory, plugin};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

fn setup(cache: &Path) -> Setup {
    Setup::bare()
        .option("--plugin", plugin("hello"))
        .option("--bind", "tcp://127.0.0.1:0")
        .option("--cache-dir", cache)
        .option("--log-level", "debug")
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Starts a host and returns its log, with the first answer in it.
fn served(setup: &Setup) -> String {
    let host = setup.start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    host.whole_log()
}

#[test]
fn a_second_start_compiles_nothing() {
    let dir = directory();
    let cache = dir.path().join("made/when/missing");
    assert!(served(&setup(&cache)).contains("compiling plugin"));
    assert_eq!(entries(&cache).len(), 1);
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let log = served(&setup(&cache));
    assert!(log.contains("compiled plugin found") && !log.contains("compiling plugin"), "{log}");
}

#[test]
fn another_plugin_is_another_entry() {
    let dir = directory();
    served(&setup(dir.path()));
    let host = Setup::bare()
        .option("--plugin", plugin("echo"))
        .option("--bind", "tcp://127.0.0.1:0")
        .option("--cache-dir", dir.path())
        .start();
    assert_eq!(host.ask("x"), b"x");
    assert_eq!(entries(dir.path()).len(), 2);
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let dir = directory();
    served(&setup(dir.path()));
    let entry = entries(dir.path()).remove(0);
    let sound = fs::read(&entry).unwrap();
    for damage in 0..5 {
        let mut bytes = sound.clone();
        match damage {
            0 => bytes[sound.len() / 2] ^= 1,
            1 => bytes.truncate(sound.len() - 1),
            2 => bytes.truncate(10),
            3 => bytes.clear(),
            _ => bytes.fill(0),
        }
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, &bytes).unwrap();
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o600)).unwrap();
        let log = served(&setup(dir.path()));
        assert!(
            log.contains("cached plugin rejected, recompiling") && log.contains("compiling plugin"),
            "{damage}: {log}"
        );
        assert!(fs::read(&entry).unwrap() == sound, "{damage}: the entry is valid again");
    }
}

#[test]
fn an_entry_that_others_can_write_is_compiled_again() {
    let dir = directory();
    served(&setup(dir.path()));
    let entry = entries(dir.path()).remove(0);
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(served(&setup(dir.path())).contains("cached plugin rejected, recompiling"));

    // An entry that is a symbolic link is just as untrusted.
    let elsewhere = directory();
    let moved = elsewhere.path().join("entry");
    fs::rename(&entry, &moved).unwrap();
    symlink(&moved, &entry).unwrap();
    assert!(served(&setup(dir.path())).contains("cached plugin rejected, recompiling"));
    assert!(fs::symlink_metadata(&entry).unwrap().is_file());
}

#[test]
fn a_directory_that_others_can_write_is_not_used() {
    let dir = directory();
    let cache = dir.path().join("open");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let log = served(&setup(&cache));
    assert!(log.contains("plugin cache disabled") && log.contains("chmod go-w"), "{log}");
    assert!(entries(&cache).is_empty());

    // Nor a directory below it, which other users could replace.
    let below = cache.join("mine");
    let log = served(&setup(&below));
    assert!(log.contains("other users can write"), "{log}");
}

#[test]
fn a_cache_that_cannot_be_written_is_not_an_error() {
    let log = served(&setup(Path::new("/proc/nowhere")));
    assert!(log.contains("plugin cache disabled"), "{log}");
}

#[test]
fn only_the_latest_entries_are_kept() {
    let dir = directory();
    for number in 0..100 {
        fs::write(dir.path().join(format!("{number}.cwasm")), b"old").unwrap();
    }
    fs::write(dir.path().join("foreign notes.txt"), b"not ours").unwrap();
    served(&setup(dir.path()));
    let left = entries(dir.path());
    assert_eq!(left.iter().filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).count(), 64);
    assert!(left.iter().any(|path| path.ends_with("foreign notes.txt")));
}

/// The cache on a file system that forbids execution: its entries cannot be mapped as code.
#[test]
fn a_cache_that_forbids_execution_is_not_an_error() {
    let forbid = r#"mount --bind "$0" "$0" && mount -o remount,bind,noexec "$0""#;
    let dir = directory();
    // The mount is in a namespace of the host's own, and ends with it. It is not a user namespace:
    // there, the owner of / would be another user, and the host would not use a cache below it.
    let may_mount = Command::new("unshare").args(["-m", "sh", "-c", forbid]).arg(dir.path()).output();
    if !may_mount.as_ref().is_ok_and(|output| output.status.success()) {
        crate::harness::cannot(format!("a noexec mount needs root and unshare(1): {may_mount:?}"));
        return;
    }
    assert!(served(&setup(dir.path())).contains("compiling plugin"));
    let entry = entries(dir.path()).remove(0);
    let forbidden = setup(dir.path())
        .by_way_of(["unshare", "-m", "sh", "-c", &format!(r#"{forbid} && exec "$@""#)])
        .by_way_of([dir.path().as_os_str()]);
    let log = served(&forbidden);
    assert!(log.contains("compiled plugin found"), "{log}");
    assert!(log.contains("WARN") && log.contains("cached plugin unusable, recompiling"), "{log}");
    assert_eq!(entries(dir.path()), [entry]);
}
