//! Guests that fail to answer a request: the client's view, and the log record.

use crate::{
    harness::{Host, Setup},
    http::{KEPT, VERSIONS, Waiting, curl, response},
};
use std::io::Write;

#[test]
fn a_guest_that_fails_before_its_response_is_an_empty_500() {
    for (path, reason) in [
        ("/trap", "trap"),
        ("/nothing", "error"),
        ("/error", "error"),
        ("/informational", "error"),
        ("/exit", "error"),
        ("/loop", "cpu-time"),
        ("/allocate", "memory"),
    ] {
        // A short limit only where a guest must reach it, in the background beside other tests. The
        // others may take their time.
        let cpu_time = if reason == "cpu-time" { "100ms" } else { "60s" };
        let host = Setup::serving("http-wasi").option("--guest-cpu-time", cpu_time).start();
        for (version, _) in VERSIONS {
            let answer = curl(&host, &[version, "--write-out", "%{http_code} %{size_download}"], &[path]).ok();
            assert_eq!(answer, "500 0", "{path} {version}");
        }
        let line = host.logged(&["request failed", &format!("reason={reason}"), &format!("path=\"{path}\"")]);
        assert!(line.contains("WARN") && line.contains("plugin=http-wasi"), "{line}");
        if path == "/trap" {
            host.logged(&["as asked"]);
        }
    }
}

#[test]
fn a_failure_leaves_the_connection_and_other_requests_alone() {
    for (transport, version) in KEPT {
        let host = Host::serving_over(transport, "http-wasi");
        let answer = curl(&host, &[version, "--write-out", "%{http_code} %{num_connects} "], &["/trap", "/"]).ok();
        assert_eq!(answer, "500 1 hello\n200 0 ", "{version}");
    }
}

#[test]
fn a_response_that_its_guest_does_not_finish_is_aborted() {
    let host = Host::serving("http-wasi");
    for path in ["/part", "/part-of-length"] {
        let answer = curl(&host, &["--http1.1"], &[path]);
        assert_eq!((answer.code, answer.out.as_str()), (18, "a part\n"), "{path}: {answer:?}");
        // A stream that is reset may lose the bytes written just before.
        let answer = curl(&host, &["--http2-prior-knowledge"], &[path]);
        assert!(answer.code == 92 && "a part\n".starts_with(&answer.out), "{path}: {answer:?}");
    }
    host.logged(&["request failed", "reason=trap", "path=\"/part\""]);
}

#[test]
fn a_guest_may_go_on_after_its_response() {
    let host = Setup::serving("http-wasi").option("--guest-cpu-time", "100ms").start();
    assert_eq!(curl(&host, &[], &["/after"]).ok(), "done\n");
    host.logged(&["after the response"]);
    let mut stream = host.connect();
    stream.write_all(b"GET /after-loop HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(response(&mut stream).1.contains("done\n"));
    // While the first guest is still at work.
    stream.write_all(b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(response(&mut stream).1, "x");
    drop(stream);
    host.logged(&["request failed", "reason=cpu-time", "path=\"/after-loop\""]);
}

#[test]
fn a_client_that_leaves_ends_its_guest() {
    let host = Host::serving("http-wasi");
    let client = Waiting::new(&host, &["--http2-prior-knowledge"], "/never");
    host.logged(&["no response will come"]);
    drop(client);
    host.logged(&["request failed", "reason=peer-reset", "path=\"/never\""]);
    // A half-closed connection may still wait for its response; a reset one does not.
    let mut stream = host.connect();
    stream.write_all(b"GET /big?100000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    drop(stream);
    // The guest may notice first: it panics when a write fails.
    let record = host.logged(&["request failed", "path=\"/big\""]);
    assert!(["reason=peer-reset", "reason=trap"].iter().any(|reason| record.contains(reason)), "{record}");
}
