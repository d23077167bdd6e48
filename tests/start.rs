//! The start of a guest: at the first byte where it could not tell the difference, at accept
//! otherwise.

use crate::harness::{Host, Setup, Transport, read_line, read_to_end, wait_for};
use std::io::Write;

/// Runs a check beside two hundred idle connections. It gets the memory that each takes, in KiB.
fn beside_idle<T>(host: &Host, check: impl FnOnce(&dyn Fn() -> u64) -> T) -> T {
    let before = host.status_kib("VmRSS");
    let streams: Vec<_> = (0..200).map(|_| host.connect()).collect();
    wait_for("every connection to be accepted", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", host.pid())).ok()?.count();
        (open > 200).then_some(())
    });
    let checked = check(&|| host.status_kib("VmRSS").saturating_sub(before) / 200);
    drop(streams);
    checked
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
        let late = beside_idle(&host, |each| each());
        assert!(late <= 8, "{name}: {late} KiB an idle connection");
        // A guest for each takes more, once all have started.
        let early = Setup::serving(name).option("--guest-start", "accept").start();
        beside_idle(&early, |each| wait_for("connections with a guest each", || (each() > late).then_some(())));
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
    for _ in 0..2 {
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
    let silent = host.connect();
    // Meanwhile the timer of a guest that starts at accept runs its whole time.
    let at_accept = Host::serving("read-timeout");
    assert_eq!(read_to_end(&mut at_accept.connect()), b"timeout\n");
    assert!(!silent.has_arrivals(), "no guest, so no timer");
}
