//! The contract, with guests of both versions. `examples.rs` tests the handlers in other languages.

use crate::harness::{Host, Setup, Transport, connect, directory, plugin, read_line, read_to_end};
use std::{
    collections::HashMap,
    fs,
    io::Write,
    net::{Shutdown, SocketAddr},
};

/// Plugins that were built when the contract was frozen. Every later host of the same minor version
/// runs them.
const FROZEN: [&str; 2] = ["tests/fixtures/server-0.2.0.wasm", "tests/fixtures/server-0.3.0.wasm"];

fn greets(name: &str) {
    greets_over(Transport::Tcp, name);
}

fn greets_over(transport: Transport, name: &str) {
    let host = Host::serving_over(transport, name);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n", "{name}: a line");
    assert_eq!(host.ask("bob"), b"Hello bob!\n", "{name}: the end of input");
    assert_eq!(host.ask(""), b"Hello world!\n", "{name}: nothing");
    let mut stream = host.connect();
    stream.write_all(b"bo").unwrap();
    stream.write_all(b"b\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n", "{name}: without a half-close");
}

#[test]
fn both_versions_greet() {
    for transport in Transport::ALL {
        greets_over(transport, "hello");
        greets_over(transport, "hello-async");
    }
}

#[test]
fn frozen_plugins_still_run() {
    for fixture in FROZEN {
        greets(fixture);
    }
}

#[test]
fn each_connection_has_an_instance_of_its_own() {
    let host = Host::serving("count");
    for _ in 0..50 {
        assert_eq!(host.ask("x"), b"1\n");
    }
}

#[test]
fn instances_do_not_share_randomness() {
    let host = Host::serving("random");
    let mut seen: Vec<_> = (0..20).map(|_| host.ask("x")).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20);
}

#[test]
fn random_bytes_come_in_millions_and_a_call_for_too_many_names_the_limit() {
    let host = Setup::serving("random").option("--guest-memory", "64MiB").start();
    for count in [2 << 20, 16 << 20] {
        let answer = String::from_utf8(host.ask(format!("{count}\n"))).unwrap();
        assert!(answer.starts_with(&format!("{count} ")), "{answer}");
    }
    assert_eq!(host.ask(format!("{}\n", (16 << 20) + 1)), b"");
    host.logged(&["connection failed", "reason=trap", &format!("{}", 16 << 20)]);
}

fn facts(name: &str) {
    let host = Host::serving(name);
    let mut stream = host.connect();
    let (here, there) = (stream.tcp().local_addr().unwrap(), stream.tcp().peer_addr().unwrap());
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
    let facts: HashMap<&str, &str> = answer.lines().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(facts["peer-address"], format!("tcp://{here}"));
    assert_eq!(facts["local-address"], format!("tcp://{there}"));
    assert_eq!(facts["listener"], format!("tcp://{there}"));
    for absent in ["tls-version", "tls-server-name", "tls-alpn", "tls-peer-certificates"] {
        assert_eq!(facts[absent], "none", "{absent}");
    }
    assert_eq!(facts["is-draining"], "false");
    host.logged(&[facts["id"], "connection finished"]);
}

#[test]
fn a_guest_can_read_the_facts_of_its_connection() {
    facts("facts");
    facts("facts-async");
}

#[test]
fn an_ipv4_peer_of_an_ipv6_listener_is_an_ipv4_peer() {
    let host = Setup::bare().option("--plugin", plugin("facts")).option("--bind", "tcp://[::]:0").start();
    let mut stream = connect(SocketAddr::from(([127, 0, 0, 1], host.addresses[0].tcp().port())));
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
    assert!(
        answer.contains("peer-address=tcp://127.0.0.1:") && answer.contains("local-address=tcp://127.0.0.1:"),
        "{answer}"
    );
}

#[test]
fn an_error_and_a_trap_deliver_what_was_written_and_are_logged() {
    for (name, reason) in
        [("fail", "error"), ("fail-async", "error"), ("trap", "trap"), ("panic", "trap"), ("write-4097", "trap")]
    {
        let host = Host::serving(name);
        let partial: &[u8] = if matches!(name, "panic" | "write-4097") { b"" } else { b"partial\n" };
        assert_eq!(host.ask("bob\n"), partial, "{name}");
        let line = host.logged(&["connection failed", &format!("reason={reason}"), &format!("plugin={name}")]);
        assert!(line.contains("WARN"), "{line}");
        if reason == "error" {
            assert!(
                line.contains(r"multi\nline \u{1b}[31m message") || line.contains(r"multi\\nline \\u{1b}[31m message"),
                "{line}"
            );
        }
        if name == "panic" {
            host.logged(&["on purpose", "stream="]);
            assert!(line.contains("panicked at ") && line.contains("src/lib.rs:10:5: on purpose; wasm trap"), "{line}");
        }
    }
}

#[test]
fn a_plugin_of_a_later_patch_version_is_served_if_it_needs_nothing_new() {
    let dir = directory();
    let path = dir.path().join("later.wasm");
    let mut bytes = fs::read(plugin("hello")).unwrap();
    for position in 0..bytes.len() {
        for (from, to) in [
            (&b"server/handler@0.2.0"[..], &b"server/handler@0.2.3"[..]),
            (b"server/types@0.2.0", b"server/types@0.2.3"),
        ] {
            if bytes[position..].starts_with(from) {
                bytes[position..position + from.len()].copy_from_slice(to);
            }
        }
    }
    fs::write(&path, bytes).unwrap();
    let host = Setup::bare()
        .option("--plugin", &path)
        .option("--bind", "tcp://127.0.0.1:0")
        .option("--cache-dir", "none")
        .start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn a_guest_that_waits_for_the_drain_learns_of_it() {
    for name in ["drain", "drain-async"] {
        let mut host = Host::serving(name);
        let mut stream = host.connect();
        stream.write_all(b"there\n").unwrap();
        assert_eq!(read_line(&mut stream), "there\n");
        host.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(read_to_end(&mut stream), b"bye\n", "{name}");
        assert_eq!(host.exit_code(), 0);
    }
}
