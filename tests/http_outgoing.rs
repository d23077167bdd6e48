//! Requests that guests send: to granted addresses, and to no other.

use crate::{
    certificates::{self, trusted},
    harness::{Host, Setup, Transport, directory},
    http::curl,
};
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The plugins of both generations.
const GUESTS: [&str; 2] = ["http-wasi", "http-async"];

#[test]
fn a_guest_sends_requests_to_granted_addresses_only() {
    let upstream = Host::serving("http-wasi");
    let port = upstream.addresses[0].tcp().port();
    for guest in GUESTS {
        let fetch =
            |host: &Host, url: &str| curl(host, &["--write-out", "%{http_code}"], &[&format!("/fetch?{url}")]).ok();
        let denied = Host::serving(guest);
        let answer = fetch(&denied, &format!("http://127.0.0.1:{port}/"));
        assert!(answer.contains("HttpRequestDenied") && answer.ends_with("502"), "{guest}: {answer}");

        let by_address = Setup::serving(guest).option("--guest-connect", format!("127.0.0.1:{port}")).start();
        assert_eq!(fetch(&by_address, &format!("http://127.0.0.1:{port}/")), "hello\n200", "{guest}");
        for other in
            [format!("http://127.0.0.2:{port}/"), "http://127.0.0.1:1/".to_owned(), format!("http://localhost:{port}/")]
        {
            assert!(fetch(&by_address, &other).contains("HttpRequestDenied"), "{guest} {other}");
        }

        let by_name = Setup::serving(guest).option("--guest-connect", format!("localhost:{port}")).start();
        assert_eq!(fetch(&by_name, &format!("http://localhost:{port}/")), "hello\n200", "{guest}");
    }
}

#[test]
fn https_requests_trust_the_machines_authorities() {
    let files = directory();
    let authority = certificates::write(&files.path().join("authority.pem"), &trusted().certificate());
    let upstream = Host::serving_over(Transport::Tls, "http-wasi");
    let port = upstream.addresses[0].tcp().port();
    let setup = || Setup::serving("http-wasi").option("--guest-connect", format!("localhost:{port}"));
    let path = format!("/fetch?https://localhost:{port}/");
    let trusting = setup().environment("SSL_CERT_FILE", authority.to_str().unwrap()).start();
    assert_eq!(curl(&trusting, &[], &[&path]).ok(), "hello\n");
    let strange = setup().start();
    let answer = curl(&strange, &[], &[&path]).ok();
    assert!(answer.contains("Tls") || answer.contains("authorities"), "{answer}");
}

/// Counts its connections, and answers every request on them, or closes after that many.
fn counting_upstream(requests_each: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut stream = BufReader::new(stream.unwrap());
            thread::spawn(move || {
                for _ in 0..requests_each {
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        if stream.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").unwrap();
                }
            });
        }
    });
    (address, count)
}

fn granted(guest: &str, address: SocketAddr) -> Setup {
    Setup::serving(guest).option("--guest-connect", address.to_string())
}

/// Sends that many requests upstream, from as many guests on one connection.
fn ask_by_way_of(host: &Host, address: SocketAddr, times: usize) {
    let paths = vec![format!("/fetch?http://{address}/"); times];
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert_eq!(curl(host, &[], &paths).ok(), "yes".repeat(times));
}

/// A regression: each request had a connection of its own.
#[test]
fn connections_are_kept_for_the_next_guest_of_the_same_plugin() {
    for guest in GUESTS {
        let (address, count) = counting_upstream(usize::MAX);
        let host = granted(guest, address).start();
        ask_by_way_of(&host, address, 200);
        // The next guest may ask before the last one's connection is free again.
        assert!(count.load(Ordering::SeqCst) <= 20, "{guest}: {count:?} connections");
    }
}

#[test]
fn a_kept_connection_that_its_server_closes_costs_no_request() {
    for guest in GUESTS {
        let (address, count) = counting_upstream(3);
        let host = granted(guest, address).start();
        ask_by_way_of(&host, address, 100);
        assert!(count.load(Ordering::SeqCst) >= 33, "{guest}: {count:?} connections");
    }
}
