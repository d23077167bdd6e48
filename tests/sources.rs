//! What the sources of the tests must not contain.

use crate::harness::root;
use std::fs;

/// How often each file of `tests/` contains a phrase, for those that do.
fn uses(phrase: &str) -> Vec<(String, usize)> {
    let files = fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let counted = files.map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap().matches(phrase).count())
    });
    counted.filter(|(_, count)| *count > 0).collect()
}

/// A fixed pause is too short on a slow machine and too long on a fast one.
#[test]
fn only_the_harness_pauses() {
    assert_eq!(
        uses(concat!("park_", "timeout")),
        [("harness.rs".to_owned(), 2)],
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

/// `harness::skip` and `harness::cannot` list what did not run.
#[test]
fn only_the_harness_says_that_a_test_is_skipped() {
    assert_eq!(uses(concat!("print", "ln!(\"skipped")), [], "use harness::skip or harness::cannot");
}
