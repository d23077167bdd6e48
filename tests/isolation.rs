//! A hostile plugin harms its own connection only. Each test runs a load of good connections beside
//! the hostile ones, on the same workers, and every good one must be answered correctly.
//!
//! One plugin serves both: a guest that is asked for something hostile does it, all others behave.
//! One variant is a handler, the other a program with standard streams.

use crate::harness::{Host, Load, Setup, Stream, wait_for};
use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

const BOTH: [&str; 2] = ["moody", "program"];

/// Connections that ask a hostile guest to start, and wait.
fn provoke(host: &Host, count: usize, request: &str) -> Vec<Stream> {
    (0..count)
        .map(|_| {
            let mut stream = host.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect()
}

/// Runs good connections before, while and after hostile ones are `done`.
fn beside_a_load(host: &Host, hostile: &str, count: usize, done: impl FnOnce(&Host, Vec<Stream>)) {
    let load = Load::start(host.addresses[0], 4, "good\n", "good\n");
    let provoked = provoke(host, count, &format!("{hostile}\n"));
    load.goes_on(50);
    done(host, provoked);
    load.goes_on(50);
    load.stop();
    assert_eq!(host.ask("good\n"), b"good\n");
}

fn ended_with(reason: &'static str, count: usize) -> impl Fn(&Host, Vec<Stream>) {
    move |host, streams| {
        for mut stream in streams {
            let mut rest = Vec::new();
            // Bytes that it wrote before it failed may have arrived; then the end follows.
            stream.read_to_end(&mut rest).unwrap();
        }
        let needle = format!("reason={reason}");
        wait_for(&needle, || (host.log().matches(&needle).count() >= count).then_some(()));
    }
}

#[test]
fn looping_guests_are_ended_and_do_not_delay_others() {
    for name in BOTH {
        let host = Setup::serving(name).option("--guest-cpu-time", "20ms").start();
        beside_a_load(&host, "loop", 8, ended_with("cpu-time", 8));
    }
}

#[test]
fn looping_guests_do_not_delay_others_even_on_one_worker() {
    for name in BOTH {
        let host = Setup::serving(name).option("--guest-cpu-time", "20ms").option("--workers", "1").start();
        beside_a_load(&host, "loop", 4, ended_with("cpu-time", 4));
    }
}

/// Name and nice value of each thread.
fn threads(host: &Host) -> Vec<(String, i32)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap();
    let read = |task: &Path, file: &str| fs::read_to_string(task.join(file)).ok();
    tasks
        .filter_map(|task| {
            let task = task.unwrap().path();
            // It may have ended meanwhile.
            let (name, stat) = (read(&task, "comm")?, read(&task, "stat")?);
            // The name is in parentheses and may contain anything; the state is the third field.
            let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            Some((name.trim_end().to_owned(), fields[16].parse().unwrap()))
        })
        .collect()
}

#[test]
fn only_long_computing_guests_have_the_lowest_priority() {
    let host = Setup::serving("moody").option("--guest-cpu-time", "20ms").start();
    assert_eq!(host.ask("good\n"), b"good\n");
    let before = threads(&host);
    let (_, ours) = before[0];
    assert!(before.iter().all(|(_, nice)| *nice == ours), "{before:?}");
    let provoked = provoke(&host, 2, "loop\n");
    ended_with("cpu-time", 2)(&host, provoked);
    let threads = threads(&host);
    assert!(threads.iter().any(|(name, nice)| name == "background" && *nice == 19), "{threads:?}");
    assert!(threads.iter().all(|(name, nice)| *nice == if name == "background" { 19 } else { ours }), "{threads:?}");
}

/// It moves to the background and back with each byte, and loses none.
#[test]
fn a_guest_that_computes_between_its_bytes_moves_back_and_forth() {
    let host = Setup::serving("moody").start();
    beside_a_load(&host, "compute", 4, |_, streams| {
        for mut stream in streams {
            let mut alphabet = String::new();
            stream.read_to_string(&mut alphabet).unwrap();
            assert_eq!(alphabet, ('a'..='z').collect::<String>());
        }
    });
}

/// Its time is over while it computes: the guest ends before its connection does.
#[test]
fn a_guest_in_the_background_is_ended_with_its_connection() {
    let host = Setup::serving("moody").option("--connection-timeout", "1s").option("--max-connections", "2").start();
    for _ in 0..3 {
        ended_with("wall-time", 1)(&host, provoke(&host, 2, "loop\n"));
    }
    // Each of its places is free again; guests have two of them as well.
    assert_eq!(host.ask("good\n"), b"good\n");
    assert!(!host.whole_log().contains("reason=host"), "a guest had no place");
}

#[test]
fn guests_that_take_memory_are_ended() {
    for name in BOTH {
        let host = Setup::serving(name).option("--guest-memory", "16MiB").start();
        let peak_before = host.status_kib("VmHWM");
        beside_a_load(&host, "allocate", 16, ended_with("memory", 16));
        let grown = host.status_kib("VmHWM") - peak_before;
        assert!(grown < 16 * 16 * 1024 + 64 * 1024, "sixteen guests of 16 MiB took {grown} KiB");
    }
}

#[test]
fn guests_that_trap_are_ended() {
    for name in BOTH {
        let host = Host::serving(name);
        beside_a_load(&host, "trap", 200, ended_with("trap", 200));
    }
}

#[test]
fn guests_that_flood_are_held_back() {
    for name in BOTH {
        let host = Host::serving(name);
        beside_a_load(&host, "flood", 8, |_, streams| drop(streams));
    }
}

#[test]
fn guests_that_never_read_and_never_return_delay_no_other() {
    for name in BOTH {
        let host = Setup::serving(name).option("--idle-timeout", "1s").start();
        beside_a_load(&host, "wait", 16, |host, streams| {
            for mut stream in streams {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
            }
            host.logged(&["reason=idle"]);
        });
    }
}
