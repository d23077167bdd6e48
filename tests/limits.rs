//! The limits of a connection and of what a guest may hold and say.

use crate::harness::{Host, Setup, Transport, read_line, read_to_end, wait_for};
use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

#[test]
fn at_the_cap_connections_wait_in_the_kernels_queue() {
    Transport::ALL.into_iter().for_each(waits_at_the_cap);
}

fn waits_at_the_cap(transport: Transport) {
    let host = Setup::serving_over(transport, "speaks-first").option("--max-connections", "2").start();
    let mut first = host.connect();
    let mut second = host.connect();
    assert_eq!(read_line(&mut first), "ready\n");
    assert_eq!(read_line(&mut second), "ready\n");
    let mut third = host.connect();
    third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.read(&mut [0]).is_err(), "the third is not served while two are open");
    first.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut first), b"you said: bye\n");
    drop(first);
    third.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    assert_eq!(read_line(&mut third), "ready\n");
    drop((second, third));
}

#[test]
fn an_idle_connection_is_ended_before_and_after_its_first_byte() {
    for transport in Transport::ALL {
        let host = Setup::serving_over(transport, "hello").option("--idle-timeout", "300ms").start();
        let mut silent = host.connect();
        assert_eq!(read_to_end(&mut silent), b"");
        let mut stalled = host.connect();
        stalled.write_all(b"bo").unwrap();
        assert_eq!(read_to_end(&mut stalled), b"");
        wait_for("both", || (host.log().matches("reason=idle").count() == 2).then_some(()));
    }
}

#[test]
fn bytes_in_either_direction_keep_a_connection_alive() {
    let host = Setup::serving("echo").option("--idle-timeout", "1s").start();
    let mut stream = host.connect();
    for _ in 0..8 {
        thread::park_timeout(Duration::from_millis(300));
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_connection_may_last_only_so_long() {
    let host = Setup::serving("echo").option("--connection-timeout", "500ms").start();
    let mut stream = host.connect();
    let mut answered = 0;
    while stream.write_all(b"x").is_ok() && stream.read(&mut [0]).is_ok_and(|count| count == 1) {
        answered += 1;
        thread::park_timeout(Duration::from_millis(20));
    }
    assert!(answered > 0);
    host.logged(&["reason=wall-time"]);
}

#[test]
fn a_guest_that_never_returns_is_finished_to_its_peer_and_ended_in_time() {
    let host = Setup::serving("never-return").option("--connection-timeout", "500ms").start();
    let mut stream = host.connect();
    assert_eq!(read_to_end(&mut stream), b"finished\n");
    host.logged(&["reason=wall-time", "plugin=never-return"]);
}

#[test]
fn the_host_bounds_what_a_guest_may_hold() {
    for name in ["resources", "streams-async"] {
        let host = Setup::serving(name).start();
        let before = host.status_kib("VmRSS");
        host.ask("x");
        let line = host.logged(&["connection failed"]);
        assert!(line.contains("reason=trap") || line.contains("reason=memory"), "{line}");
        let grown = host.status_kib("VmHWM").saturating_sub(before);
        assert!(grown < 96 * 1024, "{name} cost {grown} KiB");
    }
}

#[test]
fn what_a_guest_says_is_escaped_cut_and_limited() {
    let host = Host::serving("chatty");
    assert_eq!(host.ask("x"), b"said\n");
    host.logged(&["suppressed=", "the guest said more than is logged"]);
    let log = host.log();
    assert!(log.matches("stream=").count() <= 60, "{}", log.matches("stream=").count());
    assert!(log.lines().all(|line| line.len() < 8 << 10), "no line is much longer than 4 KiB");
    assert!(!log.contains('\u{1b}') && !log.contains('\u{7}') && !log.contains('\r'));
    for line in log.lines() {
        assert!(line.starts_with(&format!("[{}] ", host.pid())), "a line that the host did not write: {line}");
    }
}

#[test]
fn descriptors_that_run_out_stop_nothing_for_good() {
    // The limit is lowered under the host's feet, as another process of the user might.
    let host = Setup::serving("speaks-first").start();
    let open = std::fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count();
    let limit = format!("{}", open + 3);
    let lowered = std::process::Command::new("prlimit")
        .args(["--pid", &host.pid().to_string(), &format!("--nofile={limit}:")])
        .status();
    if !lowered.is_ok_and(|status| status.success()) {
        return; // No prlimit(1) here.
    }
    let mut streams: Vec<_> = (0..8).map(|_| host.connect()).collect();
    host.logged(
        &["WARN", "cannot accept", "EMFILE"].map(|needle| if needle == "EMFILE" { "os error 24" } else { needle }),
    );
    for stream in &mut streams {
        // As the first ones end, the others are served.
        assert_eq!(read_line(stream), "ready\n");
        stream.write_all(b"bye\n").unwrap();
        assert_eq!(read_to_end(stream), b"you said: bye\n");
        stream.shutdown(std::net::Shutdown::Both).ok();
    }
    wait_for("an end of the burst", || {
        let mut stream = host.connect();
        stream.write_all(b"bye\n").unwrap();
        read_to_end(&mut stream);
        host.log().contains("accepting again").then_some(())
    });
    assert_eq!(host.log().matches("cannot accept").count(), 1, "one line a burst");
}

/// Once, each read of an end counted as a byte that moved.
#[test]
fn an_end_that_is_read_again_and_again_is_no_progress() {
    let host = Setup::serving("eof-spin").option("--guest-cpu-time", "300ms").start();
    assert_eq!(host.ask("x"), b"");
    host.logged(&["connection failed", "reason=cpu-time"]);
}
