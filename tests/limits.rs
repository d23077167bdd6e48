//! The limits of a connection, and the limits of a guest's resources and log.

use crate::harness::{Host, PATIENCE, Setup, Transport, directory, read_line, read_to_end, wait_for};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    time::{Duration, Instant},
};

#[test]
fn at_the_cap_connections_wait_in_the_kernels_queue() {
    Transport::PLAIN.into_iter().for_each(waits_at_the_cap);
}

fn waits_at_the_cap(transport: Transport) {
    let host = Setup::serving_over(transport, "speaks-first").option("--max-connections", "2").start();
    let mut first = host.connect();
    let mut second = host.connect();
    assert_eq!(read_line(&mut first), "ready\n");
    assert_eq!(read_line(&mut second), "ready\n");
    let mut third = host.connect();
    host.logged(&["max-connections reached", "open=2"]);
    // A reload takes longer than a wrong accept would.
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    assert!(!third.has_arrivals(), "the third is not served while two are open");
    first.write_all(b"bye\n").unwrap();
    assert_eq!(read_to_end(&mut first), b"you said: bye\n");
    drop(first);
    assert_eq!(read_line(&mut third), "ready\n");
    drop((second, third));
}

#[test]
fn an_idle_connection_is_ended_before_and_after_its_first_byte() {
    for transport in Transport::ALL {
        let host = Setup::serving_over(transport, "hello").option("--idle-timeout", "3s").start();
        let (mut silent, mut stalled) = (host.connect(), host.connect());
        stalled.write_all(b"bo").unwrap();
        for stream in [&mut silent, &mut stalled] {
            let mut rest = Vec::new();
            // A silent peer gets a single attempt to send, so TLS may end without close_notify.
            match stream.read_to_end(&mut rest) {
                Err(error) if error.kind() != ErrorKind::UnexpectedEof => panic!("{transport:?}: {error}"),
                _ => assert_eq!(rest, b"", "{transport:?}"),
            }
        }
        wait_for("both", || (host.log().matches("reason=idle").count() == 2).then_some(()));
    }
}

#[test]
fn bytes_in_either_direction_keep_a_connection_alive() {
    let host = Setup::serving("echo").option("--idle-timeout", "3s").start();
    let mut stream = host.connect();
    // The pauses add up to more than the timeout, and each is a tenth of it.
    for _ in 0..12 {
        crate::harness::pace(Duration::from_millis(300), "the client sends a byte within each idle timeout");
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_connection_times_out() {
    let host = Setup::serving("echo").option("--connection-timeout", "2s").start();
    let mut stream = host.connect();
    let mut answered = 0;
    wait_for("the end of the connection", || {
        let goes_on = stream.write_all(b"x").is_ok() && stream.read(&mut [0]).is_ok_and(|count| count == 1);
        answered += u32::from(goes_on);
        (!goes_on).then_some(())
    });
    assert!(answered > 0);
    host.logged(&["reason=wall-time"]);
}

#[test]
fn a_guest_that_never_returns_is_ended_in_time() {
    let host = Setup::serving("never-return").option("--connection-timeout", "2s").start();
    let mut stream = host.connect();
    assert_eq!(read_to_end(&mut stream), b"finished\n");
    host.logged(&["reason=wall-time", "plugin=never-return"]);
}

#[test]
fn the_host_limits_a_guests_resources() {
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
fn the_operator_sets_how_many_resources_a_guest_may_hold() {
    for resources in ["100", "5000"] {
        let host = Setup::serving("resources").option("--guest-resources", resources).start();
        host.ask("x");
        host.logged(&[
            "connection failed",
            "reason=trap",
            &format!("more streams, pollables and other resources than {resources}"),
        ]);
        host.logged(&["--guest-resources"]);
    }
}

#[test]
fn a_guests_log_is_escaped_cut_and_limited() {
    let host = Host::serving("chatty");
    let began = Instant::now();
    assert_eq!(host.ask("x"), b"said\n");
    host.logged(&["connection finished"]);
    // A burst of 50 lines, and 10 a second after that.
    let allowed = 60 + 10 * usize::try_from(began.elapsed().as_secs()).unwrap();
    let log = host.log();
    // The next record carries the count; on a slow machine that may be the last line, or else the
    // end of the connection reports it.
    let suppressed = log.split("suppressed=").skip(1).filter_map(|rest| rest.split_whitespace().next());
    assert!(
        suppressed.filter_map(|count| count.parse::<u32>().ok()).any(|count| count > 1000),
        "the log counts the suppressed lines"
    );
    let told = log.matches("stream=").count();
    assert!(told <= allowed, "{told} of {allowed} lines");
    assert!(log.lines().all(|line| line.len() < 8 << 10), "no line is much longer than 4 KiB");
    assert!(!log.contains('\u{1b}') && !log.contains('\u{7}') && !log.contains('\r'));
    for line in log.lines() {
        assert!(line.starts_with(&format!("[{}/1] ", host.pid())), "a line that the host did not write: {line}");
    }
}

#[test]
fn exhausted_descriptors_stop_nothing_for_good() {
    // Another process of the user lowers the limit while the host runs.
    let host = Setup::serving("speaks-first").start();
    let open = fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count();
    let limit = format!("{}", open + 3);
    let lowered = std::process::Command::new("prlimit")
        .args(["--pid", &host.pid().to_string(), &format!("--nofile={limit}:")])
        .status();
    if !lowered.is_ok_and(|status| status.success()) {
        crate::harness::skip("prlimit is not installed");
        return;
    }
    let mut streams: Vec<_> = (0..8).map(|_| host.connect()).collect();
    host.logged(
        &["WARN", "accept failed", "EMFILE"].map(|needle| if needle == "EMFILE" { "os error 24" } else { needle }),
    );
    for stream in &mut streams {
        // As the first ones end, the host serves the others.
        assert_eq!(read_line(stream), "ready\n");
        stream.write_all(b"bye\n").unwrap();
        assert_eq!(read_to_end(stream), b"you said: bye\n");
        stream.shutdown(Shutdown::Both).ok();
    }
    wait_for("an end of the burst", || {
        let mut stream = host.connect();
        stream.write_all(b"bye\n").unwrap();
        read_to_end(&mut stream);
        host.log().contains("accepting again").then_some(())
    });
    assert_eq!(host.settled_log().matches("accept failed").count(), 1, "one line a burst");
}

/// A regression: each read of an end counted as a byte that moved.
#[test]
fn reading_an_end_repeatedly_is_not_progress() {
    let host = Setup::serving("eof-spin").option("--guest-cpu-time", "100ms").start();
    assert_eq!(host.ask("x"), b"");
    host.logged(&["connection failed", "reason=cpu-time"]);
}

/// A guest is charged for the time that it runs, not for wall-clock time in which nothing runs at
/// all.
#[test]
fn a_guest_is_not_charged_for_the_time_in_which_the_host_is_stopped() {
    let host = Setup::serving("moody").option("--guest-cpu-time", "1s").start();
    let mut waiting = host.connect();
    waiting.write_all(b"go").unwrap();
    let before = host.cpu_ticks();
    let mut computing = host.connect();
    computing.write_all(b"loop\n").unwrap();
    wait_for("a guest that computes", || (host.cpu_ticks() >= before + 5).then_some(()));

    host.signal(Signal::SIGSTOP);
    wait_for("a host that is stopped", || host.is_stopped().then_some(()));
    let stopped = host.cpu_ticks();
    crate::harness::pace(Duration::from_secs(2), "the clock goes on for twice the guest's CPU time");
    host.signal(Signal::SIGCONT);

    waiting.write_all(b"od\n").unwrap();
    assert_eq!(read_to_end(&mut waiting), b"good\n");
    // A guest in the background gets a seventieth of a core beside a busy process.
    computing.set_read_timeout(Some(10 * PATIENCE)).unwrap();
    assert_eq!(read_to_end(&mut computing), b"");
    host.logged(&["connection failed", "reason=cpu-time"]);
    // With others on the CPU, a guest was charged up to four times its use, and had little time
    // before.
    let used = host.cpu_ticks() - stopped;
    assert!(used >= 10, "it was ended {used}0 ms of CPU time after it went on");
}

/// Guests that fill `memories` memories of 15 MiB each, and end with their input.
fn large(memories: usize) -> Vec<u8> {
    let memory = r#"(core instance (instantiate $memory))"#.repeat(memories);
    wat::parse_str(format!(
        r#"(component
            (import "uninterruptible:server/types@0.2.0" (instance $types (export "connection" (type (sub resource)))))
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "input-stream" (type $input (sub resource)))
                (export "output-stream" (type (sub resource)))
                (alias outer 1 $pollable (type $outer-pollable))
                (export "pollable" (type $pollable (eq $outer-pollable)))
                (export "[method]input-stream.subscribe"
                    (func (param "self" (borrow $input)) (result (own $pollable))))))
            (alias export $types "connection" (type $connection))
            (alias export $streams "input-stream" (type $input))
            (alias export $streams "output-stream" (type $output))
            (core func $subscribe (canon lower (func $streams "[method]input-stream.subscribe")))
            (core func $block (canon lower (func $poll "[method]pollable.block")))
            (core module $memory
                (memory 240)
                (func $fill (memory.fill (i32.const 0) (i32.const 1) (i32.const 0xf00000)))
                (start $fill))
            {memory}
            (core module $module
                (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
                (import "host" "block" (func $block (param i32)))
                (memory (export "memory") 1)
                (func (export "handle-request") (param i32 i32 i32) (result i32)
                    (call $block (call $subscribe (local.get 1)))
                    (i32.const 16)))
            (core instance $host (export "subscribe" (func $subscribe)) (export "block" (func $block)))
            (core instance $instance (instantiate $module (with "host" (instance $host))))
            (alias core export $instance "memory" (core memory $memory))
            (func $handle
                (param "connection" (own $connection)) (param "input" (own $input)) (param "output" (own $output))
                (result (result (error string)))
                (canon lift (core func $instance "handle-request") (memory $memory)))
            (instance $handler (export "handle-request" (func $handle)))
            (export "uninterruptible:server/handler@0.2.0" (instance $handler)))"#
    ))
    .unwrap()
}

/// The bound is for each guest, however many memories it has. A regression: each of its memories
/// had that much.
#[test]
fn the_memory_of_ended_guests_is_released_except_for_a_bounded_part() {
    const GUESTS: u64 = 24;
    for (memories, kept, each) in [(1, "4MiB", 4 << 10), (3, "4MiB", 4 << 10), (1, "1MiB", 1 << 10)] {
        let dir = directory();
        let path = dir.path().join("large.wasm");
        fs::write(&path, large(memories)).unwrap();
        let host = Setup::bare()
            .option("--plugin", &path)
            .option("--bind", "tcp://127.0.0.1:0")
            .option("--cache-dir", "none")
            .option("--guest-start", "accept")
            .option("--max-connections", "1024")
            .option("--guest-memory-kept", kept)
            .start();
        let before = host.status_kib("VmRSS");
        let grown = || host.status_kib("VmRSS").saturating_sub(before);
        let open: Vec<_> = (0..GUESTS).map(|_| host.connect()).collect();
        // Less the part that the first instance, at boot, has left in the pool.
        let filled = (GUESTS - 1) * memories as u64 * (15 << 10);
        wait_for("guests with their memory filled", || (grown() >= filled).then_some(()));
        for mut stream in open {
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut stream), b"");
        }
        // Stacks, tables and the host's own part of a guest come on top.
        let kept = GUESTS * each + (32 << 10);
        wait_for(&format!("a host that keeps at most {kept} of {filled} KiB"), || (grown() <= kept).then_some(()));
    }
}
