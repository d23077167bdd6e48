//! Behind a proxy, the proxy's header gives a connection's peer: to the log, the guest, and the
//! rules.

use crate::{
    boot::refused,
    harness::{
        Host, Setup, Stream, Transport, connect_from, directory, own_addresses, read_line, read_to_end, wait_for,
    },
};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

const CLIENT: &str = "203.0.113.7";

/// A host that accepts headers from 127.0.0.1 only.
fn behind_a_proxy(plugin: &str) -> Setup {
    Setup::serving(plugin).option("--proxy-protocol", "127.0.0.1")
}

fn line(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let server = if client.contains(':') { "2001:db8::80" } else { "192.0.2.80" };
    format!("PROXY {family} {client} {server} 54321 443\r\n").into_bytes()
}

/// A header of version 2.
fn binary(command: u8, family: u8, after: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(after.len()).unwrap().to_be_bytes());
    header.extend(after);
    header
}

/// From 203.0.113.7:54321 to 192.0.2.1:443.
const ADDRESSES: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0xd4, 0x31, 0x01, 0xbb];

/// The host's answer to a header and a request in one piece.
fn introduced(host: &Host, header: &[u8], request: &[u8]) -> Vec<u8> {
    let mut stream = host.connect();
    // The host may reject a header, and close, before all is written.
    stream.write_all(&[header, request].concat()).ok();
    stream.shutdown(Shutdown::Write).ok();
    read_to_end(&mut stream)
}

fn fact<'a>(facts: &'a [u8], name: &str) -> &'a str {
    let facts = std::str::from_utf8(facts).unwrap();
    let line = facts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name} in {facts:?}"))
}

#[test]
fn the_guest_sees_the_peer_of_the_header() {
    let mut ipv6 = [0; 36];
    ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ipv6[15] = 7;
    ipv6[31] = 1;
    ipv6[32..].copy_from_slice(&[0xd4, 0x31, 0x01, 0xbb]);
    let mut checked = [&ADDRESSES[..], &[3, 0, 4]].concat();
    checked.extend(0x0f3f_e75f_u32.to_be_bytes());
    let extended = [&ADDRESSES[..], &[4, 0, 3, 0, 0, 0, 0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    let (client, server) = ("tcp://203.0.113.7:54321", "tcp://192.0.2.1:443");
    for plugin in ["facts", "facts-async"] {
        let host = behind_a_proxy(plugin).start();
        for (header, peer, local) in [
            (line(CLIENT), client, "tcp://192.0.2.80:443"),
            (line("2001:db8::7"), "tcp://[2001:db8::7]:54321", "tcp://[2001:db8::80]:443"),
            (line("::ffff:203.0.113.7"), client, "tcp://[2001:db8::80]:443"),
            (binary(0x21, 0x11, &ADDRESSES), client, server),
            (binary(0x21, 0x11, &checked), client, server),
            (binary(0x21, 0x11, &extended), client, server),
            (binary(0x21, 0x21, &ipv6), "tcp://[2001:db8::7]:54321", "tcp://[::1]:443"),
        ] {
            let facts = introduced(&host, &header, b"");
            assert_eq!((fact(&facts, "peer-address"), fact(&facts, "local-address")), (peer, local), "{plugin}");
            assert_eq!(fact(&facts, "listener"), format!("tcp://{}", host.addresses[0].tcp()));
        }
        host.logged(&["connection finished", &format!("peer={client} proxy=tcp://127.0.0.1:")]);
    }
}

#[test]
fn headers_for_the_proxy_itself_and_without_an_address_are_accepted() {
    let host = behind_a_proxy("facts").start();
    let own = format!("tcp://{}", host.addresses[0].tcp());
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
        binary(0x20, 0x00, b""),
        binary(0x20, 0x11, &ADDRESSES),
        binary(0x21, 0x00, b""),
    ] {
        let facts = introduced(&host, &header, b"");
        assert!(fact(&facts, "peer-address").starts_with("tcp://127.0.0.1:"));
        assert_eq!(fact(&facts, "local-address"), own);
    }
    let facts = introduced(&host, &binary(0x21, 0x31, &[b'/'; 216]), b"");
    assert_eq!((fact(&facts, "peer-address"), fact(&facts, "local-address")), ("unix://", own.as_str()));
}

#[test]
fn no_byte_after_a_header_is_lost_in_any_pieces() {
    let host = behind_a_proxy("echo").start();
    let binary = binary(0x21, 0x11, &ADDRESSES);
    for header in [line(CLIENT), binary] {
        let request: Vec<u8> = [&header[..], b"\r\n\0and more"].concat();
        assert_eq!(introduced(&host, &header, &request), request, "a second header is none");
        let mut stream = host.connect();
        stream.tcp().set_nodelay(true).unwrap();
        for byte in header.iter().chain(&request) {
            stream.write_all(&[*byte]).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut stream), request, "a byte at a time");
    }
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut stream = host.connect();
    let mut sender = stream.try_clone().unwrap();
    let sent = [&line(CLIENT), &large[..]].concat();
    let sending = thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    assert!(read_to_end(&mut stream) == large, "4 MB came back otherwise");
    sending.join().unwrap();
}

#[test]
fn a_guest_that_waits_for_input_does_not_see_the_header() {
    let host = behind_a_proxy("hello").start();
    let mut stream = host.connect();
    stream.write_all(&line(CLIENT)).unwrap();
    stream.write_all(b"bob\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n");
    let host = behind_a_proxy("speaks-first").start();
    let mut stream = host.connect();
    stream.write_all(&line(CLIENT)).unwrap();
    assert_eq!(read_line(&mut stream), "ready\n");
}

#[test]
fn the_header_of_a_stranger_is_plain_input() {
    let host = behind_a_proxy("echo").start();
    for header in [line(CLIENT), binary(0x21, 0x11, &ADDRESSES)] {
        let mut stream = connect_from("127.0.0.2", host.addresses[0].tcp());
        stream.write_all(&header).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut stream), header);
    }
    host.logged(&["connection finished", "peer=tcp://127.0.0.2:"]);
    assert!(!host.whole_log().contains(CLIENT));
}

#[test]
fn a_proxy_that_sends_no_header_is_closed_without_an_answer() {
    let host = behind_a_proxy("speaks-first").start();
    for (sent, because) in [
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "the connection begins with something else; is the proxy configured to send a header?",
        ),
        (b"PROXY TCP4 203.0.113.7\r\n".to_vec(), r#"a header of version 1 is malformed: "PROXY TCP4 203.0.113.7""#),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(), "has no CR LF within its 107 bytes"),
        (binary(0x21, 0x12, &ADDRESSES), "address family 0x12"),
        (binary(0x2f, 0x11, &ADDRESSES), "version and command 0x2f"),
        (binary(0x21, 0x11, &[0; 5000]), "is 5016 bytes long; at most 4096 are allowed"),
        (binary(0x21, 0x11, &[&ADDRESSES[..], &[3, 0, 4, 1, 2, 3, 4]].concat()), "has a wrong checksum"),
        (b"PROXY TCP4".to_vec(), "the header is cut off after 10 bytes"),
    ] {
        assert_eq!(introduced(&host, &sent, b""), b"", "{because}");
        host.logged(&["connection refused", "peer=tcp://127.0.0.1:", "because=no PROXY header: ", because]);
    }
    host.logged(&[" WARN ", "is the proxy configured to send a header?"]);
    assert_eq!(host.whole_log().matches(" WARN ").count(), 1, "the log has one warning a minute");
}

#[test]
fn a_health_check_that_only_connects_causes_no_warning() {
    let host = behind_a_proxy("hello").start();
    drop(host.connect());
    host.logged(&["DEBUG", "connection refused", "because=no PROXY header: it sent nothing"]);
    let reset = host.connect();
    socket2::SockRef::from(reset.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(reset);
    host.logged(&["DEBUG", "connection refused", "because=no PROXY header: Connection reset by peer"]);
}

#[test]
fn a_missing_header_times_out() {
    let host = behind_a_proxy("hello").start();
    let began = Instant::now();
    let mut late: Vec<Stream> = [&b""[..], b"PROXY ", &binary(0x21, 0x11, &ADDRESSES)[..20]]
        .iter()
        .map(|beginning| {
            let mut stream = host.connect();
            stream.write_all(beginning).unwrap();
            stream
        })
        .collect();
    late.iter_mut().for_each(|stream| assert_eq!(read_to_end(stream), b""));
    assert!(began.elapsed() >= Duration::from_secs(5));
    wait_for("three records", || (host.log().matches("because=no PROXY header within 5s").count() == 3).then_some(()));

    let host = behind_a_proxy("hello").option("--connection-timeout", "200ms").start();
    assert_eq!(read_to_end(&mut host.connect()), b"");
    host.logged(&["connection refused", "because=no PROXY header within 200ms"]);
}

/// It counts as a connection from the moment that it is accepted.
#[test]
fn a_shutdown_waits_for_a_header_that_is_under_way() {
    let mut host = behind_a_proxy("hello").start();
    let header = line(CLIENT);
    let mut stream = host.connect();
    stream.write_all(&header[..20]).unwrap();
    host.signal(Signal::SIGTERM);
    host.logged(&["listener closed"]);
    stream.write_all(&header[20..]).unwrap();
    stream.write_all(b"bob\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n");
    assert_eq!(host.exit_code(), 0);
}

#[test]
fn the_rules_apply_to_the_peer_of_the_header() {
    let host = behind_a_proxy("hello")
        .option("--allow-network", "203.0.113.0/24,2001:db8::/32")
        .option("--deny-network", "203.0.113.66,::ffff:203.0.113.67/128")
        .start();
    for (client, served) in [
        (CLIENT, true),
        ("203.0.113.66", false),
        ("::ffff:203.0.113.67", false),
        ("::ffff:203.0.113.7", true),
        ("198.51.100.1", false),
        ("2001:db8::1", true),
        ("::1", false),
    ] {
        let answer = introduced(&host, &line(client), b"bob\n");
        assert_eq!(answer, if served { &b"Hello bob!\n"[..] } else { b"" }, "{client}");
    }
    host.logged(&[
        "connection refused",
        "peer=tcp://203.0.113.66:54321 proxy=tcp://127.0.0.1:",
        "because=in --deny-network",
    ]);
    // The proxy's own address is not allowed, so it can connect only for others.
    assert_eq!(introduced(&host, b"PROXY UNKNOWN\r\n", b"bob\n"), b"");
    host.logged(&["connection refused", "peer=tcp://127.0.0.1:", "because=not in --allow-network"]);
    // A peer that is not a proxy is judged by its own address.
    assert_eq!(read_to_end(&mut connect_from("127.0.0.2", host.addresses[0].tcp())), b"");
}

#[test]
fn a_denied_proxy_is_rejected() {
    let host =
        Setup::serving("hello").option("--proxy-protocol", "127.0.0.0/8").option("--deny-network", "127.0.0.1").start();
    assert_eq!(introduced(&host, &line(CLIENT), b"bob\n"), b"");
    host.logged(&["connection refused", "peer=tcp://127.0.0.1:", "because=in --deny-network"]);
    assert!(!host.whole_log().contains(CLIENT));
}

/// A connection of `client` to `speaks-first`, if the host serves it.
fn served(host: &Host, header: &[u8]) -> Option<Stream> {
    let mut stream = host.connect();
    stream.write_all(header).unwrap();
    (read_line(&mut stream) == "ready\n").then_some(stream)
}

#[test]
fn connections_are_counted_for_the_peer_of_the_header() {
    let host = behind_a_proxy("speaks-first").option("--max-connections-per-ip", "1").start();
    let open: Vec<_> = ["203.0.113.1", "203.0.113.2", "2001:db8:0:1::1", "2001:db8:0:2::1"]
        .iter()
        .map(|client| served(&host, &line(client)).unwrap())
        .collect();
    for client in ["203.0.113.1", "::ffff:203.0.113.2", "2001:db8:0:1:ffff::2"] {
        assert!(served(&host, &line(client)).is_none(), "{client} has one already");
    }
    // The proxy itself has no limit, and neither do clients without a known address.
    let own: Vec<_> = (0..3).map(|_| served(&host, b"PROXY UNKNOWN\r\n").unwrap()).collect();
    let unix: Vec<_> = (0..3).map(|_| served(&host, &binary(0x21, 0x31, &[0; 216])).unwrap()).collect();
    let mut stranger = connect_from("127.0.0.2", host.addresses[0].tcp());
    assert_eq!(read_line(&mut stranger), "ready\n");
    drop((open, own, unix, stranger));
}

#[test]
fn a_proxy_may_be_at_a_unix_listener() {
    let host = Setup::serving_over(Transport::Unix, "facts")
        .option("--proxy-protocol", "unix")
        .option("--deny-network", "203.0.113.66")
        .start();
    let facts = introduced(&host, &line(CLIENT), b"");
    assert_eq!(fact(&facts, "peer-address"), "tcp://203.0.113.7:54321");
    assert_eq!(introduced(&host, &line("203.0.113.66"), b""), b"");
    assert_eq!(fact(&introduced(&host, b"PROXY UNKNOWN\r\n", b""), "peer-address"), "unix://");
    // Without the option's value, no peer there is a proxy.
    let host = Setup::serving_over(Transport::Unix, "echo").option("--proxy-protocol", "0.0.0.0/0,::/0").start();
    assert_eq!(introduced(&host, &line(CLIENT), b"x"), [&line(CLIENT)[..], b"x"].concat());
}

#[test]
fn invalid_proxies_are_rejected_at_boot() {
    for (value, needle) in [
        ("", "is not a network"),
        (",", "\"\" is not a network"),
        ("unix,", "\"\" is not a network"),
        ("10.0.0.5/8", "write 10.0.0.0/8"),
        ("Unix", "is not a network"),
    ] {
        let needles = ["--proxy-protocol", &format!("{value:?}"), needle];
        refused(&Setup::serving("hello").argument(format!("--proxy-protocol={value}")), &needles);
    }
    refused(
        &Setup::serving("hello").option("--proxy-protocol", "10.0.0.5").option("--deny-network", "10.0.0.0/8"),
        &["--proxy-protocol \"10.0.0.5/32\"", "is in --deny-network, which wins"],
    );
}

#[test]
fn curl_speaks_it() {
    let host = behind_a_proxy("facts").start();
    let curl = Command::new("curl")
        .args(["--silent", "--http0.9", "--haproxy-protocol", "--noproxy", "*"])
        .arg(format!("http://{}/", host.addresses[0].tcp()))
        .output();
    let Ok(output) = curl else {
        crate::harness::skip("curl is not installed");
        return;
    };
    // curl has an answer, and may complain that the connection ended while it still had to send.
    let peer = fact(&output.stdout, "peer-address");
    let record = host.logged(&["connection finished", &format!("peer={peer} proxy={peer}")]);
    assert_eq!(fact(&output.stdout, "local-address"), format!("tcp://{}", host.addresses[0].tcp()), "{record}");
}

/// A process that ends with its test.
struct UntilDropped(Child);

impl Drop for UntilDropped {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// HAProxy between a client and the host, with either version, a checksum, and health checks of its
/// own.
#[test]
fn haproxy_speaks_it() {
    let host = behind_a_proxy("facts").start();
    let dir = directory();
    let mut text = "defaults\n mode tcp\n timeout connect 20s\n timeout client 20s\n timeout server 20s\n".to_owned();
    let fronts: [_; 2] = own_addresses();
    for (front, options) in fronts.iter().zip(["send-proxy", "send-proxy-v2 proxy-v2-options crc32c"]) {
        let host = host.addresses[0].tcp();
        let server = format!(" server host {host} check inter 100 check-send-proxy {options}\n");
        text.extend([&format!("listen front-{}\n bind {front}\n", front.port()), &server].map(String::as_str));
    }
    let config = dir.path().join("haproxy.cfg");
    fs::write(&config, text).unwrap();
    let Ok(haproxy) = Command::new("haproxy").arg("-db").arg("-q").arg("-f").arg(&config).spawn() else {
        crate::harness::skip("haproxy is not installed");
        return;
    };
    let _haproxy = UntilDropped(haproxy);
    for front in fronts {
        let mut stream = wait_for("haproxy", || TcpStream::connect(front).ok());
        let mut facts = Vec::new();
        stream.read_to_end(&mut facts).unwrap();
        assert_eq!(fact(&facts, "peer-address"), format!("tcp://{}", stream.local_addr().unwrap()));
        assert_eq!(fact(&facts, "local-address"), format!("tcp://{front}"));
    }
    // Its health checks are its own connections.
    wait_for("a health check", || {
        let log = host.log();
        let own = |line: &str| line.contains("connection f") && !line.contains("proxy=");
        log.lines().any(own).then_some(())
    });
    assert!(!host.log().contains("WARN"), "{}", host.log());
}
