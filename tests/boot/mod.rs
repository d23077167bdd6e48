//! What an operator sees at boot: the ready line, or one line for each mistake.

mod options;
pub mod plugins;

use crate::harness::{Host, Setup, directory, own_addresses, plugin};
use std::net::TcpListener;

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
fn port_applies_to_all_of_ipv4_without_any_bind() {
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

/// Runs a host that must not start: exit code 2, nothing on standard output, and one line that has
/// all `needles`.
pub fn refused(setup: &Setup, needles: &[&str]) {
    let (code, out, err) = setup.run();
    assert_eq!(code, 2, "{err}");
    assert_eq!(out, "", "nothing was bound, nothing is ready");
    // Log records of an earlier stage may precede the error.
    let complaints: Vec<&str> = err.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(complaints.len(), 1, "one line: {err}");
    for needle in needles {
        assert!(complaints[0].contains(needle), "{needle:?} is not in {err:?}");
    }
}

#[test]
fn a_port_in_use_exits_with_code_3() {
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
fn help_and_version_exit_with_success() {
    let (code, out, err) = Setup::bare().argument("--help").run();
    assert_eq!((code, err.as_str()), (0, ""));
    // The widest option decides where lines break.
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

#[test]
fn a_full_standard_output_and_error_harm_nothing() {
    // Two pipes that are full and have no reader.
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
