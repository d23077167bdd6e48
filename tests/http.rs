//! HTTP from the client's side: versions, kept connections, bodies, trailers, rejected requests.

use crate::harness::{Address, Host, Setup, Stream, Transport, directory, read_to_end};
use std::{
    fs,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The versions, as options of curl for a plain connection.
pub const VERSIONS: [(&str, &str); 2] = [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")];

/// The same for several requests on one connection: the curl of Debian 12 cannot reuse a plain
/// HTTP/2 connection.
pub const KEPT: [(Transport, &str); 2] = [(Transport::Tcp, "--http1.1"), (Transport::Tls, "--http2")];

/// The result of a run of curl.
#[derive(Debug)]
#[expect(dead_code, reason = "shown by a test that fails")]
pub struct Curl {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Curl {
    /// Its output, where that is the content.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

/// Runs curl for each of the paths, one after the other.
pub fn curl(host: &Host, flags: &[&str], paths: &[&str]) -> Curl {
    curl_at(host.addresses[0], flags, paths)
}

pub fn curl_at(address: Address, flags: &[&str], paths: &[&str]) -> Curl {
    let output = command(address, flags, paths).output().unwrap();
    Curl {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn command(address: Address, flags: &[&str], paths: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "60"]).args(flags);
    let base = match address {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Tls(address) => format!("https://localhost:{}", address.port()),
        Address::Unix(path) => {
            command.arg("--unix-socket").arg(path);
            "http://localhost".to_owned()
        }
    };
    command.args(paths.iter().map(|path| format!("{base}{path}")));
    command
}

/// A curl that waits for a response, and leaves when it is dropped. A time limit of curl's own may
/// pass before it has connected.
pub struct Waiting(Child);

impl Waiting {
    pub fn new(host: &Host, flags: &[&str], path: &str) -> Self {
        let mut command = command(host.addresses[0], flags, &[path]);
        Self(command.arg("--no-buffer").stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for the beginning of the response's body.
    pub fn read_some(&mut self) {
        assert_ne!(self.0.stdout.as_mut().unwrap().read(&mut [0; 64]).unwrap(), 0);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A response's head, as it came, and its body, where the head gives its length.
pub fn response(stream: &mut Stream) -> (String, String) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "an end after {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let mut body = Vec::new();
    if let Some((_, rest)) = head.split_once("content-length: ") {
        body = vec![0; rest.lines().next().unwrap().parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
    } else if head.contains("transfer-encoding: chunked") {
        while !(body.ends_with(b"\r\n0\r\n\r\n") || body == b"0\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "an end after {:?}", String::from_utf8_lossy(&body));
            body.push(byte[0]);
        }
    }
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn a_request_is_answered_over_each_transport_in_each_version() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "http-wasi");
        let versions = match transport {
            // ALPN decides; the operator sets nothing.
            Transport::Tls => [("--http1.1", "1.1"), ("--http2", "2")],
            _ => VERSIONS,
        };
        for (flag, version) in versions {
            let answer = curl(&host, &[flag, "--write-out", "%{http_version} %{http_code}"], &["/"]).ok();
            assert_eq!(answer, format!("hello\n{version} 200"), "{transport:?}");
        }
        let old = curl(&host, &["--http1.0"], &["/"]).ok();
        assert_eq!(old, "hello\n");
    }
}

#[test]
fn the_first_bytes_select_the_version_in_any_pieces() {
    let host = Host::serving("http-wasi");
    let mut stream = host.connect();
    for piece in [&b"P"[..], b"RI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        stream.write_all(piece).unwrap();
    }
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "the host's settings: {frame:?}");
    drop(stream);
    // Begins like the other version.
    let answer = host.ask("PUT / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert!(answer.ends_with(b"hello\n\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn each_request_on_a_connection_has_a_guest_of_its_own() {
    for (transport, version) in KEPT {
        let host = Host::serving_over(transport, "http-wasi");
        let answer = curl(&host, &[version, "--write-out", "%{num_connects} "], &["/count", "/count", "/count"]).ok();
        assert_eq!(answer, "1\n1 1\n0 1\n0 ", "{version}");
    }
}

#[test]
fn requests_that_are_sent_together_are_answered_in_their_order() {
    let host = Host::serving("http-wasi");
    let mut stream = host.connect();
    let ask = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n");
    let all = ask("/sized?3", "") + &ask("/count", "") + &ask("/sized?5", "connection: close\r\n");
    stream.write_all(all.as_bytes()).unwrap();
    assert_eq!(response(&mut stream).1, "xxx");
    assert_eq!(response(&mut stream).1, "2\r\n1\n\r\n0\r\n\r\n");
    assert_eq!(response(&mut stream).1, "xxxxx");
    assert_eq!(read_to_end(&mut stream), b"");
}

#[test]
fn large_bodies_pass_both_ways_at_once() {
    let files = directory();
    let (sent, received) = (files.path().join("sent"), files.path().join("received"));
    fs::write(&sent, (0..8_u32 << 20).map(|index| (index / 7) as u8).collect::<Vec<_>>()).unwrap();
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "http-wasi");
        let second = if transport == Transport::Tls { "--http2" } else { "--http2-prior-knowledge" };
        for version in ["--http1.1", second] {
            let flags = [version, "--upload-file", sent.to_str().unwrap(), "--output", received.to_str().unwrap()];
            curl(&host, &flags, &["/echo"]).ok();
            assert!(fs::read(&sent).unwrap() == fs::read(&received).unwrap(), "{transport:?} {version}");
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_held_back() {
    let host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let chunk = [&b"10000\r\n"[..], &[b'x'; 64 << 10], b"\r\n"].concat();
    let taken = (0..4096).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(taken < 1024, "{taken} chunks were taken of a client that reads nothing");
    assert!(host.status_kib("VmRSS") < 400 << 10);
}

#[test]
fn trailers_pass_both_ways() {
    let host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream
        .write_all(
            b"POST /echo HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\
              connection: close, te\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n",
        )
        .unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream)).unwrap().to_ascii_lowercase();
    assert!(answer.contains("3\r\nabc\r\n"), "{answer}");
    assert!(answer.contains("x-sum: 6\r\n") && answer.contains("x-echoed: yes\r\n"), "{answer}");
    // HTTP/2 trailers need no announcement.
    let answer = curl(&host, &["--http2-prior-knowledge", "--include", "--data", "abc"], &["/echo"]).ok();
    assert!(answer.contains("abc") && answer.contains("x-echoed: yes"), "{answer}");
}

#[test]
fn head_and_no_content_have_no_body_and_keep_the_connection() {
    for (transport, version) in KEPT {
        let host = Host::serving_over(transport, "http-wasi");
        let answer = curl(&host, &[version, "--head"], &["/sized?5", "/sized?5"]).ok();
        assert!(answer.matches("content-length: 5\r\n").count() == 2 && answer.ends_with("\r\n\r\n"), "{answer}");
        let answer =
            curl(&host, &[version, "--write-out", "%{http_code} %{num_connects} "], &["/no-content", "/"]).ok();
        assert_eq!(answer, "204 1 hello\n200 0 ", "{version}");
    }
}

#[test]
fn continue_is_sent_when_the_guest_reads_the_body() {
    let host = Host::serving("http-wasi");
    let expect = |path| format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    let mut wanted = host.connect();
    wanted.write_all(expect("/length").as_bytes()).unwrap();
    assert!(response(&mut wanted).0.starts_with("http/1.1 100 continue"));
    wanted.write_all(b"body").unwrap();
    assert!(response(&mut wanted).1.contains("4\n"));
    let mut unwanted = host.connect();
    unwanted.write_all(expect("/sized?2").as_bytes()).unwrap();
    let (head, body) = response(&mut unwanted);
    assert!(head.starts_with("http/1.1 200") && body == "xx", "{head}");
}

#[test]
fn upgrades_are_ignored_and_tunnels_rejected() {
    let host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
              sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    assert!(response(&mut stream).0.starts_with("http/1.1 200"));
    stream.write_all(b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n").unwrap();
    assert!(response(&mut stream).0.starts_with("http/1.1 501"));
    // Clients do without an upgrade of a plain connection to HTTP/2.
    assert_eq!(curl(&host, &["--http2", "--write-out", "%{http_version}"], &["/"]).ok(), "hello\n1.1");
}

#[test]
fn malformed_requests_are_rejected_without_a_guest() {
    let host = Host::serving("http-wasi");
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(40 << 10));
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{large}\r\n"), "431"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "200"),
    ] {
        let answer = String::from_utf8(host.ask(&request)).unwrap();
        let end = request.len().min(80);
        assert!(answer.split(' ').nth(1) == Some(status), "{answer:?} for {:?}", &request[..end]);
    }
    let refused = curl(&host, &["--http2-prior-knowledge", "--header", large.trim_end()], &["/"]);
    assert!(refused.code != 0 || !refused.out.contains("hello"), "{refused:?}");
    let log = host.whole_log();
    assert!(!log.contains("WARN"), "a client must not cause a warning: {log}");
}

#[test]
fn a_guest_sees_the_request_and_its_peer() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "http-wasi");
        let about = curl(&host, &["--header", "host: example.org:81", "--header", "x-a: b"], &["/about?c=d"]).ok();
        let scheme = if transport == Transport::Tls { "Https" } else { "Http" };
        for line in [
            "method Method::Get",
            &format!("scheme Some(Scheme::{scheme})"),
            "authority Some(\"example.org:81\")",
            "path Some(\"/about?c=d\")",
            "x-a: b",
        ] {
            assert!(about.lines().any(|other| other == line), "{line} is missing in {about}");
        }
    }
}

#[test]
fn half_a_connection_is_enough_for_an_answer() {
    for transport in Transport::ALL {
        let host = Setup::serving_over(transport, "http-wasi").start();
        let answer = host.ask("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
        assert!(String::from_utf8_lossy(&answer).contains("3\n"), "{}", String::from_utf8_lossy(&answer));
    }
}
