//! Restrictions on clients: networks, and the number of connections of an address.

use crate::{
    boot::refused,
    harness::{Host, Load, Setup, Stream, Transport, connect, connect_from, read_line, read_to_end, wait_for},
};
use nix::sys::signal::Signal;
use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

/// The answer to a client that connects from `source` and asks `hello`; empty if it is rejected. A
/// reset fails the test.
fn ask_from(source: &str, host: &Host) -> Vec<u8> {
    let mut stream = connect_from(source, host.addresses[0].tcp());
    // The host may have closed a rejected connection before it asks.
    stream.write_all(b"bob\n").ok();
    read_to_end(&mut stream)
}

#[test]
fn only_allowed_networks_that_are_not_denied_are_served() {
    let host = Setup::serving("hello")
        .option("--allow-network", "127.0.0.0/30")
        .option("--allow-network", "127.0.1.0/24,127.0.2.1")
        .option("--deny-network", "127.0.0.2")
        .option("--deny-network", "127.0.1.128/25")
        .start();
    for (source, served) in [
        ("127.0.0.1", true),
        ("127.0.0.2", false),
        ("127.0.0.3", true),
        ("127.0.0.4", false),
        ("127.0.1.127", true),
        ("127.0.1.128", false),
        ("127.0.2.1", true),
        ("127.0.2.2", false),
    ] {
        let answer = ask_from(source, &host);
        assert_eq!(answer, if served { &b"Hello bob!\n"[..] } else { b"" }, "{source}");
    }
    host.logged(&["DEBUG", "connection refused", "peer=tcp://127.0.0.2:", "because=in --deny-network"]);
    host.logged(&["DEBUG", "connection refused", "peer=tcp://127.0.0.4:", "because=not in --allow-network"]);
    wait_for("a record of each", || (host.log().matches(" connection=").count() == 8).then_some(()));
    let log = host.whole_log();
    assert_eq!(log.matches("connection refused").count(), 4, "and no other record of a peer that is refused");
    assert!(!log.contains("WARN"), "a peer must not cause a warning");
}

#[test]
fn a_peer_is_rejected_before_any_guest_exists() {
    let host = Setup::serving("speaks-first").option("--deny-network", "127.0.0.2").start();
    assert_eq!(read_line(&mut connect_from("127.0.0.1", host.addresses[0].tcp())), "ready\n");
    assert_eq!(read_to_end(&mut connect_from("127.0.0.2", host.addresses[0].tcp())), b"");
}

#[test]
fn a_rejected_peer_sees_a_clean_close_and_no_reset() {
    let host = Setup::serving("hello").option("--deny-network", "127.0.0.2").start();
    // Their requests are queued before the host accepts them.
    host.signal(Signal::SIGSTOP);
    wait_for("a host that is stopped", || host.is_stopped().then_some(()));
    let early: Vec<_> = (1..=8)
        .map(|count| {
            let mut stream = connect_from("127.0.0.2", host.addresses[0].tcp());
            // More than the host discards, at last: then a reset follows, but after the end.
            stream.write_all(&vec![b'x'; count * 10_000]).unwrap();
            stream
        })
        .collect();
    host.signal(Signal::SIGCONT);
    early.into_iter().for_each(|mut stream| assert_eq!(read_to_end(&mut stream), b""));
    // And while it drains.
    (0..50).for_each(|_| assert_eq!(ask_from("127.0.0.2", &host), b""));
}

#[test]
fn an_ipv4_peer_of_an_ipv6_listener_is_an_ipv4_peer() {
    let host =
        Setup::serving("hello").option("--bind", "tcp://[::]:0").option("--allow-network", "127.0.0.0/8").start();
    let port = host.addresses[1].tcp().port();
    let ask = |address: SocketAddr| {
        let mut stream = connect(address);
        stream.write_all(b"bob\n").ok();
        read_to_end(&mut stream)
    };
    assert_eq!(ask((Ipv4Addr::LOCALHOST, port).into()), b"Hello bob!\n");
    assert_eq!(ask((Ipv6Addr::LOCALHOST, port).into()), b"");
    host.logged(&["connection refused", "peer=tcp://[::1]:"]);
}

#[test]
fn rules_do_not_apply_to_unix_peers() {
    let host = Setup::serving_over(Transport::Unix, "speaks-first")
        .option("--allow-network", "192.0.2.1")
        .option("--deny-network", "0.0.0.0/0,::/0")
        .option("--max-connections-per-ip", "1")
        .start();
    let mut open = [host.connect(), host.connect()];
    open.iter_mut().for_each(|stream| assert_eq!(read_line(stream), "ready\n"));
}

#[test]
fn the_gems_variables_set_the_networks() {
    let setup = || Setup::serving("hello").environment("ALLOWED_NETWORKS", "10.0.0.0/8, 127.0.0.2/32");
    let host = setup().start();
    assert_eq!((ask_from("127.0.0.2", &host), ask_from("127.0.0.1", &host)), (b"Hello bob!\n".to_vec(), vec![]));
    let host = setup().option("--allow-network", "127.0.0.1").start();
    assert_eq!((ask_from("127.0.0.2", &host), ask_from("127.0.0.1", &host)), (vec![], b"Hello bob!\n".to_vec()));
}

#[test]
fn invalid_networks_and_counts_are_rejected_at_boot() {
    for (option, value, remedy) in [
        ("--allow-network", "", "is not a network; write one as in 10.0.0.0/8"),
        ("--allow-network", ",", "\"\" is not a network"),
        ("--allow-network", "10.0.0.1/8", "write 10.0.0.0/8 for the network, or 10.0.0.1 for that host"),
        ("--allow-network", "10.0.0.0/8,localhost", "\"localhost\" is not a network"),
        ("--allow-network", "10.0.0.0/33", "not a number from 0 to 32"),
        ("--deny-network", "2001:db8::1/32", "write 2001:db8::/32"),
        ("--deny-network", "all", "is not a network"),
        ("--max-connections-per-ip", "0", "is not a whole number from 1"),
        ("--max-connections-per-ip", "", "is not a whole number from 1"),
        ("--max-connections-per-ip", "few", "is not a whole number from 1"),
    ] {
        let needles = [option, &format!("{value:?}"), remedy];
        refused(&Setup::serving("hello").argument(format!("{option}={value}")), &needles);
    }
    // A variable that is set to nothing allows no client, rather than all.
    for value in ["", ",", "10.0.0.1/8"] {
        let setup = Setup::serving("hello").environment("ALLOWED_NETWORKS", value);
        refused(&setup, &["--allow-network", &format!("{value:?}")]);
    }
}

/// A connection to `speaks-first`, if the host serves it.
fn served_from(source: &str, host: &Host) -> Option<Stream> {
    let mut stream = connect_from(source, host.addresses[0].tcp());
    (read_line(&mut stream) == "ready\n").then_some(stream)
}

#[test]
fn the_connections_of_an_address_are_limited() {
    let host = Setup::serving("speaks-first").option("--max-connections-per-ip", "2").start();
    // All at once, so that different workers accept them.
    let all: Vec<_> = (0..40).map(|_| connect_from("127.0.0.1", host.addresses[0].tcp())).collect();
    let mut open: Vec<_> =
        all.into_iter().filter_map(|mut stream| (read_line(&mut stream) == "ready\n").then_some(stream)).collect();
    assert_eq!(open.len(), 2);
    assert!(served_from("127.0.0.1", &host).is_none());
    assert!(served_from("127.0.0.2", &host).is_some(), "others have their own");

    // A reload keeps the counts.
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    assert!(served_from("127.0.0.1", &host).is_none());

    let mut first = open.pop().unwrap();
    first.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut first), b"you said: bye\n");
    drop(first);
    open.push(wait_for("a place that was given back", || served_from("127.0.0.1", &host)));

    // The log warns once, and every rejected connection has a record.
    let because = "because=it has 2 connections already, which is --max-connections-per-ip";
    host.logged(&[" INFO ", "connection refused", "peer=tcp://127.0.0.1:", because]);
    wait_for("a record of each", || (host.log().matches(because).count() >= 40).then_some(()));
    let told = host.log().lines().filter(|line| line.contains(because) && line.contains(" INFO ")).count();
    assert!((1..=2).contains(&told), "one in this minute, and one since the reload: {told}");
}

/// Connections that break in any way free their places as well.
#[test]
fn every_connection_frees_its_place() {
    let host = Setup::serving("hello").option("--max-connections-per-ip", "1").option("--idle-timeout", "2s").start();
    let address = host.addresses[0].tcp();
    for round in 0..4 {
        let mut stream = connect_from("127.0.0.1", address);
        match round {
            0 => drop(stream),
            1 => {
                socket2::SockRef::from(stream.tcp()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                drop(stream);
            }
            // It sends nothing, and times out.
            2 => assert_eq!(read_to_end(&mut stream), b""),
            _ => {
                stream.write_all(b"bo").unwrap();
                drop(stream);
            }
        }
        wait_for("its place", || (ask_from("127.0.0.1", &host) == b"Hello bob!\n").then_some(()));
    }
}

#[test]
fn a_flood_of_rejected_peers_does_not_delay_others() {
    let host = Setup::serving("hello").option("--deny-network", "127.0.0.2").without_records_of_connections().start();
    let address = host.addresses[0];
    let before = host.status_kib("VmRSS");
    let load = Load::start(address, 2, "bob\n", "Hello bob!\n");
    let (stop, refused) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(read_to_end(&mut connect_from("127.0.0.2", address.tcp())), b"");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load.goes_on(100);
        wait_for("a flood", || (refused.load(Ordering::Relaxed) >= 1000).then_some(()));
        load.goes_on(100);
        stop.store(true, Ordering::Relaxed);
    });
    load.stop();
    let grown = host.status_kib("VmRSS").saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB for {} peers that were refused", refused.into_inner());
    let log = host.whole_log();
    assert!(!log.contains("WARN") && !log.contains("refused"), "{log}");
}
