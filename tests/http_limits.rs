//! The limits of requests and of the connections that bring them.

use crate::{
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, await_frame, head, read_frame, write_frame},
    harness::{Host, Setup, Stream, Transport, connect_from, read_to_end, wait_for},
    http::{VERSIONS, curl, response},
};
use std::{
    io::{self, Read, Write},
    time::Duration,
};

/// Whether the other side has ended it, after a wait as long as its timeout.
fn is_over(stream: &mut Stream) -> bool {
    match stream.read(&mut [0; 4096]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_request_times_out() {
    for (option, reason) in [("--idle-timeout", "idle"), ("--connection-timeout", "wall-time")] {
        let host = Setup::serving("http-wasi").option(option, "2s").start();
        for (version, _) in VERSIONS {
            let answer = curl(&host, &[version, "--write-out", "%{http_code} %{size_download}"], &["/never"]).ok();
            assert_eq!(answer, "500 0", "{option} {version}");
        }
        host.logged(&["request failed", &format!("reason={reason}")]);
    }
}

#[test]
fn a_body_that_does_not_come_times_out() {
    let host = Setup::serving("http-wasi").option("--idle-timeout", "2s").start();
    let mut stream = host.connect();
    stream.write_all(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf ").unwrap();
    assert!(response(&mut stream).0.starts_with("http/1.1 500"));
    host.logged(&["request failed", "reason=idle"]);
}

/// A regression: the guest ended, and its connection stayed as long as its client did.
#[test]
fn a_client_that_does_not_read_its_response_is_closed() {
    let host = Setup::serving("http-wasi").option("--idle-timeout", "1s").start();
    let mut stream = host.connect();
    stream.write_all(b"GET /big?100000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    // On a busy machine the guest may still fill buffers when the connection's time is over: that
    // limit then ends the request.
    host.logged(&["request failed", "path=\"/big\""]);
    host.logged(&["connection failed", "reason=idle"]);
}

#[test]
fn a_head_that_comes_byte_by_byte_times_out() {
    let host = Setup::serving("http-wasi").option("--idle-timeout", "2s").start();
    let mut first = host.connect();
    let mut kept = host.connect();
    kept.write_all(b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(response(&mut kept).1, "x");
    for stream in [&mut first, &mut kept] {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let head = "GET / HTTP/1.1\r\nx: ".bytes().chain(std::iter::repeat(b'y')).take(600);
        let ended = head.into_iter().any(|byte| stream.write_all(&[byte]).is_err() || is_over(stream));
        assert!(ended, "a head of one byte in a while is read without an end");
    }
    host.logged(&["reason=idle"]);
}

#[test]
fn an_idle_kept_connection_is_closed() {
    let host = Setup::serving("http-wasi").option("--idle-timeout", "2s").start();
    let mut stream = host.connect();
    stream.write_all(b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(response(&mut stream).1, "x");
    assert_eq!(read_to_end(&mut stream), b"");
    // A connection that only pings has no request either.
    let mut stream = host.connect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let ended = (0..1000).any(|_| {
        crate::harness::pace(Duration::from_millis(20), "a client pings now and then");
        stream.write_all(b"\0\0\x08\x06\0\0\0\0\0pingping").is_err() || is_over(&mut stream)
    });
    assert!(ended, "a connection that only pings is kept without an end");
}

#[test]
fn an_old_connection_closes_after_its_request() {
    let host = Setup::serving("http-wasi").option("--connection-timeout", "700ms").start();
    let mut stream = host.connect();
    wait_for("a response that closes the connection", || {
        stream.write_all(b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        response(&mut stream).0.contains("connection: close").then_some(())
    });
    assert_eq!(read_to_end(&mut stream), b"");
}

#[test]
fn requests_of_one_connection_share_the_places_of_all() {
    for most in ["1", "3"] {
        let host = Setup::serving_over(Transport::Tls, "http-wasi").option("--max-connections", most).start();
        let paths: Vec<String> = (0..30).map(|number| format!("/sized?{number}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let flags = ["--http2", "--parallel", "--parallel-max", "30", "--write-out", "%{http_code} "];
        let answers = curl(&host, &flags, &paths).ok();
        assert_eq!(answers.matches("200").count(), 30, "{answers}");
        let log = host.whole_log();
        assert!(!log.contains("request failed"), "{log}");
    }
}

/// A regression: the limit counted connections alone, and two of them took all places with their
/// streams.
#[test]
fn the_limit_of_an_address_counts_its_streams() {
    let host =
        Setup::serving("http-wasi").option("--max-connections", "10").option("--max-connections-per-ip", "4").start();
    let mut crowd = [host.connect(), host.connect()];
    for stream in &mut crowd {
        stream.write_all(PREFACE).unwrap();
        read_frame(stream);
    }
    for stream in &mut crowd {
        for number in 0..30 {
            write_frame(stream, HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head(2, "/ticks"));
        }
        await_frame(stream, DATA);
    }
    // The others wait for the address's four places, and not for the host's.
    for _ in 0..5 {
        let mut other = connect_from("127.0.0.2", host.addresses[0].tcp());
        other.write_all(b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(response(&mut other).1, "x");
    }
    drop(crowd);
}

#[test]
fn requests_beyond_the_limit_of_an_address_wait_for_those_before() {
    let host = Setup::serving("http-wasi").option("--max-connections-per-ip", "2").start();
    let mut stream = host.connect();
    stream.write_all(PREFACE).unwrap();
    for number in 0..20 {
        write_frame(&mut stream, HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head(2, "/"));
    }
    let mut ended = 0;
    while ended < 20 {
        ended += usize::from(read_frame(&mut stream).flags & END_STREAM != 0 && ended < 20);
    }
}

#[test]
fn the_limit_of_header_fields_is_the_same_in_each_version() {
    let host = Host::serving("http-wasi");
    for (version, _) in VERSIONS {
        for (count, status) in [(80, "200"), (150, "431")] {
            let fields: Vec<String> = (0..count).map(|number| format!("x-{number}: y")).collect();
            let mut flags = vec![version, "--write-out", "%{http_code}", "--output", "/dev/null"];
            flags.extend(fields.iter().flat_map(|field| ["--header", field.as_str()]));
            assert_eq!(curl(&host, &flags, &["/"]).ok(), status, "{count} fields, {version}");
        }
    }
}

/// A regression: StarlingMonkey keeps a pollable for each piece of a body that it reads, and
/// trapped at the 250th.
#[test]
fn a_guest_may_keep_its_pollables() {
    for grants in [&[][..], &["127.0.0.1:1"]] {
        let setup =
            grants.iter().fold(Setup::serving("http-wasi"), |setup, grant| setup.option("--guest-connect", *grant));
        let host = setup.start();
        let body = "x".repeat(2500);
        assert_eq!(curl(&host, &["--data", &body], &["/waits"]).ok(), "2500\n");
        let body = "x".repeat(5000);
        assert_eq!(curl(&host, &["--data", &body, "--write-out", "%{http_code}"], &["/waits"]).ok(), "500");
        host.logged(&[
            "request failed",
            "reason=trap",
            "more streams, pollables and other resources than 4096",
            "--guest-resources",
        ]);
    }
}

#[test]
fn the_large_resources_of_a_guest_are_bounded() {
    let host = Host::serving("http-wasi");
    assert_eq!(curl(&host, &[], &["/fields?100"]).ok(), "100\n");
    assert_eq!(curl(&host, &[], &["/bodies?50"]).ok(), "50\n");
    for path in ["/fields", "/bodies"] {
        assert_eq!(curl(&host, &["--write-out", "%{http_code}"], &[&format!("{path}?300")]).ok(), "500");
        let record = "more streams, bodies and collections of fields than 256";
        host.logged(&["request failed", "reason=trap", path, record, "--guest-resources"]);
    }
}
