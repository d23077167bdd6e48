//! Signals: open connections finish, queued ones are served, hung ones are closed at the deadline,
//! and no load starves a signal.

use crate::{
    harness::{Address, Host, PATIENCE, Setup, Transport, connect, plugin, read_line, read_to_end, wait_for},
    operator::Operated,
};
use nix::sys::signal::Signal;
use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

#[test]
fn term_and_int_let_connections_finish() {
    for (transport, signal) in [
        (Transport::Tcp, Signal::SIGTERM),
        (Transport::Tcp, Signal::SIGINT),
        (Transport::Unix, Signal::SIGTERM),
        (Transport::Unix, Signal::SIGINT),
        (Transport::Tls, Signal::SIGTERM),
    ] {
        let mut host = Host::serving_over(transport, "speaks-first");
        let mut stream = host.connect();
        assert_eq!(read_line(&mut stream), "ready\n");
        host.signal(signal);
        host.logged(&["listener closed"]);
        assert!(host.addresses[0].try_connect().is_err(), "the listener is closed");
        if let Address::Unix(path) = host.addresses[0] {
            assert!(!path.exists(), "its path is removed");
        }
        stream.write_all(b"still here\n").unwrap();
        assert_eq!(read_to_end(&mut stream), b"you said: still here\n");
        assert_eq!(host.exit_code(), 0);
    }
}

#[test]
fn an_idle_host_ends_at_once() {
    let mut host = Host::serving("hello");
    let began = Instant::now();
    assert_eq!(host.terminate(), 0);
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_second_signal_closes_open_connections() {
    let mut host = Host::serving("speaks-first");
    let mut stream = host.connect();
    assert_eq!(read_line(&mut stream), "ready\n");
    host.signal(Signal::SIGTERM);
    host.logged(&["stopping"]);
    assert_eq!(host.terminate(), 1);
    host.logged(&["connection failed", "reason=drain"]);
}

#[test]
fn the_drain_timeout_closes_connections_and_is_logged() {
    let mut host = Setup::serving("speaks-first").option("--drain-timeout", "300ms").start();
    let mut stream = host.connect();
    assert_eq!(read_line(&mut stream), "ready\n");
    assert_eq!(host.terminate(), 1);
    host.logged(&["drain timed out", "open=1"]);
    host.logged(&["connection failed", "reason=drain"]);
}

#[test]
fn queued_connections_at_the_cap_are_served_before_the_end() {
    Transport::PLAIN.into_iter().for_each(serves_what_is_queued_at_the_cap);
}

fn serves_what_is_queued_at_the_cap(transport: Transport) {
    let mut host = Setup::serving_over(transport, "speaks-first").option("--max-connections", "1").start();
    let mut first = host.connect();
    assert_eq!(read_line(&mut first), "ready\n");
    // These have connected, and wait in the kernel's queue.
    let queued: Vec<_> = (0..10).map(|_| host.connect()).collect();
    host.signal(Signal::SIGTERM);
    host.logged(&["stopping"]);
    first.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut first), b"you said: bye\n");
    drop(first);
    for mut stream in queued {
        assert_eq!(read_line(&mut stream), "ready\n");
        stream.write_all(b"bye\n").unwrap();
        assert_eq!(read_to_end(&mut stream), b"you said: bye\n");
    }
    assert_eq!(host.exit_code(), 0);
}

#[test]
fn connections_still_queued_at_the_deadline_are_counted() {
    for transport in Transport::PLAIN {
        let setup = Setup::serving_over(transport, "speaks-first").option("--max-connections", "1");
        let mut host = setup.option("--drain-timeout", "500ms").start();
        let mut first = host.connect();
        assert_eq!(read_line(&mut first), "ready\n");
        let _queued: Vec<_> = (0..5).map(|_| host.connect()).collect();
        assert_eq!(host.terminate(), 1);
        host.logged(&["open=1", "queued=5"]);
    }
}

#[test]
fn a_signal_acts_at_once_under_load_and_no_client_fails() {
    let mut host = Host::serving("hello");
    let address = host.addresses[0].tcp();
    // Each client goes on until it cannot connect; a connected client must be answered.
    let clients: Vec<_> = (0..64)
        .map(|_| {
            thread::spawn(move || {
                let mut answered = 0;
                while let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(b"bob\n").unwrap();
                    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    wait_for("a load", || (host.log().matches("connection finished").count() > 200).then_some(()));
    assert_eq!(host.terminate(), 0);
    let answered: u64 =
        clients.into_iter().map(|client| client.join().expect("every client that connected is answered")).sum();
    assert!(answered > 200);
}

#[test]
fn a_signal_acts_at_once_beside_guests_that_loop() {
    let mut host = Setup::serving("loop").option("--guest-cpu-time", "1h").start();
    let _looping: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = host.connect();
            stream.write_all(b"x\n").unwrap();
            stream
        })
        .collect();
    host.signal(Signal::SIGTERM);
    host.logged(&["stopping"]);
    host.logged(&["listener closed"]);
    assert_eq!(host.terminate(), 1);
}

#[test]
fn signals_during_the_start_are_obeyed() {
    // An empty cache, and a plugin that takes a while to compile.
    let dir = crate::harness::directory();
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0)] {
        let mut host = Setup::bare()
            .option("--plugin", plugin("hello"))
            .option("--bind", "tcp://127.0.0.1:0")
            .option("--cache-dir", dir.path())
            .spawn();
        // As soon as the process has its handlers. It may have started by then, which is correct
        // too.
        wait_for("signal handlers", || handles(host.pid(), signal).then_some(()));
        host.signal(Signal::SIGUSR1);
        host.signal(Signal::SIGHUP);
        host.signal(signal);
        assert_eq!(host.exit_code(), code);
    }
}

/// Whether a process has a handler for a signal, by its status file.
pub fn handles(pid: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (signal as i32 - 1)) != 0)
}

#[test]
fn a_peer_that_floods_after_its_reply_does_not_delay_the_stop() {
    let mut host = Setup::serving("hello").option("--drain-timeout", "1s").start();
    let mut stream = connect(host.addresses[0]);
    stream.write_all(b"bob\n").unwrap();
    let mut writer = stream.try_clone().unwrap();
    let flooding = thread::spawn(move || while writer.write_all(&[b'x'; 65536]).is_ok() {});
    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n");
    // It has its answer, but has not closed: only the deadline ends it.
    assert_eq!(host.terminate(), 1);
    flooding.join().unwrap();
}

#[test]
fn a_host_that_stops_reports_how_many_connections_are_open() {
    let operated = Operated::start(Setup::serving("echo").option("--max-connections", "50"));
    let client = operated.service.host.connect();
    wait_for("a connection", || (operated.operator.status()["connections"]["accepted"] == 1).then_some(()));
    operated.service.host.signal(Signal::SIGTERM);
    let status = operated.operator.reaches("stopping");
    assert_eq!((&status["connections"]["open"], &status["connections"]["most"]), (&1.into(), &50.into()));
    assert!((operated.operator.metric("uninterruptible_connections_open") - 1.0).abs() < f64::EPSILON);
    drop(client);
    let mut operated = operated;
    assert_eq!(operated.service.host.exit_code(), 0);
}
