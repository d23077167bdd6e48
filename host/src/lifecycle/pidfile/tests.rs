use super::*;
use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("host.pid");
    (directory, path)
}

fn files(directory: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn own() -> String {
    format!("{}\n", process::id())
}

#[test]
fn it_names_this_process_until_dropped() {
    let (directory, path) = place();
    let pidfile = PidFile::claim(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), own());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(files(&directory), ["host.pid"]);
    drop(pidfile);
    assert!(files(&directory).is_empty());
}

#[test]
fn a_locked_pidfile_is_rejected_and_a_stale_one_replaced() {
    let (directory, path) = place();
    let held = PidFile::claim(&path).unwrap();
    let refusal = PidFile::claim(&path).unwrap_err();
    assert!(refusal.is_refusal_of_the_system());
    assert!(refusal.to_string().contains(&format!("is held by process {}", process::id())), "{refusal}");
    check(&path).unwrap();
    assert!(held.place.names(&held.file), "neither has touched it");
    drop(held);
    // The file names a live process but is not locked: the id alone proves nothing.
    for stale in ["1\n", "4000000", ""] {
        fs::write(&path, stale).unwrap();
        drop(PidFile::claim(&path).unwrap());
        assert!(files(&directory).is_empty());
    }
}

#[test]
fn check_changes_no_file() {
    let (directory, path) = place();
    check(&path).unwrap();
    assert!(files(&directory).is_empty());
    fs::write(&path, "1\n").unwrap();
    let before = fs::metadata(&path).unwrap();
    check(&path).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec(), before.mode()), (after.ino(), after.ctime_nsec(), after.mode()));
    assert_eq!(files(&directory), ["host.pid"]);
}

#[test]
fn other_files_are_rejected_and_unchanged() {
    let (directory, path) = place();
    let at = |name: &str| directory.path().join(name);
    fs::write(&path, "1\n").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink(&path, at("link")).unwrap();
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(at("text"), "important\n").unwrap();
    fs::write(at("signed"), "-1\n").unwrap();
    fs::write(at("long"), format!("{}\n", "1".repeat(100))).unwrap();
    fs::write(at("blank"), " ".repeat(100)).unwrap();
    for (bad, why) in [
        (at("directory"), "is a directory"),
        (at("link"), "is a symbolic link"),
        (at("pipe"), "is a named pipe"),
        (PathBuf::from("/dev/null"), "is a device"),
        (at("text"), "other than a process id"),
        (at("signed"), "other than a process id"),
        (at("long"), "other than a process id"),
        (at("blank"), "other than a process id"),
        (at("absent/host.pid"), "does not exist"),
        (at("text/host.pid"), "does not exist"),
        (PathBuf::from("/"), "is not the name of a file"),
    ] {
        for refusal in [check(&bad).unwrap_err(), PidFile::claim(&bad).unwrap_err()] {
            let text = refusal.to_string();
            assert!(text.contains(why) && text.contains(bad.to_str().unwrap()), "{text}");
            assert!(!refusal.is_refusal_of_the_system());
        }
    }
    assert_eq!(fs::read_to_string(at("text")).unwrap(), "important\n");
    assert_eq!(files(&directory), ["blank", "directory", "host.pid", "link", "long", "pipe", "signed", "text"]);
}

#[test]
fn an_unwritable_directory_is_a_system_refusal() {
    // No user may create a file there, not even root.
    let path = Path::new("/proc/host.pid");
    let refusal = check(path).unwrap_err();
    assert!(refusal.is_refusal_of_the_system(), "{refusal}");
}

#[test]
fn a_reader_always_finds_a_complete_pidfile() {
    let (directory, path) = place();
    let first = PidFile::claim(&path).unwrap();
    let over = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(fs::read_to_string(&path).unwrap(), own());
            }
        });
        let last = (0..200).fold(first, |predecessor, _| {
            predecessor.release();
            PidFile::take_over(&path).unwrap()
        });
        over.store(true, Ordering::Relaxed);
        last
    });
    drop(last);
    assert!(files(&directory).is_empty());
}

#[test]
fn pidfiles_of_other_processes_are_not_removed() {
    let (directory, path) = place();
    let predecessor = PidFile::claim(&path).unwrap();
    let successor = PidFile::take_over(&path).unwrap();
    drop(predecessor);
    assert_eq!(fs::read_to_string(&path).unwrap(), own(), "the successor's");
    successor.release();
    assert_eq!(fs::read_to_string(&path).unwrap(), own(), "left to another");
    let renamed = PidFile::claim(&path).unwrap();
    fs::write(&path, "1\n").unwrap();
    drop(renamed);
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n", "it names another process");
    assert_eq!(files(&directory), ["host.pid"]);
}

#[test]
fn leftovers_of_a_killed_process_with_the_same_id_are_replaced() {
    let (directory, path) = place();
    fs::write(directory.path().join(format!(".host.pid.{}", process::id())), "torn").unwrap();
    check(&path).unwrap();
    assert!(files(&directory).is_empty());
    let pidfile = PidFile::claim(&path).unwrap();
    assert_eq!(files(&directory), ["host.pid"]);
    drop(pidfile);
}
