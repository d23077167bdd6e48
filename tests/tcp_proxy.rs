//! The plugin `tcp-proxy`: bytes and ends in both directions, and failures of either side.

use crate::harness::{Host, PATIENCE, Setup, Stream, read_line, read_to_end, wait_for};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// A proxy to a granted address.
fn proxy(target: &str, more: &[&str]) -> Host {
    let setup = Setup::serving("tcp-proxy").option("--guest-connect", target).option("--guest-arg", target);
    more.iter().fold(setup, |setup, word| setup.option("--guest-arg", *word)).start()
}

/// A server in the test, and a proxy to it.
fn server() -> (TcpListener, Host) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = proxy(&listener.local_addr().unwrap().to_string(), &[]);
    (listener, host)
}

/// The two ends of one connection through a proxy. Fields drop in this order, so the proxy comes
/// last.
fn connected() -> (Host, Stream, TcpStream) {
    let (listener, host) = server();
    let client = host.connect();
    let server = accept(&listener);
    (host, client, server)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_write_timeout(Some(PATIENCE)).unwrap();
    server
}

fn address(host: &Host) -> String {
    host.addresses[0].tcp().to_string()
}

#[test]
fn an_end_is_passed_on_while_the_other_direction_goes_on() {
    // The client first: the server reads an end, and answers after it.
    let (_host, mut client, mut server) = connected();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut server), b"question");
    server.write_all(b"answer").unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut client), b"answer");

    // The server speaks first.
    let (_host, mut client, mut server) = connected();
    server.write_all(b"greeting").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), b"greeting");
    client.write_all(b"reply").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut server), b"reply");
}

#[test]
fn a_conversation_is_not_delayed() {
    let (_host, mut client, mut server) = connected();
    for number in 0..200 {
        client.write_all(format!("{number}?\n").as_bytes()).unwrap();
        assert_eq!(read_line(&mut server), format!("{number}?\n"));
        server.write_all(format!("{number}!\n").as_bytes()).unwrap();
        assert_eq!(read_line(&mut client), format!("{number}!\n"));
    }
}

#[test]
fn socat_talks_through_it_to_another_host_in_front_of_a_plugin() {
    let hello = Setup::serving("hello").start();
    let host = proxy(&address(&hello), &[]);
    let mut socat = Command::new("socat")
        .args(["-t", "60", "-", &format!("tcp:{}", address(&host))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Without a line ending: `hello` waits for the end of its input.
    socat.stdin.take().unwrap().write_all(b"bob").unwrap();
    assert_eq!(socat.wait_with_output().unwrap().stdout, b"Hello bob!\n");
}

#[test]
fn large_amounts_go_both_ways_at_once() {
    let echo = Setup::serving("echo").start();
    let host = proxy(&address(&echo), &[]);
    let bytes: Vec<u8> = (0..16 * 1024 * 1024_u32).map(|index| (index % 251) as u8).collect();
    let mut client = host.connect();
    let mut sending = client.try_clone().unwrap();
    let sent = bytes.clone();
    let sender = thread::spawn(move || {
        sending.write_all(&sent).unwrap();
        sending.shutdown(Shutdown::Write).unwrap();
    });
    assert!(read_to_end(&mut client) == bytes, "the echo differs from the sent bytes");
    sender.join().unwrap();
}

#[test]
fn a_side_that_does_not_read_holds_back_its_own_peer_only() {
    let (listener, host) = server();
    let mut client = host.connect();
    let mut server = accept(&listener);
    let before = host.status_kib("VmRSS");
    server.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0_usize;
    while let Ok(length) = server.write(&[b'x'; 64 * 1024]) {
        sent += length;
        assert!(sent < 256 * 1024 * 1024, "a client that reads nothing does not hold the server back");
    }
    let grown = host.status_kib("VmRSS").saturating_sub(before);
    assert!(grown < 16 * 1024, "the host holds {grown} KiB for a client that does not read");
    // The other direction is still open.
    client.write_all(b"still here\n").unwrap();
    assert_eq!(read_line(&mut server), "still here\n");
    drop(server);
    let mut got = 0;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        got += length;
    }
    assert_eq!(got, sent);
}

#[test]
fn an_unreachable_upstream_closes_the_client_and_is_logged() {
    // A socket that holds its port and does not listen.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let target = held.local_addr().unwrap().as_socket().unwrap().to_string();
    let refused = proxy(&target, &[]);
    assert_eq!(refused.ask("question"), b"");
    refused.logged(&["reason=error", &format!("cannot connect to {target}: connection refused")]);

    let not_granted = Setup::serving("tcp-proxy").option("--guest-arg", &target).start();
    assert_eq!(not_granted.ask("question"), b"");
    not_granted.logged(&[&format!("cannot connect to {target}: not granted (--guest-connect)")]);

    let no_target = Setup::serving("tcp-proxy").start();
    assert_eq!(no_target.ask("question"), b"");
    no_target.logged(&["no target"]);

    // A listener with a full queue does not answer at all.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let silent = full.local_addr().unwrap().as_socket().unwrap();
    let _queued: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&silent, Duration::from_millis(300)).ok()).collect();
    let timed_out = proxy(&silent.to_string(), &["--connect-timeout=1"]);
    assert_eq!(timed_out.ask("question"), b"");
    timed_out.logged(&[&format!("cannot connect to {silent}: no answer in time")]);
}

#[test]
fn a_reset_ends_the_other_side() {
    // By the server: the bytes that it had sent arrive, then an end.
    let (host, mut client, mut server) = connected();
    server.write_all(b"half\n").unwrap();
    assert_eq!(read_line(&mut client), "half\n");
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut client), b"");
    host.logged(&["reason=error", "the connection to ", " broke: "]);

    // By the client.
    let (host, client, mut server) = connected();
    SockRef::from(client.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(read_to_end(&mut server), b"");
    host.logged(&["reason=peer-reset"]);
}

#[test]
fn an_upstream_that_has_answered_and_gone_has_answered() {
    let (_host, mut client, mut server) = connected();
    client.write_all(b"a question\n").unwrap();
    assert_eq!(read_line(&mut server), "a question\n");
    server.write_all(b"an answer").unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut client), b"an answer");
}

#[test]
fn the_upstream_learns_the_client_and_is_found_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = proxy(&format!("localhost:{port}"), &["--proxy-header"]);
    let mut client = host.connect();
    client.write_all(b"question\n").unwrap();
    let mut server = accept(&listener);
    let (from, to) = (client.tcp().local_addr().unwrap(), client.tcp().peer_addr().unwrap());
    let header = format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
    assert_eq!(read_line(&mut server), header);
    assert_eq!(read_line(&mut server), "question\n");

    // Another host accepts its header.
    let facts = Setup::serving("facts").option("--proxy-protocol", "127.0.0.1").start();
    let host = proxy(&address(&facts), &["--proxy-header"]);
    let mut client = host.connect();
    let mine = client.tcp().local_addr().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let said = String::from_utf8(read_to_end(&mut client)).unwrap();
    assert!(said.contains(&format!("tcp://{mine}")), "{said}");
}

#[test]
fn proxied_connections_outlive_a_restart() {
    let echo = Setup::serving("echo").start();
    let target = address(&echo);
    let setup = Setup::serving("tcp-proxy").option("--guest-connect", &target).option("--guest-arg", &target);
    let service = crate::service::Service::start(setup.option("--rollback-window", "50ms"));
    let mut old = service.host.connect();
    old.write_all(b"before\n").unwrap();
    assert_eq!(read_line(&mut old), "before\n");
    service.restart();
    old.write_all(b"after\n").unwrap();
    assert_eq!(read_line(&mut old), "after\n");
    assert_eq!(service.host.ask("new"), b"new");
    old.shutdown(Shutdown::Write).unwrap();
    wait_for("the end", || (read_to_end(&mut old).is_empty()).then_some(()));
}
