//! A guest gets what was granted and nothing beyond. The guests `reach` and `reach-async` try to
//! get more from the inside.

use crate::{
    harness::{Host, Setup, directory, plugin, read_to_end, wait_for},
    reach::{Guest, OUTSIDE, Server, Tree, descriptors},
    service::Service,
};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use std::{fs, io::Write, path::Path, process::Command};

#[test]
fn nothing_is_granted_by_default() {
    let server = Server::on("127.0.0.1:0");
    let host = Setup::serving("reach").environment("SECRET", "of the host").start();
    Guest::of(&host).answers(&[
        ("environment", "[]"),
        ("arguments", "[]"),
        ("directories", "[]"),
        (&format!("connect {}", server.address), "access-denied"),
        ("bind 127.0.0.1:0", "access-denied"),
        ("listen 127.0.0.1:0", "access-denied"),
        ("udp", "access-denied"),
        ("lookup localhost", "access-denied"),
    ]);
    server.was_left_alone();
}

#[test]
fn environment_and_arguments_are_the_granted_ones_only() {
    let files = directory();
    let secret = files.path().join("token");
    fs::write(&secret, "s3cret with a blank line\n\n").unwrap();
    let host = Setup::serving("reach")
        .environment("SECRET", "of the host")
        .option("--guest-env", "MODE=a=b, c")
        .option("--guest-env", format!("TOKEN=@{}", secret.display()))
        .option("--guest-env", "EMPTY=")
        .option("--guest-arg", "--verbose")
        .option("--guest-arg", "two words, one argument")
        .start();
    let given = r#"[("MODE", "a=b, c"), ("TOKEN", "s3cret with a blank line\n"), ("EMPTY", "")]"#;
    Guest::of(&host).answers(&[
        ("environment", given),
        ("arguments", r#"["reach", "--verbose", "two words, one argument"]"#),
        ("directories", "[]"),
    ]);
    assert!(!host.settled_log().contains("s3cret"), "secrets are not for the log");

    // The next load reads the file again, for new guests.
    let mut old = Guest::of(&host);
    assert_eq!(old.run("environment"), given);
    fs::write(&secret, "changed").unwrap();
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    assert!(Guest::of(&host).run("environment").contains(r#"("TOKEN", "changed")"#));
    assert_eq!(old.run("environment"), given);
    fs::remove_file(&secret).unwrap();
    host.signal(Signal::SIGHUP);
    host.logged(&["reload failed", "--guest-env", "TOKEN=@", "cannot be read"]);
    assert!(Guest::of(&host).run("environment").contains(r#"("TOKEN", "changed")"#));
}

#[test]
fn handoff_variables_are_hidden_from_guests() {
    let setup = Setup::serving("reach").option("--guest-env", "A=1").option("--rollback-window", "50ms");
    let service = Service::start(setup);
    service.restart();
    assert_eq!(Guest::of(&service.host).run("environment"), r#"[("A", "1")]"#);
}

#[test]
fn guest_resources_are_reserved_for_each_connection() {
    let files = directory();
    let grant = format!("{}::/data", files.path().display());
    let setup = || Setup::serving("reach").option("--guest-dir", grant.clone()).by_way_of(["prlimit", "--nofile=500"]);
    let (code, _, err) = setup().option("--max-connections", "100").run();
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--max-connections 100") && err.contains("room for 14, since a guest may open"), "{err}");
    assert!(err.contains("ulimit -n 1959"), "{err}");
    assert_eq!(Guest::of(&setup().start()).run("list 0:."), "[]");
}

#[test]
fn a_guest_of_wasi_0_3_gets_no_more() {
    let tree = Tree::new();
    let (granted, other) = (Server::on("127.0.0.1:0"), Server::on("127.0.0.1:0"));
    let nothing = Host::serving("reach-async");
    Guest::of(&nothing).answers(&[
        (&format!("connect {}", granted.address), "ErrorCode::AccessDenied"),
        ("bind 127.0.0.1:0", "ErrorCode::AccessDenied"),
        ("listen", "ErrorCode::AccessDenied"),
        ("udp", "ErrorCode::AccessDenied"),
        ("lookup localhost", "ErrorCode::AccessDenied"),
    ]);
    granted.was_left_alone();
    let host = Setup::serving("reach-async")
        .option("--guest-dir", tree.grant("granted", "/data"))
        .option("--guest-connect", format!("127.0.0.1:{}", granted.port))
        .option("--guest-connect", format!("localhost:{}", granted.port))
        .start();
    let mut guest = Guest::of(&host);
    for path in OUTSIDE {
        let answer = guest.run(&format!("read 0:{path}"));
        assert!(["ErrorCode::NotPermitted", "ErrorCode::NotDirectory"].contains(&answer.as_str()), "{path}: {answer}");
    }
    guest.answers(&[
        ("read 0:file", "content"),
        ("read 0:pipe", "ErrorCode::NotPermitted"),
        ("create 0:new", "ErrorCode::NotPermitted"),
        ("touch 0:file", "ErrorCode::NotPermitted"),
        ("list 0:deep", r#"["deeper"]"#),
        ("hold 0:file 100", "16 then ErrorCode::Quota"),
        // The directory takes a place itself.
        ("hold-listings 0:deep 100", "15 then 85 refused"),
        (&format!("connect {}", other.address), "ErrorCode::AccessDenied"),
        ("bind 127.0.0.1:0", "ErrorCode::AccessDenied"),
        ("listen", "ErrorCode::AccessDenied"),
        ("udp", "ErrorCode::AccessDenied"),
        ("lookup other.test", "ErrorCode::AccessDenied"),
    ]);
    assert!(guest.run("lookup localhost").contains("127.0.0.1"));
    let mut guest = Guest::of(&host);
    assert_eq!(guest.run(&format!("connect {} 100", granted.address)), "16 then ErrorCode::OutOfMemory");
    granted.was_reached();
    other.was_left_alone();
    tree.outside_is_as_it_was();
    let host =
        Setup::serving("reach-async").option("--guest-dir", format!("{}:rw", tree.grant("granted", "/data"))).start();
    Guest::of(&host).answers(&[
        ("create 0:new", "ok"),
        ("touch 0:pipe", "ok"),
        ("create 0:../new", "ErrorCode::NotPermitted"),
    ]);
    tree.outside_is_as_it_was();
}

#[test]
fn grants_do_not_prevent_a_late_start() {
    let tree = Tree::new();
    let host = Setup::serving("hello")
        .option("--guest-env", "A=1")
        .option("--guest-arg", "x")
        .option("--guest-dir", tree.grant("granted", "/data"))
        .option("--guest-connect", "127.0.0.1:1")
        .start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    // The first guest has shown that it waits for input; from here on no connection has a guest
    // before its first byte.
    let before = host.status_kib("VmRSS");
    let idle: Vec<_> = (0..200).map(|_| host.connect()).collect();
    wait_for("every connection to be accepted", || (descriptors(&host) > 200).then_some(()));
    assert!((host.status_kib("VmRSS") - before) / 200 <= 8, "an idle connection has a guest");
    drop(idle);
}

/// A host that does not start, for one reason, in one line.
fn refused(setup: &Setup, code: i32, needles: &[&str]) {
    let (exit, out, err) = setup.run();
    assert_eq!(exit, code, "{err}");
    assert_eq!(out, "");
    let complaints: Vec<&str> = err.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(complaints.len(), 1, "one line: {err}");
    for needle in needles {
        assert!(complaints[0].contains(needle), "{needle:?} is not in {err:?}");
    }
}

#[test]
fn each_invalid_grant_is_named_with_a_remedy() {
    let files = directory();
    let at = |name: &str| files.path().join(name).display().to_string();
    fs::write(at("file"), "x").unwrap();
    fs::write(at("long"), vec![b'x'; (64 << 10) + 1]).unwrap();
    fs::write(at("binary"), [0xff, 0xfe]).unwrap();
    mkfifo(Path::new(&at("pipe")), Mode::S_IRWXU).unwrap();
    for (option, value, remedy) in [
        ("--guest-env", "NAME", "needs a value; write NAME=VALUE, or NAME=@FILE"),
        ("--guest-env", "=", "needs a name"),
        ("--guest-env", "", "needs a value"),
        ("--guest-env", "A=@", "needs a file after the @"),
        ("--guest-env", "A=@/absent", "cannot be read"),
        ("--guest-env", &format!("A=@{}", at("pipe")), "not a regular file"),
        ("--guest-env", &format!("A=@{}", at("long")), "longer than 64 KiB"),
        ("--guest-env", &format!("A=@{}", at("binary")), "not UTF-8"),
        ("--guest-dir", "", "is not HOST::GUEST"),
        ("--guest-dir", "/srv", "is not HOST::GUEST"),
        ("--guest-dir", "::/data", "is not HOST::GUEST"),
        ("--guest-dir", "/srv::data", "not absolute"),
        ("--guest-dir", "/srv::/data/../etc", "shortest form"),
        ("--guest-dir", "/srv::/data/", "shortest form"),
        ("--guest-dir", "/srv::/data:ro", "an unknown word after the guest's path"),
        ("--guest-dir", "/absent::/data", "the directory does not exist"),
        ("--guest-dir", &format!("{}::/data", at("file")), "is not a directory"),
        ("--guest-dir", &format!("{}::/data", at("pipe")), "is not a directory"),
        ("--guest-dir", "/proc::/proc", "the secrets of this one"),
        ("--guest-connect", "", "needs a port"),
        ("--guest-connect", "db.internal", "needs a port"),
        ("--guest-connect", "db.internal:", "nor a number from 1 to 65535"),
        ("--guest-connect", "db.internal:0", "nor a number from 1 to 65535"),
        ("--guest-connect", "db.internal:99999", "nor a number from 1 to 65535"),
        ("--guest-connect", "db.internal:80-90", "once for each port"),
        ("--guest-connect", ":80", "needs an address, a network or a name"),
        ("--guest-connect", "*:80", "needs an address, a network or a name"),
        ("--guest-connect", "::1:80", "without brackets"),
        ("--guest-connect", "[::1:80", "does not close it"),
        ("--guest-connect", "[db]:80", "not an IPv6 address"),
        ("--guest-connect", "10.0.0.1/8:80", "host bits set"),
        ("--guest-connect", "10.0.0.0/33:80", "is not ADDRESS/BITS"),
        ("--guest-connect", "127.1:80", "not written in full"),
        ("--guest-connect", "datenb\u{e4}nke.test:80", "begins with xn--"),
        ("--plugin-sha256", "abc", "is not a SHA-256"),
    ] {
        let value_as_said = format!("{value:?}");
        refused(&Setup::serving("hello").argument(format!("{option}={value}")), 2, &[option, &value_as_said, remedy]);
    }
    refused(&Setup::serving("hello").option("--guest-connect", ","), 2, &["--guest-connect \"\"", "needs a port"]);
    let twice =
        |option: &str, one: &str, other: &str| Setup::serving("hello").option(option, one).option(option, other);
    refused(&twice("--guest-env", "A=1", "A=2"), 2, &["--guest-env \"A\"", "is given a second time"]);
    refused(&twice("--guest-dir", "/srv::/d", "/tmp::/d:rw"), 2, &["--guest-dir \"/d\"", "is given a second time"]);
    fs::write(at("secret"), vec![b'x'; 64 << 10]).unwrap();
    let much = (0..5).fold(Setup::serving("hello"), |setup, number| {
        setup.option("--guest-env", format!("A{number}=@{}", at("secret")))
    });
    refused(&much, 2, &["--guest-env \"A3\"", "larger than 256 KiB"]);
    // A resolver that is down is not a mistake in the configuration: a supervisor should try again.
    refused(
        &Setup::serving("hello").option("--guest-connect", "no.such.name.invalid:80"),
        3,
        &["--guest-connect", "cannot be resolved"],
    );
}

#[test]
fn a_plugin_with_another_digest_is_rejected() {
    let files = directory();
    let path = files.path().join("plugin.wasm");
    fs::copy(plugin("hello"), &path).unwrap();
    let digest = |path: &Path| {
        let said = Command::new("sha256sum").arg(path).output().unwrap().stdout;
        String::from_utf8(said).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let (hello, echo) = (digest(&path), digest(&plugin("echo")));
    refused(
        &Setup::serving_file(&path).option("--plugin-sha256", &echo),
        2,
        &["--plugin ", &hello, &echo, "--plugin-sha256"],
    );
    let host = Setup::serving_file(&path).option("--plugin-sha256", hello.to_uppercase()).start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    let draft = files.path().join("draft");
    fs::copy(plugin("echo"), &draft).unwrap();
    fs::rename(draft, &path).unwrap();
    host.signal(Signal::SIGHUP);
    host.logged(&["reload failed", &hello, &echo]);
    let mut stream = host.connect();
    stream.write_all(b"bob\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n");
}
