//! A guest lives no longer than its client: each place is free again when the client has left, in
//! any state of the guest.

use crate::{
    frames::{DATA, END_HEADERS, HEADERS, PREFACE, await_frame, head, write_frame},
    harness::{Host, PATIENCE, Setup, Stream, wait_for},
    http::{VERSIONS, Waiting, curl, response},
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    thread,
};

/// A host with one place, which a guest keeps as long as it lives.
fn with_one_place(guest: &str) -> Host {
    Setup::serving(guest).option("--max-connections", "1").start()
}

/// A second client is served only after the only place is free.
fn place_is_back(host: &Host, after: &str) {
    let mut stream = host.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    assert!(response(&mut stream).0.starts_with("http/1.1 200"), "after {after}");
}

fn read_some(stream: &mut Stream) {
    assert_ne!(stream.read(&mut [0; 64]).unwrap(), 0);
}

/// A regression: guests whose bodies were discarded went on for days.
#[test]
fn a_guest_with_a_discarded_body_ends_with_its_client() {
    for guest in ["http-wasi", "http-async"] {
        let host = with_one_place(guest);
        for (request, head) in [
            ("HEAD /ticks?200", "http/1.1 200"),
            ("GET /ticks?204", "http/1.1 204"),
            ("GET /ticks?304", "http/1.1 304"),
            ("HEAD /ticks?304", "http/1.1 304"),
        ] {
            for _ in 0..2 {
                let mut stream = host.connect();
                stream.write_all(format!("{request} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).unwrap();
                let mut got = [0; 12];
                stream.read_exact(&mut got).unwrap();
                assert_eq!(String::from_utf8_lossy(&got).to_ascii_lowercase(), head);
                drop(stream);
                place_is_back(&host, request);
            }
        }
        for flags in [&["--head"][..], &[]] {
            let path = if flags.is_empty() { "/ticks?204" } else { "/ticks" };
            curl(&host, &[flags, &["--http2-prior-knowledge"]].concat(), &[path]).ok();
            place_is_back(&host, "a request of HTTP/2");
        }
    }
}

#[test]
fn a_guest_in_the_middle_of_its_response_ends_with_its_client() {
    for guest in ["http-wasi", "http-async"] {
        let host = with_one_place(guest);
        let mut stream = host.connect();
        stream.write_all(b"GET /ticks HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        read_some(&mut stream);
        drop(stream);
        place_is_back(&host, "a response");
        for (version, _) in VERSIONS {
            Waiting::new(&host, &[version], "/ticks").read_some();
            place_is_back(&host, "a response");
        }
    }
}

#[test]
fn a_guest_in_the_middle_of_a_request_ends_with_its_client() {
    for guest in ["http-wasi", "http-async"] {
        let host = with_one_place(guest);
        let mut stream = host.connect();
        stream.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nsome").unwrap();
        read_some(&mut stream);
        drop(stream);
        place_is_back(&host, "a part of a request");

        let mut stream = host.connect();
        stream.write_all(PREFACE).unwrap();
        write_frame(&mut stream, HEADERS, END_HEADERS, 1, &head(3, "/echo"));
        write_frame(&mut stream, DATA, 0, 1, b"some");
        await_frame(&mut stream, DATA);
        drop(stream);
        place_is_back(&host, "a part of a request of HTTP/2");
    }
    let host = with_one_place("http-wasi");
    let mut stream = host.connect();
    stream.write_all(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n").unwrap();
    read_some(&mut stream);
    drop(stream);
    place_is_back(&host, "an early response");
}

#[test]
fn a_guest_that_answers_nothing_ends_with_its_client() {
    let host = with_one_place("http-wasi");
    let client = Waiting::new(&host, &["--http2-prior-knowledge"], "/never");
    host.logged(&["no response will come"]);
    drop(client);
    place_is_back(&host, "no response");
}

/// A regression: the rest of a request that a guest had sent on stayed open with its connection,
/// once for each client that left.
#[test]
fn requests_that_a_guest_sends_on_end_with_its_client() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    upstream.set_nonblocking(true).unwrap();
    let address = upstream.local_addr().unwrap();
    let host = Setup::serving("http-async").option("--guest-connect", address.to_string()).start();
    for is_whole in [true, false] {
        let mut client = host.connect();
        let request =
            format!("POST /forward?http://{address}/ HTTP/1.1\r\nhost: a\r\ncontent-length: 20000000\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let mut sending = client.try_clone().unwrap();
        let sender = thread::spawn(move || {
            // Until the host reads no more.
            while sending.write_all(&[b'x'; 64 << 10]).is_ok() {}
        });
        let (mut server, _) = wait_for("the guest's request", || upstream.accept().ok());
        server.set_nonblocking(false).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        server.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n").unwrap();
        if is_whole {
            server.write_all(b"0\r\n\r\n").unwrap();
        }
        read_some(&mut client);
        client.shutdown(Shutdown::Both).ok();
        drop(client);
        if !is_whole {
            // The host notices that its client is gone when it writes to it.
            wait_for("the end of the host's connection", || server.write_all(b"1\r\nx\r\n").err());
        }
        // To the end, whether a close or a reset.
        let mut piece = [0; 64 << 10];
        while server.read(&mut piece).is_ok_and(|count| count > 0) {}
        sender.join().unwrap();
    }
}
