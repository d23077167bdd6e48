//! The system's limits: descriptors and memory mappings. If a limit is too low, the host says which
//! setting to raise, with the numbers.

use crate::harness::{Setup, directory, plugin, shared_cache, wait_for};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{fs, io::Write, process::Command};

/// Descriptors of a host, and of the other tests of this process.
const FOR_OTHERS: u64 = 2_000;

/// As many as this process may have.
fn raise_descriptors() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard
}

/// How many mappings the kernel allows a process.
fn mappings() -> u64 {
    fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap()
}

/// That many connections, where the limit leaves room for the test's own as well.
fn possible(connections: u64) -> Option<u64> {
    let hard = raise_descriptors();
    if hard < connections + FOR_OTHERS {
        let needed = connections + FOR_OTHERS;
        crate::harness::cannot(format!("the descriptor limit is {hard}, and the test needs {needed}"));
        return None;
    }
    Some(connections)
}

fn check(name: &str) -> Setup {
    Setup::bare().argument("check").option("--plugin", plugin(name)).option("--cache-dir", shared_cache())
}

#[test]
fn a_limit_above_the_descriptors_is_rejected() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 1_000_000 {
        let (code, _, said) = Setup::serving("hello").option("--max-connections", "1000000").run();
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("--max-connections 1000000") && said.contains("ulimit -n"), "{said}");
    }
}

#[test]
fn a_default_lowered_by_descriptors_is_logged_with_the_remedy() {
    let few = ["prlimit", "--nofile=500:500"];
    if !Command::new(few[0]).args(&few[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        crate::harness::skip("prlimit is not installed");
        return;
    }
    let told =
        ["INFO", "--max-connections is 433 instead of 4096, since the descriptor limit is 500", "ulimit -n 4163"];
    let host = Setup::serving("hello").by_way_of(few).start();
    host.logged(&told);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    let (code, _, said) = check("hello").by_way_of(few).run();
    assert_eq!(code, 0, "{said}");
    assert!(told.iter().all(|told| said.contains(told)), "{said}");
    // With the suggested settings nothing is lowered, and a smaller demand causes no warning.
    for (limit, asked) in [("--nofile=4163:4163", None), ("--nofile=500:500", Some("100"))] {
        let setup = asked.into_iter().fold(check("hello"), |setup, asked| setup.option("--max-connections", asked));
        let (code, _, said) = setup.by_way_of(["prlimit", limit]).run();
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains("instead of"), "{said}");
    }
}

#[test]
fn more_guests_than_mappings_are_logged_with_the_remedy() {
    let allowed = mappings();
    // A guest takes two mappings when the plugin is loaded and four once it lives; a WASI 0.3 guest
    // takes four and four.
    for (plugin, each, at_once) in [("hello", 6, 8), ("hello-async", 8, 12)] {
        let Some(connections) = possible(allowed / each + 1) else { return };
        let setting = format!("sysctl -w vm.max_map_count={}", connections * at_once + 1824);
        let (code, _, said) = check(plugin).option("--max-connections", connections.to_string()).run();
        assert_eq!(code, 0, "{said}");
        let is = format!("vm.max_map_count is {allowed}");
        assert!(["WARN", &is, &setting].iter().all(|told| said.contains(*told)), "{said}");
        let (_, _, said) = check(plugin).option("--max-connections", "1000").run();
        assert!(!said.contains("max_map_count"), "{said}");
    }
}

/// More plugins do not mean more guests.
#[test]
fn more_plugins_take_no_more_room() {
    let Some(connections) = possible(2_000) else { return };
    let directory = directory();
    let mapped = |plugins: &[&str]| {
        let config = directory.path().join("config.toml");
        let listener =
            |name: &&str| format!("[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {:?}\n", plugin(name));
        fs::write(&config, plugins.iter().map(listener).collect::<String>()).unwrap();
        let setup = Setup::bare().option("--config", config).option("--cache-dir", shared_cache());
        let host = setup.option("--max-connections", connections.to_string()).start_on(plugins.len());
        fs::read_to_string(format!("/proc/{}/maps", host.pid())).unwrap().lines().count()
    };
    let (one, five) = (mapped(&["hello"]), mapped(&["hello", "echo", "cat", "count", "choosy"]));
    assert!(one > 4_000, "each stack has its guard page: {one}");
    assert!(five < one + 1_000, "{one} mappings with one plugin, {five} with five");
}

/// A regression: such guests were reported as traps of the plugin, or the whole process ended.
#[test]
fn guests_without_mappings_fail_alone_with_the_hosts_reason() {
    const MORE: u64 = 2_000;
    let Some(connections) = possible((mappings() - 4 * MORE) / 4) else { return };
    let host = Setup::serving("hello-async")
        .option("--max-connections", connections.to_string())
        .without_records_of_connections()
        .start();
    host.logged(&["WARN", "guests fit at once", "vm.max_map_count"]);
    let mut open: Vec<_> = (0..MORE + 500).map(|_| host.connect()).collect();
    open.iter_mut().for_each(|stream| stream.write_all(b"b").unwrap());
    let told =
        ["ERROR", "connection failed", "reason=host", "no room for another guest", "sysctl -w vm.max_map_count="];
    host.logged(&told);
    drop(open);
    wait_for("an answer", || (host.ask("bob\n") == b"Hello bob!\n").then_some(()));
    let log = host.whole_log();
    assert!(!log.contains("reason=trap"), "{log}");
}
