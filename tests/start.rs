//! The start of a guest: at the first byte where it could not tell the difference, at accept
//! otherwise.

use crate::harness::{Host, Setup, Transport, read_line, read_to_end};
use std::io::Write;

/// The memory that each of a hundred idle connections takes, in KiB.
fn idle_cost(host: &Host) -> u64 {
    let before = host.status_kib("VmRSS");
    let streams: Vec<_> = (0..200).map(|_| host.connect()).collect();
    crate::harness::wait_for("every connection to be accepted", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", host.pid())).ok()?.count();
        (open > 200).then_some(())
    });
    let after = host.status_kib("VmRSS");
    drop(streams);
    after.saturating_sub(before) / 200
}

#[test]
fn a_guest_that_only_waits_for_input_starts_with_it() {
    let files = crate::harness::directory();
    let module = crate::modules::module(files.path(), &crate::modules::parrot("1"));
    let module = module.to_str().unwrap();
    for (name, answer) in
        [("hello", "Hello bob!\n"), ("hello-async", "Hello bob!\n"), ("program", "bob\n"), (module, "bob\n")]
    {
        let host = Host::serving(name);
        // The host watches the first guest. It waits for its input, and so all others may start
        // late.
        let mut first = host.connect();
        first.write_all(b"bob\n").unwrap();
        assert_eq!(read_to_end(&mut first), answer.as_bytes());
        let late = idle_cost(&host);
        let early = idle_cost(&Setup::serving(name).option("--guest-start", "accept").start());
        assert!(late < early && late <= 8, "{name}: {late} KiB an idle connection, {early} with a guest");
        assert_eq!(host.ask("bob\n"), answer.as_bytes());
    }
}

#[test]
fn a_guest_that_speaks_first_starts_at_accept() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "speaks-first");
        for _ in 0..5 {
            let mut stream = host.connect();
            assert_eq!(read_line(&mut stream), "ready\n");
            stream.write_all(b"x\n").unwrap();
            assert_eq!(read_to_end(&mut stream), b"you said: x\n");
        }
    }
}

#[test]
fn a_guest_with_a_timer_starts_at_accept() {
    let host = Host::serving("read-timeout");
    for _ in 0..5 {
        let mut stream = host.connect();
        assert_eq!(read_to_end(&mut stream), b"timeout\n");
    }
    assert_eq!(host.ask("x"), b"input\n");
}

#[test]
fn a_guest_of_wasi_0_3_with_a_timer_starts_at_accept() {
    let host = Host::serving("late-greeting-async");
    for _ in 0..3 {
        let mut stream = host.connect();
        assert_eq!(read_line(&mut stream), "at last\n");
    }
}

#[test]
fn a_guest_that_closes_its_output_first_starts_at_accept() {
    let host = Host::serving("half-close");
    for _ in 0..3 {
        let mut stream = host.connect();
        assert_eq!(read_to_end(&mut stream), b"");
    }
}

#[test]
fn the_option_decides_when_a_guest_starts() {
    let host = Setup::serving("read-timeout").option("--guest-start", "first-byte").start();
    assert_eq!(host.ask("x"), b"input\n");
    let mut silent = host.connect();
    silent.set_read_timeout(Some(std::time::Duration::from_millis(600))).unwrap();
    assert!(std::io::Read::read(&mut silent, &mut [0]).is_err(), "no guest, so no timer");
}
