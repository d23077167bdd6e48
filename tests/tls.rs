//! TLS from the client's side: versions, keys, names, protocols, the handshake, and the end.

use crate::{
    certificates::{self, Validity, trusted},
    connections::drop_ends_without_bytes,
    harness::{Host, Load, Setup, Stream, Transport, directory, read_to_end, wait_for},
    openssl::Client,
    secure::{self, Secure},
    service::{Service, generation},
};
use nix::sys::signal::Signal;
use rustls::ClientConnection;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    process::Command,
    time::Duration,
};

fn setup(name: &str) -> Setup {
    Setup::serving_over(Transport::Tls, name)
}

#[test]
fn both_versions_are_spoken_and_older_ones_are_not() {
    let host = setup("hello").start();
    for version in ["-tls1_2", "-tls1_3"] {
        Client::to(&host).flag(version).ask("bob\n").shows("Hello bob!");
    }
    for version in ["-tls1", "-tls1_1"] {
        let old = Client::to(&host).flag(version).option("-cipher", "ALL:@SECLEVEL=0");
        old.ask("bob\n").shows("SSL alert number").lacks("Hello").lacks("New, TLS");
    }
    let log = host.whole_log();
    assert!(!log.contains("WARN"), "a client must not cause a warning: {log}");
}

#[test]
fn the_oldest_version_can_be_raised() {
    let host = setup("hello").environment("TLS_VERSION", "TLSv1_3").start();
    Client::to(&host).flag("-tls1_3").ask("bob\n").shows("Hello bob!");
    Client::to(&host).flag("-tls1_2").ask("bob\n").shows("alert protocol version").lacks("Hello");
}

#[test]
fn curl_is_answered_and_accepts_the_certificate() {
    let files = directory();
    let authority = certificates::write(&files.path().join("authority.pem"), &trusted().certificate());
    let host = setup("hello").start();
    let port = host.addresses[0].tcp().port();
    let answer = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--http0.9",
            "--resolve",
            &format!("localhost:{port}:127.0.0.1"),
            "--cacert",
        ])
        .arg(authority)
        .arg(format!("https://localhost:{port}/"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "Hello GET / HTTP/1.1!\n", "{answer:?}");
}

/// Every usual kind of key. The host chooses a certificate that fits the name and the client's
/// algorithms, or the name, or neither.
#[test]
fn certificates_are_chosen_by_name_and_by_the_clients_algorithms() {
    let files = directory();
    let mut setup = Setup::serving("hello");
    for (name, names, kind) in [
        ("first", &["first.test"][..], &rcgen::PKCS_ECDSA_P256_SHA256),
        ("rsa", &["both.test", "*.wild.test"], &rcgen::PKCS_RSA_SHA256),
        ("ecdsa", &["both.test"], &rcgen::PKCS_ECDSA_P384_SHA384),
        ("p521", &["p521.test"], &rcgen::PKCS_ECDSA_P521_SHA512),
        ("ed25519", &["ed25519.test", "exact.wild.test"], &rcgen::PKCS_ED25519),
    ] {
        let (certificate, key) = trusted().server_with(names, kind, Validity::Now).write(files.path(), name);
        setup = setup.option("--tls-certificate", certificate).option("--tls-key", key);
    }
    let host = setup.start();
    let shown = |name: &str, algorithms: &str| {
        let client = Client::to(&host).option("-sigalgs", algorithms);
        let said = if name.is_empty() { client.flag("-noservername") } else { client.option("-servername", name) }
            .ask("bob\n");
        said.shows("Hello bob!");
        let subject = said.0.lines().find_map(|line| line.strip_prefix("subject=")).unwrap().replace(' ', "");
        let size = said.0.lines().find_map(|line| line.strip_prefix("Peer signature type: ")).unwrap().to_owned();
        (subject, size)
    };
    const ALL: &str =
        "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:ed25519:rsa_pss_rsae_sha256";
    for (name, expected, signature) in [
        ("", "CN=first.test", "ECDSA"),
        ("unknown.test", "CN=first.test", "ECDSA"),
        ("both.test", "CN=both.test", "RSA-PSS"),
        ("BOTH.test", "CN=both.test", "RSA-PSS"),
        ("any.wild.test", "CN=both.test", "RSA-PSS"),
        ("exact.wild.test", "CN=ed25519.test", "ed25519"),
        ("p521.test", "CN=p521.test", "ECDSA"),
        ("ed25519.test", "CN=ed25519.test", "ed25519"),
    ] {
        assert_eq!(shown(name, ALL), (expected.to_owned(), signature.to_owned()), "{name}");
    }
    assert_eq!(shown("both.test", "ecdsa_secp384r1_sha384").1, "ECDSA");
    assert_eq!(shown("both.test", "rsa_pss_rsae_sha256").1, "RSA-PSS");
    // The client supports no algorithm of the certificates for the name: another certificate is
    // better than none.
    assert_eq!(shown("first.test", "rsa_pss_rsae_sha256").0, "CN=both.test");
    Client::to(&host)
        .option("-servername", "rsa.test")
        .option("-sigalgs", "rsa_pkcs1_sha256")
        .flag("-tls1_2")
        .ask("bob\n")
        .shows("Hello bob!");
}

#[test]
fn the_preferred_protocol_is_negotiated_and_an_unknown_one_gets_an_alert() {
    let host = setup("facts").option("--tls-alpn", "h2").option("--tls-alpn", "acme/1").start();
    let client = |protocols: &str| Client::to(&host).option("-alpn", protocols).ask("");
    client("acme/1,h2").shows("ALPN protocol: h2").shows("tls-alpn=6832");
    client("acme/1").shows("tls-alpn=61636d652f31");
    client("http/1.1").shows("alert no application protocol").lacks("tls-alpn");
    Client::to(&host).ask("").shows("tls-alpn=none");
}

#[test]
fn a_guest_can_read_the_facts_of_tls() {
    for name in ["facts", "facts-async"] {
        let host = setup(name).start();
        let modern = Client::to(&host).option("-servername", "LocalHost").ask("");
        modern.shows("tls-version=TLSv1.3").shows("tls-server-name=localhost").shows("tls-peer-certificates=none");
        let older = Client::to(&host).flag("-tls1_2").flag("-noservername").ask("");
        older.shows("tls-version=TLSv1.2").shows("tls-server-name=none").shows("tls-alpn=none");
    }
}

#[test]
fn a_unix_listener_speaks_tls_too() {
    let files = directory();
    let (certificate, key) = certificates::localhost().write(files.path(), "localhost");
    let setup = Setup::serving_over(Transport::Unix, "hello");
    let host = setup.option("--tls-certificate", certificate).option("--tls-key", key).start();
    Client::to(&host).ask("bob\n").shows("Hello bob!").shows("New, TLSv1.3");
}

/// A certificate that no client accepts may be the operator's only one: the host serves it, with a
/// warning.
#[test]
fn an_expired_certificate_is_a_warning() {
    let files = directory();
    let old = trusted().server_with(&["localhost"], &rcgen::PKCS_ED25519, Validity::Past);
    let (certificate, key) = old.write(files.path(), "old");
    let host = Setup::serving("hello").option("--tls-certificate", certificate).option("--tls-key", key).start();
    host.logged(&["WARN", "old.pem", "has expired"]);
    Client::to(&host).ask("bob\n").shows("certificate has expired").shows("Hello bob!");
}

// The beginning

#[test]
fn peers_that_do_not_speak_tls_get_an_alert_and_no_guest() {
    let host = setup("hello").start();
    for garbage in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0; 300], &[0xff; 70_000], &[22, 3, 1, 0, 0, 0]]
    {
        let mut stream = TcpStream::connect(host.addresses[0].tcp()).unwrap();
        stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
        // The host may have closed before all is sent.
        stream.write_all(garbage).ok();
        let answer = read_to_end(&mut stream);
        assert!(answer.is_empty() || answer[0] == 21, "an alert, if anything: {answer:?}");
    }
    host.logged(&["connection failed", "reason=peer-reset", "TLS handshake"]);
    let log = host.whole_log();
    for needle in ["WARN", "ERROR", "connection finished"] {
        assert!(!log.contains(needle), "{log}");
    }
}

#[test]
fn a_handshake_has_its_own_deadline() {
    let host = setup("hello").option("--handshake-timeout", "3s").start();
    let address = host.addresses[0].tcp();
    let mut silent = TcpStream::connect(address).unwrap();
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(&client_hello()[..20]).unwrap();
    // A peer that sends garbage and stays.
    let mut stubborn = TcpStream::connect(address).unwrap();
    stubborn.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    for stream in [&mut silent, &mut slow, &mut stubborn] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
        assert!(rest.len() < 10, "{rest:?}");
    }
    wait_for("two records", || (host.log().matches("not complete within 3s").count() == 2).then_some(()));
    host.logged(&["DEBUG", "reason=idle", "TLS handshake"]);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
}

/// The first message of a client.
fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    let mut connection = ClientConnection::new(secure::configuration(), "localhost".try_into().unwrap()).unwrap();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// A client that has sent half of its first message.
struct Halfway(ClientConnection, TcpStream, Vec<u8>);

impl Halfway {
    fn to(host: &Host) -> Self {
        let mut connection = ClientConnection::new(secure::configuration(), "localhost".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        let mut stream = TcpStream::connect(host.addresses[0].tcp()).unwrap();
        stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
        let rest = hello.split_off(hello.len() / 2);
        stream.write_all(&hello).unwrap();
        Self(connection, stream, rest)
    }

    fn finish(self) -> String {
        let Self(mut connection, mut stream, rest) = self;
        stream.write_all(&rest).unwrap();
        let mut session = rustls::Stream::new(&mut connection, &mut stream);
        session.write_all(b"bob\n").unwrap();
        String::from_utf8(read_to_end(&mut session)).unwrap()
    }
}

/// A regression: handshakes were not counted, and a restart cut them.
#[test]
fn a_handshake_under_way_survives_a_restart_and_a_stop() {
    let patient = setup("hello").option("--rollback-window", "0s").option("--handshake-timeout", "1m");
    let service = Service::start(patient);
    let connections = |count: usize| {
        let mut kept = Vec::new();
        kept.resize_with(count, || Halfway::to(&service.host));
        // A complete connection after them shows that the host has accepted those before it.
        assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
        kept
    };
    let over_restart = connections(4);
    let successor = service.restart();
    assert_eq!(over_restart.into_iter().map(Halfway::finish).collect::<Vec<_>>(), vec!["Hello bob!\n"; 4]);
    let over_stop = connections(4);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(successor.pid), Signal::SIGTERM).unwrap();
    let stopping = service.host.logged(&["/2]", "stopping"]);
    assert_eq!(generation(&stopping).pid, successor.pid);
    assert_eq!(over_stop.into_iter().map(Halfway::finish).collect::<Vec<_>>(), vec!["Hello bob!\n"; 4]);
    service.ends(successor.pid);
}

#[test]
fn restarts_and_reloads_lose_no_tls_request() {
    let service = Service::start(setup("hello").option("--rollback-window", "50ms"));
    let load = Load::start(service.host.addresses[0], 4, "bob\n", "Hello bob!\n");
    for _ in 0..5 {
        service.restart();
        load.goes_on(20);
        service.signal(Signal::SIGHUP);
        load.goes_on(20);
    }
    load.stop();
}

// The end

#[test]
fn an_end_without_close_notify_is_an_error_for_the_guest() {
    for (name, announced, expected) in [
        ("input-end", true, "ok\n"),
        ("input-end", false, "err: "),
        // It greets with its input, and must not greet with a truncated name.
        ("hello", true, "Hello bo!\n"),
        ("hello", false, ""),
    ] {
        let host = setup(name).start();
        let mut stream = host.connect();
        stream.write_all(b"bo").unwrap();
        if announced {
            stream.shutdown(Shutdown::Write).unwrap();
        } else {
            stream.tcp().shutdown(Shutdown::Write).unwrap();
        }
        let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
        assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{name}: {answer:?}");
        if !announced {
            host.logged(&["DEBUG", "connection failed", "reason=peer-reset"]);
        }
    }
}

#[test]
fn altered_tls_records_end_the_connection_with_an_alert() {
    let host = setup("echo").start();
    let mut stream = host.connect();
    stream.write_all(b"as it was").unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    let mut forged = vec![23, 3, 3, 0, 40];
    forged.extend([0x55; 40]);
    (&mut stream.tcp()).write_all(&forged).unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("BadRecordMac") || error.contains("fatal alert"), "{error}");
    host.logged(&["DEBUG", "connection failed", "reason=peer-reset"]);
}

/// A client must not take the output of a guest that failed for a complete reply.
#[test]
fn a_truncated_reply_ends_without_close_notify() {
    for (name, announced) in [("fail", true), ("fail-async", true), ("trap", false)] {
        let host = setup(name).start();
        let mut stream = host.connect();
        stream.write_all(b"bob\n").unwrap();
        let mut answer = String::new();
        let end = stream.read_to_string(&mut answer);
        assert_eq!((answer.as_str(), end.is_ok()), ("partial\n", announced), "{name}");
    }
}

/// They are one packet, like the last bytes and the end without TLS.
#[test]
fn close_notify_and_the_end_come_together() {
    let host = setup("hello").start();
    let together = |_: &u32| {
        let socket = TcpStream::connect(host.addresses[0].tcp()).unwrap();
        drop_ends_without_bytes(&socket);
        let mut client = Secure::over(socket).unwrap();
        client.socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        client.write_all(b"bob\n").unwrap();
        assert_eq!(read_to_end(&mut client), b"Hello bob!\n");
        (&*client.socket).read(&mut [0]).is_ok_and(|count| count == 0)
    };
    assert_eq!((0..20).filter(together).take(5).count(), 5, "fewer than 5 of 20");
}

#[test]
fn small_writes_of_a_guest_share_one_tls_record() {
    let host = setup("moody").start();
    // In TLS 1.2 only records of the application have this type.
    let said = Client::to(&host).flag("-tls1_2").flag("-msg").ask("pieces\n");
    assert_eq!(said.0.matches("piece\n").count(), 100, "{}", said.0);
    let received = said
        .0
        .split("<<<")
        .skip(1)
        .filter(|message| message.lines().nth(1).is_some_and(|bytes| bytes.trim_start().starts_with("17 03 03")));
    // One more for each time that the guest was interrupted.
    let received = received.count();
    assert!((1..20).contains(&received), "{received} records of 100 pieces: {}", said.0);
}

/// After its reply the host sends close_notify, reads what the client still sends, and resets
/// nothing.
#[test]
fn close_notify_is_sent_before_the_socket_closes() {
    let host = setup("hello").start();
    let Stream::Tls(mut client) = host.connect() else { panic!("tls") };
    client.write_all(b"bob\n").unwrap();
    // Fails without close_notify.
    assert_eq!(read_to_end(&mut client), b"Hello bob!\n");
    client.write_all(b"more that is not read").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&*client.socket).read(&mut [0]).unwrap(), 0);
    host.logged(&["connection finished"]);
}
