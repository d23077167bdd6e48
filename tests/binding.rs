//! Between binding and serving. No client can connect to what a restart binds before the restart is
//! certain. The host leaves a path alone that leads elsewhere by now, and no other process can keep
//! a host from its path.

use crate::{
    harness::{
        Address, Setup, connect, directory, own_addresses, plugin, read_to_end, shared_cache, unix_uri, wait_for,
    },
    service::Service,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{ErrorKind, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

/// A service whose successors bind more than it does.
fn growing(first: &str, others: &[String]) -> Service {
    let binds = others.iter().map(|bind| format!(" --bind {bind}")).collect::<String>();
    let command = format!(
        "{} --plugin {} --cache-dir {} --log-level debug --rollback-window 50ms --bind {first}{binds}",
        env!("CARGO_BIN_EXE_uninterruptible-host"),
        plugin("hello").display(),
        shared_cache().display()
    );
    let setup = Setup::bare().option("--plugin", plugin("hello")).option("--cache-dir", shared_cache());
    let setup = setup.option("--log-level", "debug").option("--rollback-window", "50ms");
    Service::start(setup.option("--bind", first).option("--start-command", command))
}

/// The successor, once it has stopped at the given point.
fn stopped_successor(service: &Service) -> i32 {
    let record = service.host.logged(&["successor started"]);
    let pid = record.rsplit_once("successor=").unwrap().1.parse().unwrap();
    wait_for("a successor that has stopped", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.trim_start().starts_with('T').then_some(())
    });
    pid
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn ask(address: impl Into<Address>) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(b"bob\n").unwrap();
    read_to_end(&mut stream)
}

/// A regression: clients of a new listener connected to a successor that was aborted, and were
/// reset.
#[test]
fn no_client_connects_to_a_new_listener_before_the_restart_is_certain() {
    let directory = directory();
    let ([address], path) = (own_addresses(), directory.path().join("new.sock"));
    let new = [format!("tcp://{address}"), unix_uri(&path)];
    let service = growing("tcp://127.0.0.1:0", &new);
    let refused = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");

    service.inject("successor before-sending prepared stop");
    service.signal(Signal::SIGUSR1);
    let successor = stopped_successor(&service);
    refused(TcpStream::connect(address).unwrap_err());
    refused(UnixStream::connect(&path).unwrap_err());
    assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse, "it is taken all the same");
    assert!(wants(&path).contains("another process is about to listen there"));
    send(successor, Signal::SIGKILL);
    service.host.logged(&["restart failed"]);
    drop(TcpListener::bind(address).unwrap());

    // The next successor replaces the socket that it left behind, and gets as far as committing.
    service.inject("");
    service.restart();
    assert_eq!(ask(address), b"Hello bob!\n");
    assert_eq!(ask(Address::Unix(Box::leak(path.clone().into_boxed_path()))), b"Hello bob!\n");
    drop(service);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

/// The error of a host that cannot listen at a path.
fn wants(path: &Path) -> String {
    let setup = Setup::bare().option("--plugin", plugin("hello")).option("--cache-dir", shared_cache());
    let (code, _, err) = setup.option("--bind", unix_uri(path)).run();
    assert_eq!(code, 3, "{err}");
    err
}

#[test]
fn an_aborted_restart_leaves_no_socket_behind() {
    let directory = directory();
    let (path, taken) = (directory.path().join("new.sock"), TcpListener::bind("127.0.0.1:0").unwrap());
    let service = growing("tcp://127.0.0.1:0", &[unix_uri(&path), format!("tcp://{}", taken.local_addr().unwrap())]);
    let record = service.restart_that_fails();
    assert!(record.contains("another process listens there"), "{record}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// A regression: a successor took any socket at the path for its own, and removed it when it
/// stopped.
#[test]
fn a_path_that_leads_elsewhere_is_left_alone_by_every_generation() {
    let directory = directory();
    let (path, handoff) = (directory.path().join("host.sock"), directory.path().join("handoff.sock"));
    let setup = Setup::serving("hello").option("--bind", unix_uri(&path) + "?mode=0600");
    let setup = setup.option("--rollback-window", "50ms").option("--handoff-socket", &handoff);
    let mut service = Service::start(setup);
    let theirs = [&path, &handoff].map(|path| {
        fs::remove_file(path).unwrap();
        UnixListener::bind(path).unwrap()
    });
    let before = fs::metadata(&path).unwrap().permissions();
    service.restart();
    service.host.logged(&["WARN", "socket path was replaced", "host.sock"]);
    assert_eq!(service.host.exit_code(), 0);
    service.stops();
    assert_eq!(fs::metadata(&path).unwrap().permissions(), before);
    for (path, socket) in [&path, &handoff].into_iter().zip(theirs) {
        UnixStream::connect(path).unwrap();
        socket.accept().unwrap();
    }
}

/// A closing host listens once more, for clients that retry because its queue had no room. An empty
/// last round must not count as cut connections.
#[test]
fn a_queue_that_overflowed_once_does_not_make_a_stop_fail() {
    let setup = Setup::serving("hello").option("--backlog", "1").option("--max-connections", "1");
    let mut host = setup.option("--drain-timeout", "500ms").start();
    let address = socket2::SockAddr::from(host.addresses[0].tcp());
    let client = || {
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        client.connect(&address).ok();
        client
    };
    // The host serves one client, one or two are queued, and the queue rejects the rest.
    let mut first = host.connect();
    let others: Vec<_> = (0..8).map(|_| client()).collect();
    drop(others);
    first.write_all(b"bob\n").unwrap();
    assert_eq!(read_to_end(&mut first), b"Hello bob!\n");
    drop(first);
    // Accepted after all connections that were queued.
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert_eq!(host.terminate(), 0, "{}", host.log());
}

/// A regression: any user that could read the directory could keep hosts from it with a lock.
#[test]
fn a_lock_on_a_directory_does_not_keep_a_host_from_it() {
    let directory = directory();
    let locked = fs::File::open(directory.path()).unwrap();
    locked.lock().unwrap();
    let path = directory.path().join("host.sock");
    let host = Setup::bare().option("--plugin", plugin("hello")).option("--bind", unix_uri(&path)).start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
}
