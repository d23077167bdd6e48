//! What an operator meets at boot: the ready line, and one line for everything that is wrong.

use crate::harness::{Host, Setup, directory, own_addresses, plugin};
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

#[test]
fn the_ready_line_is_all_that_is_printed() {
    let mut host = Host::serving("hello");
    assert!(host.addresses[0].tcp().port() != 0, "the real port, where 0 was asked for");
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert_eq!(host.terminate(), 0);
    assert_eq!(host.rest_of_output(), Vec::<String>::new());
}

#[test]
fn several_listeners_have_a_line_each() {
    let host = Setup::serving("hello").option("--bind", "tcp://[::1]:0").start();
    assert_eq!(host.addresses.len(), 2);
    assert!(host.addresses[1].tcp().is_ipv6());
    for address in &host.addresses {
        let mut stream = crate::harness::connect(*address);
        std::io::Write::write_all(&mut stream, b"bob\n").unwrap();
        assert_eq!(crate::harness::read_to_end(&mut stream), b"Hello bob!\n");
    }
}

#[test]
fn options_come_from_the_environment_too_and_the_command_line_wins() {
    let hello = plugin("hello");
    let mut host = Setup::bare()
        .environment("UNINTERRUPTIBLE_PLUGIN", hello.to_str().unwrap())
        .environment("UNINTERRUPTIBLE_IDLE_TIMEOUT", "nonsense")
        .option("--idle-timeout", "1m")
        .option("--bind", "tcp://127.0.0.1:0")
        .start();
    assert_eq!(host.ask("bob"), b"Hello bob!\n");
    assert_eq!(host.terminate(), 0);
}

#[test]
fn port_is_for_all_of_ipv4_where_nothing_else_says_where_to_listen() {
    let bare = || Setup::bare().option("--plugin", plugin("hello")).environment("PORT", "0");
    let host = bare().start();
    assert!(host.addresses[0].tcp().ip().is_unspecified() && host.addresses[0].tcp().is_ipv4());
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    for explicit in [
        bare().option("--bind", "tcp://127.0.0.1:0"),
        bare().environment("UNINTERRUPTIBLE_BIND", "tcp://127.0.0.1:0"),
        bare().option("--bind", "tcp://127.0.0.1:0").environment("PORT", "nonsense"),
    ] {
        assert!(explicit.start().addresses[0].tcp().ip().is_loopback());
    }
    for port in ["", "99999", "-1", "+80", "0x50", "80 ", "http", "0.0.0.0:80"] {
        let setup = bare().environment("PORT", port);
        refused(&setup, &[&format!("PORT {port:?}: is not a number from 0 to 65535"), "--bind"]);
    }
}

/// Runs a host that must refuse to start, with exit code 2, nothing on standard output and one line that has all `needles`.
pub fn refused(setup: &Setup, needles: &[&str]) {
    let (code, out, err) = setup.run();
    assert_eq!(code, 2, "{err}");
    assert_eq!(out, "", "nothing was bound, nothing is ready");
    // The log may have said how far it came.
    let complaints: Vec<&str> = err.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(complaints.len(), 1, "one line: {err}");
    for needle in needles {
        assert!(complaints[0].contains(needle), "{needle:?} is not in {err:?}");
    }
}

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
    // As other programs name them.
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
    // As they are handed over, each quote takes two bytes.
    let many: Vec<String> = (100..250).map(|number| format!("unix:///tmp/{}{number}", "\"".repeat(90))).collect();
    refused(
        &Setup::bare().option("--plugin", plugin("hello")).option("--bind", many.join(",")),
        &["the names of 150 listeners take ", "28672 can be handed over"],
    );
}

/// A variable with a slip would be no option at all, and nobody would know.
#[test]
fn a_variable_that_was_probably_meant_for_an_option_is_told() {
    let with_slips = |setup: Setup| {
        setup
            .environment("UNINTERRUPTIBLE_BACKLGO", "5")
            .environment("UNINTERRUPTIBLE_PIDFILE", "/run/host.pid")
            // As an orchestrator makes them of a service's name.
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

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn a_file_that_is_no_plugin_is_named_with_what_it_is() {
    let dir = directory();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut damaged = fs::read(plugin("hello")).unwrap();
    damaged.truncate(damaged.len() / 2);
    let handler = r#"(instance $h) (export "uninterruptible:server/handler@0.2.0" (instance $h))"#;
    for (path, needle) in [
        (write("empty.wasm", b""), "is not WebAssembly"),
        (write("picture.png", b"\x89PNG\r\n"), "is not WebAssembly"),
        (write("text.wat", b"(component)"), "is WebAssembly text"),
        (write("module.wasm", b"\0asm\x01\0\0\0"), "is a core WebAssembly module"),
        (write("damaged.wasm", &damaged), "is damaged"),
        (write("nothing.wasm", &component("(component)")), "exports nothing"),
        (
            write(
                "other.wasm",
                &component(r#"(component (instance $i) (export "acme:db/store@1.0.0" (instance $i)))"#),
            ),
            "exports acme:db/store@1.0.0",
        ),
        (
            write(
                "old.wasm",
                &component(
                    r#"(component (instance $i) (export "uninterruptible:server/handler@0.1.0" (instance $i)))"#,
                ),
            ),
            "was built for uninterruptible:server/handler@0.1.0",
        ),
        (
            write("hollow.wasm", &component(&format!("(component {handler})"))),
            "was built for uninterruptible:server@0.2.0",
        ),
        (
            write(
                "greedy.wasm",
                &component(&format!(
                    r#"(component (import "acme:db/store@1.0.0" (instance)) (import "wasi:io/poll@0.2.0" (instance)) (import "wasi:keyvalue/store@0.2.0" (instance)) {handler})"#
                )),
            ),
            "does not have: acme:db/store@1.0.0, wasi:keyvalue/store@0.2.0:",
        ),
        (dir.path().to_owned(), "is not a regular file"),
        (dir.path().join("absent.wasm"), "cannot be read: No such file"),
    ] {
        let setup = Setup::bare().option("--plugin", &path).option("--cache-dir", "none");
        refused(&setup, &["--plugin", path.to_str().unwrap(), needle]);
    }
}

#[test]
fn an_unreadable_plugin_is_named() {
    let dir = directory();
    let path = dir.path().join("secret.wasm");
    fs::copy(plugin("hello"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        crate::harness::cannot("root can read every file");
        return;
    }
    refused(&Setup::bare().option("--plugin", &path), &["secret.wasm", "cannot be read", "denied"]);
}

#[test]
fn a_plugin_that_needs_more_than_it_may_have_is_refused_at_boot() {
    refused(
        &Setup::serving("hello").option("--guest-memory", "64KiB"),
        &["--plugin", "bytes of memory to start", "--guest-memory gives 65536"],
    );
}

#[test]
fn wasi_0_3_can_be_disabled() {
    refused(&Setup::serving("hello-async").argument("--disable-wasi-0-3"), &["hello-async.wasm", "--disable-wasi-0-3"]);
}

/// Its contract alone does not show what a plugin needs.
#[test]
fn wasi_0_3_is_disabled_for_plugins_of_the_older_contract_that_use_it_too() {
    let dir = directory();
    for (name, used) in [
        ("stream.wasm", "(type (stream u8))"),
        ("waitable.wasm", "(core func (canon waitable-set.new))"),
        ("clock.wasm", r#"(import "wasi:clocks/monotonic-clock@0.3.0" (instance (export "now" (func (result u64)))))"#),
        ("nothing.wasm", ""),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, returning(used, "")).unwrap();
        let setup = || {
            Setup::bare().option("--plugin", &path).option("--bind", "tcp://127.0.0.1:0").option("--cache-dir", "none")
        };
        assert_eq!(setup().start().ask("x"), b"", "{name} is served where it is not disabled");
        let disabled = setup().argument("--disable-wasi-0-3");
        if used.is_empty() {
            assert_eq!(disabled.start().ask("x"), b"");
        } else {
            refused(&disabled, &[name, "uses WASI 0.3 or its concurrency", "--disable-wasi-0-3"]);
        }
    }
}

#[test]
fn a_port_in_use_is_the_systems_refusal() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", taken.local_addr().unwrap());
    let (code, out, err) = Setup::bare()
        .option("--plugin", plugin("hello"))
        .option("--bind", &address)
        .option("--log-level", "error")
        .run();
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains(&format!("--bind {address}")) && err.contains("another process listens there"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn help_and_version_are_no_errors() {
    let (code, out, err) = Setup::bare().argument("--help").run();
    assert_eq!((code, err.as_str()), (0, ""));
    // Lines are broken wherever the widest option leaves room.
    let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
    for option in
        ["--plugin", "--bind", "--max-connections", "--drain-timeout", "[env: UNINTERRUPTIBLE_PLUGIN=]", "Exit codes"]
    {
        assert!(out.contains(option), "{option} is not in\n{out}");
    }
    let (code, out, _) = Setup::bare().argument("--version").run();
    assert_eq!((code, out.trim()), (0, concat!("uninterruptible-host ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_closed_standard_output_and_error_harm_nothing() {
    let hello = plugin("hello");
    let [port] = own_addresses();
    let mut child = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "exec {} --plugin {} --bind tcp://{port} >&- 2>&-",
            env!("CARGO_BIN_EXE_uninterruptible-host"),
            hello.display()
        ))
        .spawn()
        .unwrap();
    let mut stream =
        crate::harness::wait_for("a host without standard output", || std::net::TcpStream::connect(port).ok());
    std::io::Write::write_all(&mut stream, b"bob\n").unwrap();
    assert_eq!(crate::harness::read_to_end(&mut stream), b"Hello bob!\n");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A plugin whose start function counts to `turns`, and whose handler returns at once.
pub fn spinning(turns: u64) -> Vec<u8> {
    returning(
        "",
        &format!(
            r#"(func $spin (local i64)
                (loop $again
                    (local.set 0 (i64.add (local.get 0) (i64.const 1)))
                    (br_if $again (i64.lt_u (local.get 0) (i64.const {turns})))))
            (start $spin)"#
        ),
    )
}

/// A plugin of the 0.2 contract whose handler returns at once, with what else is to be in its component and its module.
fn returning(in_component: &str, in_module: &str) -> Vec<u8> {
    component(&format!(
        r#"(component
            {in_component}
            (import "uninterruptible:server/types@0.2.0" (instance $types (export "connection" (type (sub resource)))))
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "input-stream" (type (sub resource)))
                (export "output-stream" (type (sub resource)))))
            (alias export $types "connection" (type $connection))
            (alias export $streams "input-stream" (type $input))
            (alias export $streams "output-stream" (type $output))
            (core module $module
                (memory (export "memory") 1)
                {in_module}
                (func (export "handle-request") (param i32 i32 i32) (result i32) (i32.const 16)))
            (core instance $instance (instantiate $module))
            (alias core export $instance "memory" (core memory $memory))
            (func $handle
                (param "connection" (own $connection)) (param "input" (own $input)) (param "output" (own $output))
                (result (result (error string)))
                (canon lift (core func $instance "handle-request") (memory $memory)))
            (instance $handler (export "handle-request" (func $handle)))
            (export "uninterruptible:server/handler@0.2.0" (instance $handler)))"#
    ))
}

/// Once, a first instance that computed for some milliseconds waited for ever for a permit that it held itself.
#[test]
fn a_plugin_that_computes_while_it_starts_is_served_and_one_that_never_starts_is_refused() {
    let dir = directory();
    let (slow, stuck) = (dir.path().join("slow.wasm"), dir.path().join("stuck.wasm"));
    fs::write(&slow, spinning(30_000_000)).unwrap();
    fs::write(&stuck, spinning(u64::MAX)).unwrap();
    for workers in ["1", "2"] {
        let with = |path| {
            let setup =
                Setup::bare().option("--plugin", path).option("--workers", workers).option("--cache-dir", "none");
            setup.option("--bind", "tcp://127.0.0.1:0")
        };
        assert_eq!(with(&slow).start().ask("x"), b"");
        refused(
            &with(&stuck).option("--guest-cpu-time", "300ms"),
            &["stuck.wasm", "cannot be instantiated", "--guest-cpu-time"],
        );
    }
}

#[test]
fn a_full_standard_output_and_error_harm_nothing() {
    // Two pipes that are full already and that nobody reads.
    let script = r#"exec 3<>"$1"; dd if=/dev/zero of="$1" bs=65536 count=1 2>/dev/null; exec "$2" --plugin "$3" --bind "tcp://$4" --log-level debug >&3 2>&3"#;
    let dir = directory();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let [address] = own_addresses();
    let mut child = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .args([pipe.as_os_str(), env!("CARGO_BIN_EXE_uninterruptible-host").as_ref(), plugin("hello").as_os_str()])
        .arg(address.to_string())
        .spawn()
        .unwrap();
    for _ in 0..20 {
        let mut stream =
            crate::harness::wait_for("a host with full pipes", || std::net::TcpStream::connect(address).ok());
        std::io::Write::write_all(&mut stream, b"bob\n").unwrap();
        assert_eq!(crate::harness::read_to_end(&mut stream), b"Hello bob!\n");
    }
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = crate::harness::wait_for("its end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn logs_can_be_json_with_the_process_id() {
    let host = Setup::serving("fail").option("--log-format", "json").start();
    host.ask("bob\n");
    let line = host.logged(&["\"reason\":\"error\""]);
    assert!(line.starts_with(&format!("{{\"pid\":{},", host.pid())), "{line}");
}
