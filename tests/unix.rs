//! Unix listeners: their paths, their modes, conflicts at a path, and real clients.

use crate::harness::{Address, Host, Setup, Transport, connect, directory, plugin, read_to_end, unix_uri, wait_for};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
};

/// Serves `hello` at `path`, with a query appended to the URI.
fn at(path: &Path, rest: &str) -> Setup {
    let setup = Setup::bare().option("--plugin", plugin("hello")).option("--log-level", "debug");
    setup.option("--bind", unix_uri(path) + rest)
}

/// Runs a host that the system must reject, with one line that names the URI and has `needle`.
fn refused(path: &Path, needle: &str) {
    let (code, out, err) = at(path, "").run();
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    let complaints: Vec<&str> = err.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(complaints.len(), 1, "one line: {err}");
    assert!(complaints[0].contains(&format!("--bind {}: ", unix_uri(path))), "{err}");
    assert!(complaints[0].contains(needle), "{needle:?} is not in {err}");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_ready_line_has_the_path_and_the_path_goes_with_the_host() {
    let directory = directory();
    let path = directory.path().join("host.sock");
    let mut host = at(&path, "?mode=0600").option("--bind", "tcp://127.0.0.1:0").start();
    assert_eq!(host.addresses[0], Address::Unix(Box::leak(path.clone().into_boxed_path())));
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    let mut beside = connect(host.addresses[1]);
    beside.write_all(b"bob\n").unwrap();
    assert_eq!(read_to_end(&mut beside), b"Hello bob!\n");
    assert_eq!(host.terminate(), 0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn the_mode_of_a_socket_follows_the_option_or_the_umask() {
    let directory = directory();
    for (query, expected) in [("?mode=0660", 0o660), ("?mode=600", 0o600), ("?mode=0777", 0o777)] {
        let path = directory.path().join("host.sock");
        let host = at(&path, query).start();
        assert_eq!(mode(&path), expected, "{query}");
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    }
    let path = directory.path().join("default.sock");
    let _host = at(&path, "").start();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    assert_eq!(mode(&path), 0o777 & !u32::from_str_radix(mask.trim(), 8).unwrap());
}

#[test]
fn the_socket_of_a_host_that_was_killed_is_replaced() {
    let directory = directory();
    let path = directory.path().join("host.sock");
    let mut killed = at(&path, "").start();
    killed.kill();
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket(), "it is still there");
    let host = at(&path, "?mode=0666").start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    assert_eq!(mode(&path), 0o666);
}

#[test]
fn a_live_socket_is_left_to_its_host() {
    let directory = directory();
    let path = directory.path().join("host.sock");
    let host = at(&path, "").start();
    refused(&path, "another process listens there: stop it, or bind another path");
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n", "it serves on");

    let full = directory.path().join("full.sock");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&full).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let _waiting = UnixStream::connect(&full).unwrap();
    refused(&full, "another process listens there");

    let datagrams = directory.path().join("datagrams.sock");
    let _datagrams = UnixDatagram::bind(&datagrams).unwrap();
    refused(&datagrams, "another process listens there");
}

#[test]
fn a_path_that_is_not_a_socket_is_rejected_and_untouched() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("file"), "precious").unwrap();
    fs::create_dir(path("directory")).unwrap();
    drop(UnixListener::bind(path("dead.sock")).unwrap());
    std::os::unix::fs::symlink(path("dead.sock"), path("link")).unwrap();
    std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
    for name in ["file", "directory", "link", "dangling"] {
        refused(
            &path(name),
            "the path is not a socket, and the host does not replace it: move it away, or bind another path",
        );
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 5);
}

#[test]
fn an_unusable_directory_is_named_with_a_remedy() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    refused(&path("absent/host.sock"), "its directory does not exist: create it");
    fs::write(path("file"), "").unwrap();
    refused(&path("file/host.sock"), "its directory is not a directory: create it");
    let claimed = fs::File::create(path(".host.sock.lock")).unwrap();
    claimed.lock().unwrap();
    refused(&path("host.sock"), "another process is about to listen there, and has locked ");
    refused(&path("host.sock"), "/.host.sock.lock for 2 s: retry later");
    drop(claimed);

    fs::create_dir(path("closed")).unwrap();
    fs::set_permissions(path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(path("closed/probe"), "").is_ok() {
        crate::harness::cannot("root can write everywhere");
        return;
    }
    refused(&path("closed/host.sock"), "this user must be able to write to its directory");
}

#[test]
fn a_host_that_fails_to_start_leaves_no_socket_behind() {
    let directory = directory();
    let path = directory.path().join("host.sock");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", taken.local_addr().unwrap());
    let (code, _, err) = at(&path, "").option("--bind", &address).run();
    assert_eq!(code, 3, "{err}");
    assert!(!path.exists());
}

#[test]
fn one_of_concurrent_hosts_gets_the_path() {
    let directory = directory();
    let path = directory.path().join("host.sock");
    drop(UnixListener::bind(&path).unwrap());
    let mut hosts: Vec<_> = (0..4).map(|_| at(&path, "").spawn()).collect();
    // The others find a live socket.
    wait_for("one that serves", || {
        (hosts.iter().filter(|host| host.log().contains("another process listens there")).count() == 3).then_some(())
    });
    let mut codes: Vec<i32> = hosts
        .iter_mut()
        .map(|host| if host.log().contains("another process") { host.exit_code() } else { host.terminate() })
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 3, 3, 3]);
}

#[test]
fn a_path_that_leads_elsewhere_is_not_removed() {
    let directory = directory();
    let path = directory.path().join("host.sock");
    let mut host = at(&path, "").start();
    fs::remove_file(&path).unwrap();
    let theirs = UnixListener::bind(&path).unwrap();
    assert_eq!(host.terminate(), 0);
    assert!(path.exists());
    UnixStream::connect(&path).unwrap();
    drop(theirs);

    fs::remove_file(&path).unwrap();
    let mut host = at(&path, "").start();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert_eq!(host.terminate(), 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

/// Sends nothing, and returns the guest's facts about it.
fn facts_of(mut stream: UnixStream) -> String {
    stream.shutdown(Shutdown::Write).unwrap();
    String::from_utf8(read_to_end(&mut stream)).unwrap()
}

#[test]
fn a_guest_learns_its_peer() {
    for name in ["facts", "facts-async"] {
        let host = Host::serving_over(Transport::Unix, name);
        let Address::Unix(path) = host.addresses[0] else { panic!("a unix listener") };
        let here = unix_uri(path);

        let facts = facts_of(UnixStream::connect(path).unwrap());
        for line in
            ["peer-address=unix://\n".to_owned(), format!("local-address={here}\n"), format!("listener={here}\n")]
        {
            assert!(facts.contains(&line), "{line:?} is not in {facts}");
        }

        let client = path.with_file_name("client");
        for (address, shown) in [
            (socket2::SockAddr::unix(&client).unwrap(), unix_uri(&client)),
            // Escaped, to keep it on one line.
            (
                socket2::SockAddr::unix(format!("\0{name}\n{}", host.pid())).unwrap(),
                format!("unix://@{name}\\n{}", host.pid()),
            ),
        ] {
            let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            socket.bind(&address).unwrap();
            socket.connect(&socket2::SockAddr::unix(path).unwrap()).unwrap();
            let facts = facts_of(std::os::fd::OwnedFd::from(socket).into());
            assert!(facts.contains(&format!("peer-address={shown}\n")), "{shown:?} is not in {facts}");
        }
        host.logged(&["connection finished", &format!("listener={here}"), "peer=unix:// "]);
    }
}

/// Runs an installed client with `input`, and returns its output.
fn client(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}, which this test needs: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
    output
}

#[test]
fn socat_and_nc_are_served() {
    for (name, input, answer) in [("hello", "bob\n", "Hello bob!\n"), ("echo", "this and that", "this and that")] {
        let host = Host::serving_over(Transport::Unix, name);
        let Address::Unix(path) = host.addresses[0] else { panic!("a unix listener") };
        let path = path.to_str().unwrap();
        assert_eq!(client("socat", &["-t60", "-", &format!("UNIX-CONNECT:{path}")], input), answer);
        assert_eq!(client("nc", &["-N", "-U", path], input), answer);
    }
}

#[test]
fn a_unix_listener_serves_concurrent_clients_and_its_queue_at_the_end() {
    let mut host = Setup::serving_over(Transport::Unix, "hello").option("--max-connections", "64").start();
    let address = host.addresses[0];
    let clients: Vec<_> = (0..64)
        .map(|_| {
            std::thread::spawn(move || {
                let mut answered = 0;
                while let Ok(mut stream) = address.try_connect() {
                    stream.write_all(b"bob\n").unwrap();
                    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    wait_for("a load", || (host.log().matches("connection finished").count() > 200).then_some(()));
    host.signal(Signal::SIGTERM);
    assert_eq!(host.exit_code(), 0);
    let answered: u64 =
        clients.into_iter().map(|client| client.join().expect("every client that connected is answered")).sum();
    assert!(answered > 200);
}
