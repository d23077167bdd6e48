//! The limits of requests and of the connections that bring them.

use crate::{
    harness::{Setup, Stream, Transport, read_to_end},
    http::{VERSIONS, curl, response},
};
use std::{
    io::{self, Read, Write},
    thread,
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
fn a_request_may_take_only_so_long() {
    for (option, reason) in [("--idle-timeout", "idle"), ("--connection-timeout", "wall-time")] {
        let host = Setup::serving("http-wasi").option(option, "500ms").start();
        for (version, _) in VERSIONS {
            let answer = curl(&host, &[version, "--write-out", "%{http_code} %{size_download}"], &["/never"]).ok();
            assert_eq!(answer, "500 0", "{option} {version}");
        }
        host.logged(&["request failed", &format!("reason={reason}")]);
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let host = Setup::serving("http-wasi").option("--idle-timeout", "500ms").start();
    let mut stream = host.connect();
    stream.write_all(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf ").unwrap();
    assert!(response(&mut stream).0.starts_with("http/1.1 500"));
    host.logged(&["request failed", "reason=idle"]);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let host = Setup::serving("http-wasi").option("--idle-timeout", "600ms").start();
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
fn a_connection_that_is_kept_without_a_request_is_closed() {
    let host = Setup::serving("http-wasi").option("--idle-timeout", "500ms").start();
    let mut stream = host.connect();
    stream.write_all(b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(response(&mut stream).1, "x");
    assert_eq!(read_to_end(&mut stream), b"");
    // One that pings has no request either.
    let mut stream = host.connect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let ended = (0..1000).any(|_| {
        thread::park_timeout(Duration::from_millis(20));
        stream.write_all(b"\0\0\x08\x06\0\0\0\0\0pingping").is_err() || is_over(&mut stream)
    });
    assert!(ended, "a connection that only pings is kept without an end");
}

#[test]
fn a_connection_that_has_lasted_long_enough_is_told_to_go_after_its_request() {
    let host = Setup::serving("http-wasi").option("--connection-timeout", "700ms").start();
    let mut stream = host.connect();
    let mut last = String::new();
    for _ in 0..1000 {
        stream.write_all(b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        last = response(&mut stream).0;
        if last.contains("connection: close") {
            break;
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    assert!(last.contains("connection: close"), "{last}");
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
        assert!(!host.log().contains("request failed"), "{}", host.log());
    }
}
