//! Programs that know nothing of this host: their standard input and output are the connection, the
//! environment describes it, and the log has their exit status.

use crate::harness::{
    Address, Host, Setup, Transport, connect, connect_from, plugin, read_line, read_to_end, wait_for,
};
use std::{collections::BTreeMap, io::Write, net::Shutdown};

/// The variables of a program's environment that describe its connection.
fn variables(host: &Host) -> BTreeMap<String, String> {
    let answer = String::from_utf8(host.ask("variables\n")).unwrap();
    answer.lines().map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// The variables whose value is known beforehand.
fn assert_told(told: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(told.get(*name).map(String::as_str), Some(*value), "{name} in {told:?}");
    }
}

#[test]
fn a_program_knows_its_peer() {
    let host = Host::serving("program");
    let told = variables(&host);
    let port = host.addresses[0].tcp().port().to_string();
    assert_told(
        &told,
        &[("PROTO", "TCP"), ("TCPREMOTEIP", "127.0.0.1"), ("TCPLOCALIP", "127.0.0.1"), ("TCPLOCALPORT", &port)],
    );
    assert!(told["TCPREMOTEPORT"].parse::<u16>().unwrap() > 0);
    assert_eq!(told.len(), 5, "{told:?}");
    assert_ne!(variables(&host)["TCPREMOTEPORT"], told["TCPREMOTEPORT"], "each knows its own connection");

    let host = Setup::serving_file(&plugin("program")).option("--bind", "tcp://[::1]:0").start();
    let mut stream = connect(host.addresses[1]);
    stream.write_all(b"variables\n").unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
    assert!(answer.contains("PROTO=TCP\n") && answer.contains("TCPREMOTEIP=::1\n"), "{answer}");
}

#[test]
fn a_program_at_a_unix_socket_knows_its_peers_process() {
    let host = Host::serving_over(Transport::Unix, "program");
    let told = variables(&host);
    let Address::Unix(path) = host.addresses[0] else { panic!("not a unix socket") };
    let [pid, uid, gid] =
        [std::process::id().to_string(), nix::unistd::getuid().to_string(), nix::unistd::getgid().to_string()];
    assert_told(
        &told,
        &[
            ("PROTO", "UNIX"),
            ("UNIXLOCALPATH", path.to_str().unwrap()),
            ("UNIXREMOTEPID", &pid),
            ("UNIXREMOTEEUID", &uid),
            ("UNIXREMOTEEGID", &gid),
        ],
    );
    assert_eq!(told.len(), 5, "{told:?}");
}

#[test]
fn a_program_behind_tls_knows_its_protocol() {
    let host = Host::serving_over(Transport::Tls, "program");
    let told = variables(&host);
    assert_told(
        &told,
        &[
            ("PROTO", "SSL"),
            ("SSLREMOTEIP", "127.0.0.1"),
            ("TCPREMOTEIP", "127.0.0.1"),
            ("SSL_PROTOCOL", "TLSv1.3"),
            ("SSL_TLS_SNI_SERVERNAME", "localhost"),
        ],
    );
    assert_eq!(told["SSLREMOTEPORT"], told["TCPREMOTEPORT"]);
    assert_eq!(told["SSLLOCALPORT"], host.addresses[0].tcp().port().to_string());
}

#[test]
fn a_program_behind_a_proxy_knows_the_client() {
    let host = Setup::serving("program").option("--proxy-protocol", "127.0.0.0/8").start();
    let mut stream = host.connect();
    stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.9 4711 443\r\nvariables\n").unwrap();
    let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
    for line in ["TCPREMOTEIP=192.0.2.7", "TCPREMOTEPORT=4711", "TCPLOCALIP=198.51.100.9", "TCPLOCALPORT=443"] {
        assert!(answer.lines().any(|told| told == line), "{line} in {answer}");
    }
}

#[test]
fn the_operators_environment_and_arguments_win() {
    let setup =
        Setup::serving("program").option("--guest-env", "TCPREMOTEIP=hidden").option("--guest-env", "GREETING=hi");
    let host = setup.option("--guest-arg", "--quiet").start();
    let told = variables(&host);
    assert_told(&told, &[("TCPREMOTEIP", "hidden"), ("GREETING", "hi"), ("PROTO", "TCP")]);
    assert_eq!(host.ask("arguments\n"), b"[\"program\", \"--quiet\"]\n");
    assert_eq!(Host::serving("program").ask("arguments\n"), b"[\"program\"]\n", "its name it always has");
}

#[test]
fn how_a_program_ends_is_in_the_log() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "program");
        assert_eq!(host.ask("leave 0\n"), b"leaving\n");
        host.logged(&["connection finished", "plugin=program"]);
        // Under TLS this read ends with close_notify or fails, so the answer is complete.
        assert_eq!(host.ask("leave 3\n"), b"leaving\n");
        // WASI 0.2 tells only success from failure, not the exit status.
        let line = host.logged(&["WARN", "connection failed", "reason=error", "the guest exited with status 1"]);
        assert_eq!(host.log().matches("connection failed").count(), 1, "{line}");
        assert_eq!(host.ask("fail\n"), b"");
        wait_for("its failure", || (host.log().matches("the guest exited with status 1").count() == 2).then_some(()));
        host.logged(&["stream=\"stderr\"", "guest: Error: Custom { kind: Other, error: \"asked to fail\" }"]);
    }
}

#[test]
fn output_is_sent_while_a_program_sleeps() {
    for transport in Transport::ALL {
        let mut host = Host::serving_over(transport, "program");
        let mut stream = host.connect();
        stream.write_all(b"say something\n").unwrap();
        assert_eq!(read_line(&mut stream), "something\n");
        host.kill();
    }
}

#[test]
fn standard_error_goes_to_the_log_and_standard_output_to_the_peer() {
    let host = Host::serving("program");
    assert_eq!(host.ask("log a word\n"), b"said\n");
    let line = host.logged(&["guest: a word"]);
    let id = line.split_once("connection=").unwrap().1.split(' ').next().unwrap();
    assert!(line.contains("stream=\"stderr\"") && line.contains("plugin=program"), "{line}");
    host.logged(&["connection finished", &format!("connection={id}")]);
    assert!(!host.log().contains("guest: said"), "{}", host.log());
}

#[test]
fn the_end_of_input_reaches_a_program_that_can_still_answer() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "program");
        let input = [b"count\n".as_slice(), &vec![b'x'; 3 << 20]].concat();
        assert_eq!(host.ask(&input), b"3145728\n");
        assert_eq!(host.ask("big 3000000\n").len(), 3_000_000, "more than any buffer holds, in one piece");
        let mut stream = host.connect();
        stream.write_all(b"no line yet").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut stream), b"no line yet");
    }
}

#[test]
fn a_program_of_wasi_0_3_serves() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "cat-async");
        let mut stream = host.connect();
        for line in ["one\n", "two\n"] {
            stream.write_all(line.as_bytes()).unwrap();
            assert_eq!(read_line(&mut stream), line, "nothing is kept back");
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut stream), b"");
        host.logged(&["connection finished"]);
    }
    let (code, _, err) = Setup::serving("cat-async").argument("--disable-wasi-0-3").run();
    assert!(code == 2 && err.contains("uses WASI 0.3"), "{err}");
}

#[test]
fn a_program_sees_a_reset_as_an_error() {
    for name in ["cat", "cat-async"] {
        let host = Host::serving(name);
        let mut stream = host.connect();
        stream.write_all(b"some\n").unwrap();
        assert_eq!(read_line(&mut stream), "some\n");
        socket2::SockRef::from(stream.tcp()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(stream);
        host.logged(&["connection failed", "reason=peer-reset", "status 1"]);
    }
}

/// A program that has learned of its connection early, and another that learns of a different
/// connection.
#[test]
fn a_program_that_reads_its_peer_starts_at_accept() {
    let host = Host::serving("choosy");
    for _ in 0..3 {
        assert_eq!(host.ask("x\n"), b"you said: x\n");
        let mut stream = connect_from("127.0.0.2", host.addresses[0].tcp());
        assert_eq!(read_line(&mut stream), "welcome\n");
        stream.write_all(b"y\n").unwrap();
        assert_eq!(read_to_end(&mut stream), b"you said: y\n");
    }
}
