//! Sockets that a service manager passes: which the host serves, and which it rejects with which
//! message. The host harms none of them.

use crate::{
    harness::{Address, Host, Setup, connect, directory, plugin, read_to_end, shared_cache, unix_uri, wait_for},
    service::Service,
};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    path::Path,
};

fn serving(name: &str, binds: &[&str]) -> Setup {
    let setup = Setup::bare().option("--plugin", plugin(name)).option("--cache-dir", shared_cache());
    let setup = setup.option("--log-level", "debug").option("--rollback-window", "50ms");
    binds.iter().fold(setup, |setup, bind| setup.option("--bind", *bind))
}

fn tcp() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn ask(address: impl Into<Address>) -> String {
    let mut stream = connect(address);
    stream.write_all(b"bob\n").unwrap();
    String::from_utf8(read_to_end(&mut stream)).unwrap()
}

/// Runs a host that must refuse to start, with exit code 2, one line that has all `needles`, and
/// nothing bound.
fn refused(setup: &Setup, needles: &[&str]) {
    let (code, out, err) = setup.run();
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    let complaints: Vec<&str> = err.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(complaints.len(), 1, "one line: {err}");
    for needle in needles {
        assert!(complaints[0].contains(needle), "{needle:?} is not in {err}");
    }
}

#[test]
fn a_passed_socket_is_served_and_its_queue_outlives_the_host() {
    let socket = tcp();
    let address = socket.local_addr().unwrap();
    let setup = serving("hello", &["systemd:web"]).passed(socket.try_clone().unwrap(), "web");
    let mut host = setup.start();
    assert_eq!(host.addresses[0].tcp(), address, "the ready line has the real address");
    assert_eq!(ask(address), "Hello bob!\n");
    assert_eq!(host.terminate(), 0);
    host.logged(&["passed listener closed", &address.to_string()]);

    let mut waiting = TcpStream::connect(address).unwrap();
    waiting.write_all(b"bob\n").unwrap();
    let _next = setup.start();
    assert_eq!(read_to_end(&mut waiting), b"Hello bob!\n");
}

#[test]
fn a_passed_unix_socket_keeps_its_path_and_mode() {
    let directory = directory();
    let path = directory.path().join("passed.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let before = fs::metadata(&path).unwrap().permissions();
    let service = Service::start(serving("facts", &["systemd:"]).passed(socket, "app.socket"));
    let answer = |service: &Service| String::from_utf8(service.host.ask("")).unwrap();
    assert!(answer(&service).contains(&format!("listener={}\n", unix_uri(&path))), "{}", answer(&service));
    service.restart();
    assert!(answer(&service).contains(&format!("listener={}\n", unix_uri(&path))));
    drop(service);
    assert_eq!(fs::metadata(&path).unwrap().permissions(), before, "it is the service manager's");
}

#[test]
fn a_passed_socket_goes_from_generation_to_generation() {
    let socket = tcp();
    let address = socket.local_addr().unwrap();
    let service = Service::start(serving("hello", &["systemd:"]).passed(socket.try_clone().unwrap(), "web"));
    for _ in 0..2 {
        let successor = service.restart();
        assert_eq!(ask(address), "Hello bob!\n");
        let environment = fs::read(format!("/proc/{}/environ", successor.pid)).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains("LISTEN_"), "a passed socket is passed once");
    }
    // No generation has filtered it or shut it down meanwhile.
    drop(service);
    TcpStream::connect(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.accept().unwrap();
}

#[test]
fn a_socket_that_a_restart_drops_is_left_to_the_service_manager() {
    let socket = tcp();
    let address = socket.local_addr().unwrap();
    let host = env!("CARGO_BIN_EXE_uninterruptible-host");
    let other = |bind: &str| {
        let options = format!("--cache-dir {} --log-level debug --rollback-window 50ms", shared_cache().display());
        format!("{host} --plugin {} {options} --bind {bind}", plugin("hello").display())
    };
    let setup = |command| serving("hello", &["systemd:web"]).option("--start-command", other(command));

    let service = Service::start(setup("systemd:admin").passed(socket.try_clone().unwrap(), "web"));
    let record = service.restart_that_fails();
    assert!(record.contains("--bind systemd:admin: the predecessor has no such socket"), "{record}");
    assert_eq!(ask(address), "Hello bob!\n");
    drop(service);

    let service = Service::start(setup("tcp://127.0.0.1:0").passed(socket.try_clone().unwrap(), "web"));
    service.restart();
    service.host.logged(&["passed socket not served", "systemd:web#0"]);
    service.host.logged(&["passed listener closed"]);
    TcpStream::connect(address).unwrap();
}

/// One unit serves for the first start and for upgrades: systemd passes the predecessor's sockets
/// to a process that takes over.
#[test]
fn a_successor_prefers_its_predecessors_sockets_to_passed_ones() {
    let directory = directory();
    let handoff = directory.path().join("handoff.sock");
    let (socket, other) = (tcp(), tcp());
    let address = socket.local_addr().unwrap();
    let unit = |socket: &TcpListener| {
        let setup =
            serving("hello", &["systemd:web"]).option("--handoff-socket", &handoff).option("--take-over", &handoff);
        setup.passed(socket.try_clone().unwrap(), "web")
    };
    let mut first = unit(&socket).start();
    first.logged(&["no predecessor, starting cold"]);
    let mut second = unit(&socket).start();
    second.logged(&["restart settled"]);
    assert_eq!(first.exit_code(), 0);
    let log = second.settled_log();
    assert!(!log.contains("WARN"), "{log}");
    let third = unit(&other).start();
    third.logged(&["WARN", "passed socket ignored"]);
    third.logged(&["restart settled"]);
    assert_eq!(second.exit_code(), 0);
    assert_eq!(third.addresses[0].tcp(), address);
    assert_eq!(ask(address), "Hello bob!\n");
}

#[test]
fn passed_sockets_that_cannot_be_served_are_named() {
    let listener = tcp();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let abstract_name = SocketAddr::from_abstract_name(format!("activation-{}", std::process::id())).unwrap();
    let unit = "a socket unit passes what can be served with ListenStream= and Accept=no";
    let cases: [(OwnedFd, &str, &str); 6] = [
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "is not a stream socket", unit),
        (UnixDatagram::unbound().unwrap().into(), "is not a stream socket", unit),
        (pipe.into(), "is not a socket", unit),
        (fs::File::open("/dev/null").unwrap().into(), "is not a socket", unit),
        (connected.into(), "does not listen", unit),
        (UnixListener::bind_addr(&abstract_name).unwrap().into(), "an address of another kind", "absolute path"),
    ];
    for (descriptor, problem, remedy) in cases {
        let setup = serving("hello", &["systemd:web"]).passed(descriptor, "web");
        refused(&setup, &["descriptor 3: the ", "passed as systemd:web#0", problem, remedy]);
    }
}

#[test]
fn unused_passed_sockets_are_named() {
    let setup = serving("hello", &["tcp://127.0.0.1:0"]).passed(tcp(), "web");
    refused(&setup, &["descriptor 3 was passed as systemd:web#0", "no --bind serves it", "--bind systemd:"]);
}

#[test]
fn missing_passed_sockets_are_explained() {
    let asked = || serving("hello", &["systemd:web"]);
    refused(&asked(), &["--bind systemd:web: no socket was passed to this process (LISTEN_FDS)", "socket unit"]);
    refused(&serving("hello", &["systemd:"]), &["--bind systemd:: no socket was passed"]);
    refused(&asked().passed(tcp(), "admin"), &["--bind systemd:web: the passed sockets are systemd:admin#0"]);
    let others = asked().environment("LISTEN_PID", "1").environment("LISTEN_FDS", "1");
    refused(&others, &["--bind systemd:web: the sockets were passed to process 1 (LISTEN_PID)"]);
    refused(&serving("hello", &["systemd:web", "systemd:web"]), &["--bind \"systemd:web\"", "is given twice"]);
}

#[test]
fn variables_that_contradict_the_descriptors_are_named() {
    let passed = || serving("hello", &["systemd:"]).passed(tcp(), "web");
    refused(
        &passed().environment("LISTEN_FDS", "2").environment("LISTEN_FDNAMES", "a:b"),
        &["descriptor 4 is not open"],
    );
    refused(&passed().environment("LISTEN_FDS", "many"), &["LISTEN_FDS \"many\": is not a number from 0 to 200"]);
    refused(&passed().environment("LISTEN_FDNAMES", "a:b"), &["LISTEN_FDNAMES \"a:b\": does not name 1 descriptors"]);
}

#[test]
fn an_anchor_passes_sockets_on_and_keeps_none() {
    let socket = tcp();
    let address = socket.local_addr().unwrap();
    let inode = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    let host = serving("hello", &["systemd:"]).passed(socket, "web").argument("--anchor").start();
    assert_eq!(ask(address), "Hello bob!\n");
    let held = fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap();
    let held = held.filter_map(|descriptor| fs::read_link(descriptor.unwrap().path()).ok());
    assert_eq!(held.filter(|held| *held == inode).count(), 0);
    host.signal(Signal::SIGUSR1);
    host.logged(&["restart settled"]);
    assert_eq!(ask(address), "Hello bob!\n");
}

/// systemd's own launcher, which starts its command at the first connection.
fn by_systemd(setup: Setup, names: &str, paths: &[&Path]) -> Option<Host> {
    const LAUNCHER: &str = "systemd-socket-activate";
    if crate::harness::skip_unless(LAUNCHER) {
        return None;
    }
    let listen = paths.iter().flat_map(|path| ["-l", path.to_str().unwrap()]);
    let words: Vec<_> = [LAUNCHER, "--fdname", names].into_iter().chain(listen).collect();
    Some(setup.by_way_of(words).spawn())
}

#[test]
fn systemd_sockets_are_matched_by_name() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    let paths = [path("web-1.sock"), path("admin.sock"), path("web-2.sock"), path("other.sock")];
    let setup = serving("hello", &["systemd:", "systemd:web", "systemd:admin"]);
    let Some(mut host) = by_systemd(setup, "web:admin:web:other", &paths.each_ref().map(|path| path.as_path())) else {
        return;
    };
    let first = wait_for("systemd's socket", || std::os::unix::net::UnixStream::connect(&paths[0]).ok());
    let listening: Vec<_> = (0..4).map(|_| host.line()).collect();
    let expected = [3, 0, 2, 1].map(|index| format!("listening {}", unix_uri(&paths[index])));
    assert_eq!(listening, expected, "in the order in which they are asked for");
    let mut first = first;
    first.write_all(b"bob\n").unwrap();
    assert_eq!(read_to_end(&mut first), b"Hello bob!\n", "the client that started it is served");
    for path in &paths {
        assert_eq!(ask(Address::Unix(Box::leak(path.clone().into_boxed_path()))), "Hello bob!\n");
    }
    assert_eq!(host.terminate(), 0);
    assert!(paths.iter().all(|path| path.exists()));
}
