//! Patterns that the sources of the tests must not contain.

use crate::harness::root;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The path below `tests/` and the text of each file of these tests, without test guests and
/// fuzzing.
pub fn tests() -> Vec<(PathBuf, String)> {
    let tests = root().join("tests");
    let is_module = |path: &Path| path.is_file() || path.join("mod.rs").exists();
    let modules = fs::read_dir(&tests).unwrap().map(|entry| entry.unwrap().path()).filter(|path| is_module(path));
    let mut paths: Vec<PathBuf> = modules.flat_map(files).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&tests).unwrap().to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// A file itself, or the files of a directory.
fn files(path: PathBuf) -> Vec<PathBuf> {
    match fs::read_dir(&path) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => vec![path],
    }
}

/// How often each file of `tests/` contains a phrase, without the files that lack it.
fn uses(phrase: &str) -> Vec<(PathBuf, usize)> {
    let counted = tests().into_iter().map(|(path, text)| (path, text.matches(phrase).count()));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// A fixed pause is too short on a slow machine and too long on a fast one.
#[test]
fn only_the_harness_pauses() {
    assert_eq!(
        uses(concat!("park_", "timeout")),
        [(PathBuf::from("harness/waiting.rs"), 2)],
        "use harness::wait_for or harness::pace"
    );
    for other in [concat!("thread::", "sleep"), concat!("sleep(", "Duration"), concat!("sleep_", "ms(")] {
        assert_eq!(uses(other), [], "use harness::wait_for or harness::pace");
    }
}

/// Another process may bind the port of a listener that is dropped at once.
#[test]
fn no_test_asks_for_a_port_and_releases_it() {
    assert_eq!(uses(concat!(":0\").unwrap()", ".local_addr()")), [], "use harness::own_addresses");
}

/// `harness::skip` and `harness::cannot` list the skipped tests.
#[test]
fn only_the_harness_reports_skipped_tests() {
    assert_eq!(uses(concat!("print", "ln!(\"skipped")), [], "use harness::skip or harness::cannot");
}
