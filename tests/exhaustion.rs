//! Exhausted resources: silent connections, slow clients, clients that leave at every point, and
//! errors of accept(2). The host goes on within its bounds, and logs each condition once.

use crate::harness::{Host, Load, PATIENCE, Setup, Stream, Transport, read_line, read_to_end, wait_for};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use socket2::SockRef;
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    ops::RangeInclusive,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

fn reset(stream: Stream) {
    SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// How many descriptors the host has open.
fn descriptors(host: &Host) -> usize {
    fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count()
}

#[test]
fn ten_thousand_silent_connections_cost_little_and_delay_no_other() {
    const SILENT: usize = 10_000;
    // Those of the connections, those of this process's other tests, and a reserve.
    let needed = SILENT as u64 + 2_000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < needed {
        crate::harness::cannot(format!("the descriptor limit is {hard}, and the test needs {needed}"));
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let host = Setup::serving("hello")
        .option("--max-connections", (SILENT + 100).to_string())
        .option("--backlog", "4096")
        .without_records_of_connections()
        .start();
    let descriptors_before = descriptors(&host);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    let before = host.status_kib("VmRSS");

    let silent: Vec<_> = (0..SILENT).map(|_| host.connect()).collect();
    wait_for("all of them", || (descriptors(&host) >= descriptors_before + SILENT).then_some(()));
    let each = (host.status_kib("VmRSS").saturating_sub(before) << 10) / SILENT as u64;
    assert!(each < 8 << 10, "{each} bytes for each connection that says nothing");
    let load = Load::start(host.addresses[0], 2, "bob\n", "Hello bob!\n");
    load.goes_on(100);

    // All leave at once, by a reset.
    silent.into_iter().for_each(reset);
    load.goes_on(100);
    load.stop();
    wait_for("their end", || (descriptors(&host) <= descriptors_before).then_some(()));
    let log = host.whole_log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_slow_client_is_served_until_the_connection_timeout() {
    const SLOW: usize = 300;
    let host = Setup::serving("hello").option("--connection-timeout", "2s").without_records_of_connections().start();
    let load = Load::start(host.addresses[0], 2, "bob\n", "Hello bob!\n");
    let mut slow: Vec<_> = (0..SLOW).map(|_| Some(host.connect())).collect();
    let began = Instant::now();
    let mut sent = 0;
    // A client that is never idle for long, and never done.
    while slow.iter().any(Option::is_some) {
        for stream in &mut slow {
            if stream.as_mut().is_some_and(|stream| stream.write_all(b"x").is_err()) {
                *stream = None;
            }
        }
        sent += 1;
        assert!(began.elapsed() < PATIENCE, "{} of them last for ever", slow.iter().flatten().count());
        crate::harness::pace(Duration::from_millis(100), "slow clients send a byte now and then");
    }
    assert!(began.elapsed() >= Duration::from_secs(1) && sent > 2, "they were served meanwhile");
    load.goes_on(50);
    load.stop();
    host.logged(&["connection failed", "reason=wall-time"]);

    // A connection that ends normally has its answer.
    let mut stream = host.connect();
    stream.tcp().set_nodelay(true).unwrap();
    for byte in b"slow bob\n" {
        stream.write_all(&[*byte]).unwrap();
        crate::harness::pace(Duration::from_millis(20), "a slow client sends byte by byte");
    }
    assert_eq!(read_to_end(&mut stream), b"Hello slow bob!\n");
}

#[test]
fn a_full_host_is_logged_once() {
    let host = Setup::serving("hello").option("--max-connections", "3").start();
    let silent: Vec<_> = (0..3).map(|_| host.connect()).collect();
    let mut waiting: Vec<_> = (0..4).map(|_| host.connect()).collect();
    waiting.iter_mut().for_each(|stream| stream.write_all(b"bob\n").unwrap());
    host.logged(&["WARN", "max-connections reached", "open=3"]);
    drop(silent);
    waiting.iter_mut().for_each(|stream| assert_eq!(read_to_end(stream), b"Hello bob!\n"));
    let log = host.whole_log();
    assert_eq!(log.matches("max-connections reached").count(), 1, "{log}");
}

/// Each point at which a client may leave, for a plugin, by the client's steps before it.
#[test]
fn a_reset_at_any_point_is_one_line_at_debug_level() {
    const EACH: usize = 20;
    let nothing: fn(&mut Stream) = |_| {};
    let half: fn(&mut Stream) = |stream| stream.write_all(b"bo").unwrap();
    let greeted: fn(&mut Stream) = |stream| assert_eq!(read_line(stream), "ready\n");
    let flooded: fn(&mut Stream) = |stream| stream.read_exact(&mut [0; 100]).unwrap();
    let asked: fn(&mut Stream) = |stream| stream.write_all(b"bob\n").unwrap();
    let ended: fn(&mut Stream) = |stream| {
        stream.write_all(b"bob\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    };
    for (plugin, points) in [
        ("hello", &[nothing, half, asked, ended][..]),
        ("speaks-first", &[nothing, greeted, half]),
        ("flood", &[nothing, flooded]),
        ("echo", &[half, ended]),
        ("hello-async", &[nothing, half, ended]),
    ] {
        let host = Host::serving(plugin);
        let before = descriptors(&host);
        for point in points {
            let mut streams: Vec<_> = (0..EACH).map(|_| host.connect()).collect();
            streams.iter_mut().for_each(point);
            streams.into_iter().for_each(reset);
        }
        // And before the host has accepted them.
        host.signal(Signal::SIGSTOP);
        wait_for("a host that is stopped", || host.is_stopped().then_some(()));
        (0..EACH).map(|_| host.connect()).collect::<Vec<_>>().into_iter().for_each(reset);
        host.signal(Signal::SIGCONT);
        let all = (points.len() + 1) * EACH;
        wait_for("a record of each", || (records(&host.log()) >= all).then_some(()));
        wait_for("their descriptors", || (descriptors(&host) <= before).then_some(()));
        let log = host.whole_log();
        assert_eq!(records(&log), all, "{plugin}: one each");
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{plugin}: {log}");
    }
}

/// The records of connections so far.
fn records(log: &str) -> usize {
    log.lines().filter(|line| line.contains("connection f") || line.contains("gone before accept")).count()
}

/// A host for which that many calls of one kind fail; `None` where strace cannot inject the error.
fn failing(plugin: &str, call: &str, error: &str, calls: RangeInclusive<u32>) -> Option<Host> {
    let inject = format!("inject={call}:error={error}:when={}..{}", calls.start(), calls.end());
    let trace = format!("trace={call}");
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let works = Command::new(strace[0]).args(&strace[1..]).arg("true").stderr(Stdio::null()).status();
    if !works.is_ok_and(|status| status.success()) {
        if !crate::harness::skip_unless("strace") {
            crate::harness::cannot(format!("strace cannot make {call} fail"));
        }
        return None;
    }
    // strace counts in each thread: one worker, one count.
    Some(Setup::serving(plugin).option("--workers", "1").by_way_of(strace).start())
}

#[test]
fn temporary_accept_errors_are_logged_once_and_retried() {
    for (error, told) in [
        ("EMFILE", "raise the limit (ulimit -n, or LimitNOFILE=) or lower --max-connections"),
        ("ENFILE", "the whole system is out of descriptors: raise fs.file-max"),
        ("ENOBUFS", "accept failed"),
    ] {
        let Some(host) = failing("hello", "accept4", error, 2..=6) else { return };
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
        let load = Load::start(host.addresses[0], 4, "bob\n", "Hello bob!\n");
        load.goes_on(10);
        load.stop();
        host.logged(&["WARN", "accept failed, retrying", told]);
        assert_eq!(host.whole_log().matches("accept failed").count(), 1, "{error}: one line a burst");
    }
}

#[test]
fn accept_errors_of_one_connection_do_not_pause_the_others() {
    for error in ["ECONNABORTED", "EPROTO", "ENETDOWN", "EINTR"] {
        let Some(host) = failing("hello", "accept4", error, 1..=40) else { return };
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
        host.logged(&["DEBUG", "connection gone before accept"]);
        let log = host.whole_log();
        assert!(!log.contains("WARN"), "{error}: {log}");
    }
}

/// The reactor may have no room for an accepted socket (fs.epoll.max_user_watches).
#[test]
fn unwatchable_connections_do_not_flood_the_log() {
    // The main thread makes fewer calls than that before it serves; the worker makes at most two
    // for a connection.
    let Some(host) = failing("hello", "epoll_ctl", "ENOSPC", 41..=240) else { return };
    let served = |_: &u32| {
        let mut stream = host.connect();
        let mut answer = Vec::new();
        stream.write_all(b"bob\n").is_ok() && stream.read_to_end(&mut answer).is_ok() && answer == b"Hello bob!\n"
    };
    // The host answers a request without waiting where it is already there, and with its end there
    // too it need not wait at all. These connections are more than enough to meet every failure.
    let in_all = (0..1500).filter(served).count();
    assert!(in_all >= 1300, "{in_all} of 1500 were served");
    assert!((0..10).all(|number| served(&number)), "and now all are");
    host.logged(&["ERROR", "connection failed", "reason=host", "No space left on device"]);
    let told = host.log().lines().filter(|line| line.contains("ERROR")).count();
    assert!((100..200).contains(&told), "{told} of 200 failures are logged as errors");
}

/// A peer that does not read, and a reactor without room for its socket.
#[test]
fn unwatchable_output_ends_only_its_connection() {
    // More than the kernel buffers for a client that does not read and whose window does not grow.
    const MUCH: u64 = 16 << 20;
    let Some(host) = failing("flood", "epoll_ctl", "ENOSPC", 41..=240) else { return };
    // No client reads, so the host must watch each of them.
    let mut streams: Vec<_> = (0..60).map(|_| host.connect()).collect();
    let failed = || host.log().lines().filter(|line| line.contains("reason=host")).count();
    wait_for("connections that cannot be watched", || (failed() >= 10).then_some(()));
    let ends = |stream: &mut Stream| match stream.take(MUCH).read_to_end(&mut Vec::new()) {
        Ok(count) => (count as u64) < MUCH,
        Err(error) => error.kind() == ErrorKind::ConnectionReset || panic!("{error}: {}", host.log()),
    };
    let ended = streams.iter_mut().filter_map(|stream| ends(stream).then_some(())).count();
    assert!((10..=30).contains(&ended), "{ended} of 60 have ended: {}", host.log());
    wait_for("a record of each that has ended", || (failed() == ended).then_some(()));
}

/// Without a free descriptor, open connections go on, signals work, and the host serves queued
/// clients in the end. A regression: the host closed a listener after the grace for handshakes,
/// with clients in its queue.
#[test]
fn a_shutdown_without_descriptors_serves_those_in_the_queue() {
    Transport::PLAIN.into_iter().for_each(serves_the_queue_without_descriptors);
}

fn serves_the_queue_without_descriptors(transport: Transport) {
    let mut host = Setup::serving_over(transport, "speaks-first").start();
    // Descriptors for two, and for a third once the listener is no longer watched.
    let limit = format!("--nofile={}:", descriptors(&host) + 2);
    let lowered = Command::new("prlimit").args(["--pid", &host.pid().to_string(), &limit]).status();
    if !lowered.is_ok_and(|status| status.success()) {
        crate::harness::skip("prlimit is not installed");
        return;
    }
    let mut streams: Vec<_> = (0..6).map(|_| host.connect()).collect();
    streams[..2].iter_mut().for_each(|stream| assert_eq!(read_line(stream), "ready\n"));
    host.logged(&["WARN", "accept failed"]);
    host.signal(Signal::SIGTERM);
    let told = Instant::now();
    wait_for("the end of the grace", || (told.elapsed() > Duration::from_millis(1500)).then_some(()));
    for (number, stream) in streams.iter_mut().enumerate() {
        if number >= 2 {
            assert_eq!(read_line(stream), "ready\n");
        }
        stream.write_all(b"bye\n").unwrap();
        assert_eq!(read_to_end(stream), b"you said: bye\n");
        stream.shutdown(Shutdown::Both).ok();
    }
    drop(streams);
    assert_eq!(host.exit_code(), 0);
    assert!(
        host.log().matches("accept failed").count() <= 2,
        "a line for the loop, and one for the rest: {}",
        host.log()
    );
}
