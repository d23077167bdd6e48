//! Options and variables that are malformed, unknown or in conflict.

use super::refused;
use crate::harness::{Setup, plugin};

#[test]
fn every_malformed_value_is_named_with_a_remedy() {
    for (option, value, remedy) in [
        ("--bind", "localhost:7000", "does not start with tcp://, unix:// or systemd:"),
        ("--bind", "tcp://127.0.0.1:99999", "not a number from 0 to 65535"),
        ("--bind", "tcp://127.0.0.1", "needs a port"),
        ("--bind", "tcp://::1:7000", "without brackets"),
        ("--bind", "", "does not start with tcp://"),
        ("--bind", "tcp://127.0.0.1:7000/", "has a slash after its port"),
        ("--bind", "tcp://[fe80::1]:7000", "needs its interface, as in tcp://[fe80::1%eth0]:7000"),
        ("--bind", "tcp://*:7000", "0.0.0.0 is every IPv4 address, and [::] every address"),
        ("--handoff-socket", "handoff.sock", "needs an absolute path, as in /run/app.sock"),
        ("--start-command", "no-such-program-at-all --plugin x", "\"no-such-program-at-all\", that is not in PATH"),
        ("--guest-connect", "http://10.0.0.1:80", "is a URL; write HOST:PORT"),
        ("--idle-timeout", "off", "as in 500ms, 30s or 5m; none disables it"),
        ("--rollback-window", "off", "as in 500ms, 30s or 5m; 0s disables it"),
        ("--max-connections-per-ip", "0", "from 1 to 1000000; none disables it"),
        ("--bind", "systemd://web", "as in systemd:web"),
        ("--bind", "unix://run/host.sock", "an absolute path, hence three slashes"),
        ("--bind", "unix:///run/host.sock/", "ends with a slash"),
        ("--bind", "unix:///run/../host.sock", "write it in its shortest form"),
        ("--bind", "unix:///run/host.sock?mode=0999", "not an octal number from 0000 to 0777"),
        ("--bind", "unix:///run/host.sock?owner=me", "a unix listener takes mode only"),
        ("--backlog", "-1", "is not a whole number"),
        ("--max-connections", "0", "is not a whole number from 1"),
        ("--max-connections", "many", "is not a whole number from 1"),
        ("--guest-memory", "64", "is not a whole number with its unit"),
        ("--guest-memory", "0MiB", "is zero; a small guest"),
        ("--guest-memory", "5GiB", "is more than 4GiB"),
        ("--guest-memory-kept", "some", "auto depends on the plugin and the memory"),
        ("--guest-memory-kept", "5GiB", "is more than 4GiB"),
        ("--guest-cpu-time", "10", "is not a time with its unit"),
        ("--guest-cpu-time", "0s", "is zero; give at least"),
        ("--connection-timeout", "soon", "is not a time with its unit"),
        ("--idle-timeout", "-5s", "is not a time with its unit"),
        ("--idle-timeout", "99999years", "is longer than a year"),
        ("--drain-timeout", "", "is not a time with its unit"),
        ("--workers", "1.5", "is not a whole number"),
        ("--plugin-kind", "http", "not one of auto, handler-0.3, handler-0.2, http-0.3"),
        ("--guest-start", "later", "not one of auto, accept, first-byte"),
        ("--log-level", "loud", "not one of error, warn"),
        ("--log-format", "xml", "not one of text, json"),
    ] {
        // With an equals sign, so that a value may begin with a dash.
        let setup = Setup::serving("hello").argument(format!("{option}={value}"));
        let setup = if option == "--log-level" {
            Setup::bare().option("--plugin", plugin("hello")).argument(format!("{option}={value}"))
        } else {
            setup
        };
        refused(&setup, &[option, value, remedy]);
    }
}

#[test]
fn unknown_and_incomplete_options_are_named() {
    refused(&Setup::serving("hello").argument("--plugins"), &["--plugins", "--plugin"]);
    refused(&Setup::bare().argument("--plugin"), &["--plugin"]);
    // The names that other programs use.
    for (word, option) in [
        ("--listen", "--bind tcp://127.0.0.1:7000"),
        ("--listen=0.0.0.0:80", "--bind tcp://127.0.0.1:7000"),
        ("--port", "--bind tcp://127.0.0.1:7000"),
        ("--address", "--bind tcp://127.0.0.1:7000"),
        ("--wasm", "--plugin FILE"),
        ("--cert", "--tls-certificate FILE"),
        ("--key", "--tls-key FILE"),
        ("--config-file", "--config FILE"),
        ("--maxconn", "--max-connections COUNT"),
        ("--threads", "--workers COUNT"),
    ] {
        let name = word.split('=').next().unwrap();
        let told = format!("there is no option {name}; use {option}");
        refused(&Setup::serving("hello").argument(word).argument("x"), &[&told]);
        refused(&Setup::bare().argument("check").argument(word).argument("x"), &[&told]);
    }
    refused(
        &Setup::serving("hello").option("--bind", "tcp://127.0.0.1:7001").option("--admin", "tcp://127.0.0.1:7001"),
        &["--admin \"tcp://127.0.0.1:7001\"", "is where --bind tcp://127.0.0.1:7001 of this same host listens, too"],
    );
    refused(
        &Setup::serving("hello").option("--bind", "tcp://0.0.0.0:7001").option("--admin", "tcp://127.0.0.1:7001"),
        &["is where --bind tcp://0.0.0.0:7001 of this same host listens, too"],
    );
    refused(
        &Setup::serving("hello").option("--bind", "unix:///tmp/a").option("--admin", "unix:///tmp/a"),
        &["is where --bind unix:///tmp/a of this same host listens, too"],
    );
    refused(
        &Setup::serving("hello").option("--handoff-socket", "/tmp/a").option("--admin", "unix:///tmp/a"),
        &["--admin", "is the --handoff-socket, too"],
    );
    refused(&Setup::bare(), &["--plugin is missing", "--plugin hello.wasm"]);
    refused(&Setup::bare().argument("hello.wasm"), &["'hello.wasm'", "as in --plugin hello.wasm"]);
    refused(&Setup::serving("hello").argument("--anchor").argument("always"), &["'always'", "--anchor=always"]);
    refused(
        &Setup::bare().environment("UNINTERRUPTIBLE_PLUGIN", ""),
        &["a value is required for '--plugin <FILE>'", "neither here nor by UNINTERRUPTIBLE_PLUGIN"],
    );
    refused(
        &Setup::serving("hello").environment("UNINTERRUPTIBLE_DISABLE_WASI_0_3", "maybe"),
        &["'maybe'", "--disable-wasi-0-3", "it takes true or false"],
    );
    for root in ["/absent/directory", "relative"] {
        refused(
            &Setup::serving("hello").environment("APP_ROOT", root),
            &[&format!("APP_ROOT {root:?}: is not a"), "a successor would start there"],
        );
    }
    refused(
        &Setup::serving("hello").option("--bind", "unix:///tmp/a").option("--handoff-socket", "/tmp/a"),
        &["--handoff-socket \"/tmp/a\"", "is where a --bind listens, too"],
    );
    refused(
        &Setup::serving("hello").option("--bind", "tcp://127.0.0.1:7001").option("--bind", "tcp://127.0.0.1:7001"),
        &["--bind", "twice"],
    );
    refused(
        &Setup::serving("hello").option("--bind", "unix:///tmp/a").option("--bind", "unix:///tmp/a?mode=0600"),
        &["--bind \"unix:///tmp/a?mode=0600\"", "twice"],
    );
    refused(
        &Setup::serving("hello").option("--bind", "tcp://127.0.0.1:7001").option("--bind", "tcp://[::]:7001"),
        &["--bind \"tcp://[::]:7001\"", "together with tcp://127.0.0.1:7001"],
    );
    // Each quote takes two bytes in the handoff message.
    let many: Vec<String> = (100..250).map(|number| format!("unix:///tmp/{}{number}", "\"".repeat(90))).collect();
    refused(
        &Setup::bare().option("--plugin", plugin("hello")).option("--bind", many.join(",")),
        &["the names of 150 listeners take ", "28672 can be handed over"],
    );
}

/// A variable with a typo has no effect, and only a warning tells the operator.
#[test]
fn a_mistyped_variable_causes_a_warning() {
    let with_slips = |setup: Setup| {
        setup
            .environment("UNINTERRUPTIBLE_BACKLGO", "5")
            .environment("UNINTERRUPTIBLE_PIDFILE", "/run/host.pid")
            // As an orchestrator derives them from a service's name.
            .environment("UNINTERRUPTIBLE_HOST_SERVICE_HOST", "10.0.0.1")
            .environment("UNINTERRUPTIBLE_HOST_PORT_7000_TCP", "tcp://10.0.0.1:7000")
    };
    let host = with_slips(Setup::serving("hello")).start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    let check =
        Setup::bare().argument("check").option("--plugin", plugin("hello")).option("--bind", "tcp://127.0.0.1:0");
    let (code, _, err) = with_slips(check).run();
    assert_eq!(code, 0, "{err}");
    for said in [host.log(), err] {
        for (slip, meant) in [("BACKLGO", "UNINTERRUPTIBLE_BACKLOG"), ("PIDFILE", "PID_FILE")] {
            let told =
                format!("unknown environment variable variable=\"UNINTERRUPTIBLE_{slip}\" suggestion=\"{meant}\"");
            assert!(said.contains(&told), "{said}");
        }
        assert_eq!(said.matches("unknown environment variable").count(), 2, "{said}");
    }
}
