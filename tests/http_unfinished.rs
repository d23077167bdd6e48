//! Incomplete responses: their clients must notice.

use crate::{
    harness::Host,
    http::{VERSIONS, curl},
};

/// The exit code of curl where a body breaks off, by version.
const BROKEN_OFF: [i32; 2] = [18, 92];

fn breaks_off(host: &Host, how: &str, record: &str) {
    for ((version, _), code) in VERSIONS.into_iter().zip(BROKEN_OFF) {
        let answer = curl(host, &[version], &[&format!("/unfinished?{how}")]);
        // A stream that is reset may lose the bytes written just before.
        assert!(answer.code == code && "a part\n".starts_with(&answer.out), "{how} {version}: {answer:?}");
    }
    let line = host.logged(&["request failed", "reason=error", record]);
    assert!(line.contains("WARN"), "{line}");
}

/// A regression: a body that was dropped, or left when its guest returned, ended like a complete
/// one.
#[test]
fn a_body_that_a_guest_of_wasi_0_2_does_not_finish_is_aborted() {
    for (how, record) in [
        ("dropped", "did not finish the body"),
        ("dropped-empty", "did not finish the body"),
        ("left-open", "did not finish the body"),
        ("exit", "did not finish the body"),
        ("short", "wrote 7 bytes of a body whose content-length is 100"),
        ("short-dropped", "wrote 7 bytes of a body whose content-length is 100"),
        ("full-dropped", "did not finish the body"),
        ("over", "wrote 7 bytes of a body whose content-length is 3"),
        ("no-body", "wrote 0 bytes of a body whose content-length is 100"),
    ] {
        breaks_off(&Host::serving("http-wasi"), how, record);
    }
}

#[test]
fn a_body_that_a_guest_of_wasi_0_3_ends_with_an_error_is_aborted() {
    for (how, record) in [
        ("error", "with an error: internal error: as asked"),
        ("no-body", "with an error: internal error: as asked"),
        ("short", "wrote 7 bytes of a body whose content-length is 100"),
        ("over", "wrote 7 bytes of a body whose content-length is 3"),
        ("full-error", "with an error: internal error: as asked"),
    ] {
        breaks_off(&Host::serving("http-async"), how, record);
    }
}

/// There the end of the connection is the end of the body, so only a reset tells the difference.
#[test]
fn a_body_of_http_1_0_that_is_not_finished_ends_in_a_reset() {
    let host = Host::serving("http-wasi");
    for how in ["dropped", "left-open", "dropped-empty"] {
        let answer = curl(&host, &["--http1.0"], &[&format!("/unfinished?{how}")]);
        assert_eq!(answer.code, 56, "{how}: {answer:?}");
    }
}

#[test]
fn a_finished_response_is_complete_even_if_its_guest_fails_later() {
    let host = Host::serving("http-wasi");
    for (version, _) in VERSIONS {
        for _ in 0..20 {
            assert_eq!(curl(&host, &[version], &["/finished-then-trap"]).ok(), "all of it\n", "{version}");
        }
    }
    host.logged(&["request failed", "reason=trap", "after the end"]);
}

#[test]
fn a_discarded_body_has_a_record_too() {
    let host = Host::serving("http-wasi");
    for (version, _) in VERSIONS {
        let answer = curl(&host, &[version, "--head"], &["/unfinished?dropped"]).ok();
        assert!(answer.contains("200"), "{answer}");
    }
    host.logged(&["request failed", "reason=error", "method=\"HEAD\"", "did not finish the body"]);
}
