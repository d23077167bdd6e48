//! The admin endpoint: the pages and commands, the clients that it accepts, and the strangers that
//! it rejects.

use crate::{
    boot::refused,
    harness::{Setup, Transport, connect, directory, plugin, read_line, read_to_end, wait_for},
    operator::{Operated, Operator},
    player::{descriptors, wait_for_descriptors},
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::{Command, Stdio},
};

/// A loopback address that only this test uses. The system may not choose the port of `--admin`.
/// The port is outside the range of ports that the system chooses.
fn address(test: u8) -> String {
    format!("127.{}.{}.{test}:9901", 1 + std::process::id() % 250, 1 + (std::process::id() / 250) % 250)
}

#[test]
fn the_status_shows_listeners_and_plugins() {
    let Operated { service, operator, .. } = &Operated::start(Setup::serving("hello"));
    assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
    let status = wait_for("a connection that is finished", || {
        Some(operator.status()).filter(|status| status["connections"]["finished"] == 1)
    });
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], service.host.pid());
    assert_eq!(status["generation"], 1);
    assert_eq!(status["state"], "serving");
    assert!(status["uptime-seconds"].as_f64().unwrap() > 0.0);
    let listener = &status["listeners"][0];
    assert_eq!(listener["address"], format!("tcp://{}", service.host.addresses[0].tcp()));
    assert_eq!((&listener["accepting"], &listener["tls"]), (&true.into(), &false.into()));
    assert_eq!(listener["plugins"][0], "hello");
    let file = plugin("hello");
    let plugin = &status["plugins"][0];
    let digest: String = Sha256::digest(fs::read(&file).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&plugin["name"], &plugin["sha256"]), (&"hello".into(), &digest.into()));
    assert_eq!(plugin["file"], file.to_str().unwrap());
    assert_eq!(plugin["kind"], "handler of WASI 0.2");
    assert!(plugin["contract"].as_str().unwrap().starts_with("uninterruptible:server@0.2"), "{plugin}");
    let connections = &status["connections"];
    assert_eq!(
        (&connections["open"], &connections["accepted"], &connections["refused"]),
        (&0.into(), &1.into(), &0.into())
    );
    assert_eq!(status["draining"].as_array().unwrap().len(), 0);
    assert!(status["restarts"]["last"].is_null() && status["reloads"]["last"].is_null());
}

#[test]
fn connections_are_counted_by_their_ends() {
    let setup = Setup::serving("trap").option("--bind", "tcp://[::1]:0").option("--deny-network", "::1");
    let Operated { service, operator, .. } = &Operated::start(setup);
    service.host.ask("x");
    assert_eq!(read_to_end(&mut connect(service.host.addresses[1])), b"");
    wait_for("both to be counted", || {
        let counted = |name: &str| operator.metric(&format!("uninterruptible_connections_{name}"));
        (counted("failed_total{reason=\"trap\"}") == 1.0
            && counted("refused_total") == 1.0
            && counted("accepted_total") == 2.0
            && counted("finished_total") == 0.0
            && counted("open") == 0.0)
            .then_some(())
    });
}

#[test]
fn prometheus_parses_the_metrics() {
    let Operated { service, operator, .. } = &Operated::start(Setup::serving("speaks-first"));
    let mut open = service.host.connect();
    assert_eq!(read_line(&mut open), "ready\n");
    assert_eq!(operator.metric("uninterruptible_connections_open"), 1.0);
    assert_eq!(operator.metric("uninterruptible_state{state=\"serving\"}"), 1.0);
    assert_eq!(operator.metric("uninterruptible_state{state=\"draining\"}"), 0.0);
    assert!(operator.metric("process_start_time_seconds") > 1.7e9);
    assert!(operator.metric("process_open_fds") < operator.metric("process_max_fds"));
    assert!(operator.metric("process_resident_memory_bytes") > 1e6);
    let metrics = operator.get("/metrics");
    let mut kind = ("", "");
    for line in metrics.lines() {
        if let Some(named) = line.strip_prefix("# TYPE ") {
            kind = named.split_once(' ').unwrap();
            assert_eq!(kind.1 == "counter", kind.0.ends_with("_total"), "{line}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next().unwrap(), kind.0, "a sample stands below its own kind");
            value.parse::<f64>().unwrap_or_else(|_| panic!("no number: {line}"));
        }
    }
    let head = String::from_utf8(operator.curl(&["-I"], "/metrics").stdout).unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    match Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn() {
        Ok(mut promtool) => {
            promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
            assert!(promtool.wait().unwrap().success());
        }
        Err(_) => crate::harness::skip("promtool is not installed"),
    }
}

#[test]
fn the_page_has_no_scripts_and_escapes_its_values() {
    let directory = directory();
    let file = directory.path().join("<b>hello&.wasm");
    fs::copy(plugin("hello"), &file).unwrap();
    let Operated { operator, .. } = &Operated::start(Setup::serving_file(&file));
    let page = operator.get("/");
    assert!(page.starts_with("<!doctype html>") && page.contains("generation 1"), "{page}");
    assert!(page.contains("&lt;b&gt;hello&amp;.wasm") && !page.contains("<b>hello"), "{page}");
    for active in ["<script", "http://", "https://", "<form", "<img", "url("] {
        assert!(!page.contains(active), "{active}");
    }
    let head = String::from_utf8(operator.curl(&["-I"], "/").stdout).unwrap();
    assert!(head.contains("Content-Security-Policy: default-src 'none'"), "{head}");
}

#[test]
fn an_unknown_path_is_answered_with_the_known_ones() {
    let Operated { operator, .. } = &Operated::start(Setup::serving("hello"));
    let cases: [(&[&str], &str, u16, &str); 6] = [
        (&[], "/nothing", 404, "GET /, /status or /metrics"),
        (&[], "/restart", 405, "only POST is allowed"),
        (&["-X", "POST"], "/status", 405, "only GET, HEAD is allowed"),
        (&["-X", "DELETE"], "/", 405, "only GET, HEAD is allowed"),
        (&["-X", "POST"], "/restart?wait=ever", 400, "serving or settled"),
        (&["-X", "POST"], "/rollback", 409, "nothing to roll back"),
    ];
    for (words, path, code, why) in cases {
        let (found, body) = operator.ask(words, path);
        assert!(found == code && body.contains(why), "{path}: {found}: {body}");
    }
}

#[test]
fn the_socket_belongs_to_its_owner_and_is_removed_at_the_end() {
    let mut operated = Operated::start(Setup::serving("hello"));
    let path = operated.operator.uri.strip_prefix("unix://").unwrap().to_owned();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(operated.service.host.terminate(), 0);
    assert!(!fs::exists(&path).unwrap());
}

#[test]
fn another_user_is_rejected() {
    if !nix::unistd::geteuid().is_root() {
        crate::harness::cannot("only root can become another user");
        return;
    }
    let operated = Operated::start(Setup::serving("hello"));
    let path = operated.operator.uri.strip_prefix("unix://").unwrap();
    // Even where the file mode lets every user connect.
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    let directory = std::path::Path::new(path).parent().unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let ask = ["--unix-socket", path, "-sS", "--max-time", "60", "http://localhost/status"];
    let output = Command::new("setpriv").args(["--reuid", "65534", "--clear-groups", "curl"]).args(ask).output();
    let Ok(output) = output else {
        crate::harness::skip("setpriv is not installed");
        return;
    };
    assert!(output.stdout.is_empty() && !output.status.success(), "{output:?}");
    operated.service.host.logged(&["admin endpoint: user rejected", "uid=65534"]);
    assert_eq!(operated.operator.status()["state"], "serving");
}

#[test]
fn on_tcp_only_this_machine_may_connect_and_web_pages_cannot_send_commands() {
    let operator = Operator::at_tcp(&address(1));
    let host = Setup::serving("hello").option("--admin", &operator.uri).start();
    assert_eq!(operator.status()["state"], "serving");
    for wrong in ["Host: evil.example", "Host: 192.0.2.1:80", "Host:", "Host: localhost.evil.example:9901"] {
        let (code, body) = operator.ask(&["-H", wrong], "/status");
        assert!(code == 421 && body.contains("names a machine other than this one"), "{wrong}: {code}: {body}");
    }
    for right in ["Host: localhost:9901", "Host: [::1]:9901", "Host: 127.0.0.1"] {
        assert_eq!(operator.ask(&["-H", right], "/status").0, 200, "{right}");
    }
    for header in ["Origin: http://127.0.0.1:9901", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let (code, body) = operator.ask(&["-X", "POST", "-H", header], "/stop");
        assert!(code == 403 && body.contains("commands from web pages are rejected"), "{header}: {code}: {body}");
    }
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert!(!host.settled_log().contains("stopping"), "nothing was done");
}

#[test]
fn an_address_that_other_machines_reach_is_rejected() {
    let with = |uri: &str| Setup::serving("hello").option("--admin", uri);
    refused(&with("tcp://0.0.0.0:9901"), &["--admin \"tcp://0.0.0.0:9901\": is not a loopback address"]);
    refused(&with("tcp://127.0.0.1:0"), &["--admin \"tcp://127.0.0.1:0\": has port 0, which clients cannot know"]);
    refused(&with("unix:///run/x?mode=0666"), &["has a mode, but only its owner and root"]);
    let operator = Operator::at_tcp(&address(2));
    let _host = Setup::serving("hello").option("--admin", &operator.uri).start();
    let (code, out, err) = with(&operator.uri).run();
    assert_eq!((code, &*out), (3, ""), "{err}");
    let line = err.lines().last().unwrap();
    assert!(
        line.contains(&format!("--admin {}: ", operator.uri)) && line.contains("another process listens there"),
        "{err}"
    );
}

#[test]
fn silent_and_flooding_clients_do_not_delay_others() {
    let Operated { service, operator, .. } = &Operated::start(Setup::serving("hello"));
    let path = operator.uri.strip_prefix("unix://").unwrap();
    let before = descriptors(service.host.pid());
    // More connections than the endpoint serves at once, and one byte on each.
    let mut silent: Vec<_> = (0..100)
        .map(|_| {
            let mut socket = UnixStream::connect(path).unwrap();
            socket.write_all(b"G").unwrap();
            assert_eq!(operator.status()["state"], "serving");
            socket
        })
        .collect();
    assert_eq!(service.host.ask("bob\n"), b"Hello bob!\n");
    assert!(descriptors(service.host.pid()) <= before + 33, "32 are heard at once");
    // The stop does not wait for any of them.
    for socket in &mut silent {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).ok();
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
    wait_for_descriptors(service.host.pid(), before);

    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20 << 10));
    let many = format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(200));
    let nonsense = "\u{16}\u{3}\u{1}\u{2} HTTP\r\n\r\n".to_owned();
    for (text, code) in [(long, "431"), (many, "431"), (nonsense, "400")] {
        let mut socket = UnixStream::connect(path).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        let answer = String::from_utf8(read_to_end(&mut socket)).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
    }
    // The endpoint does not look at a body.
    let large = "x".repeat(100 << 10);
    let (code, body) = operator.ask(&["-d", &large, "-H", "Expect:"], "/rollback");
    assert!(code == 409, "{code}: {body}");
    wait_for_descriptors(service.host.pid(), before);
}

/// A regression: each request beyond a connection's first was counted as a further connection.
#[test]
fn requests_of_one_connection_are_counted_as_requests() {
    let setup = Setup::serving_over(Transport::Tls, "http-wasi");
    let Operated { service, operator, .. } = &Operated::start(setup);
    let number = |name: &str| operator.metric(&format!("uninterruptible_{name}"));
    // Two requests without an answer, on a connection after one with an answer.
    let uri = |path: &str| format!("https://localhost:{}{path}", service.host.addresses[0].tcp().port());
    let uris = [uri("/"), uri("/never"), uri("/never")];
    let flags = ["--no-progress-meter", "--insecure", "--http2", "--parallel"];
    let mut asking = Command::new("curl").args(flags).args(uris).stdout(Stdio::null()).spawn().unwrap();
    wait_for("all requests", || (number("requests_total") == 3.0).then_some(()));
    assert_eq!((number("connections_accepted_total"), number("connections_open")), (1.0, 1.0));
    let connections = &operator.status()["connections"];
    assert_eq!((&connections["open"], &connections["requests"]), (&1.into(), &3.into()));
    asking.kill().unwrap();
    asking.wait().unwrap();
}
