//! Requests that guests make: to where they may connect, and nowhere else.

use crate::{
    certificates::{self, trusted},
    harness::{Host, Setup, Transport, directory},
    http::curl,
};

/// The plugins of both generations.
const GUESTS: [&str; 2] = ["http-wasi", "http-async"];

#[test]
fn a_guest_asks_nobody_unless_that_was_granted() {
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
fn what_is_asked_by_https_is_believed_by_the_authorities_of_the_machine() {
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
