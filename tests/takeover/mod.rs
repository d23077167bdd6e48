//! `--handoff-socket` and `--take-over`: two processes that did not start each other.

mod strangers;

use crate::{
    harness::{self, Host, Load, Setup, connect, read_to_end, unix_uri, wait_for},
    player::Player,
};
use nix::sys::{
    signal::Signal,
    socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, socket},
};
use std::{
    fs,
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixDatagram, UnixListener},
        },
    },
    path::PathBuf,
};

const HELLO: &str = r#"{"message":"hello","versions":[1],"release":"0"}"#;

/// The directory in which the hosts of one test meet.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(harness::directory())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("handoff.sock")
    }

    fn faults(&self) -> PathBuf {
        self.0.path().join("faults")
    }

    fn inject(&self, faults: &str) {
        fs::write(self.faults(), faults).unwrap();
    }

    /// A host with the same command line for the first start and for a takeover.
    fn unit(&self, window: &str) -> Setup {
        Setup::serving("hello")
            .option("--handoff-socket", self.socket())
            .option("--take-over", self.socket())
            .option("--rollback-window", window)
            .environment("UNINTERRUPTIBLE_FAULTS", self.faults().to_str().unwrap())
    }

    /// Connects as a stranger, from this process. It must not send a valid `hello`, since a host
    /// may kill a successor.
    fn stranger(&self) -> io::Result<OwnedFd> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect_to(socket.as_raw_fd(), &UnixAddr::new(&self.socket())?)?;
        Ok(socket)
    }
}

fn load(host: &Host) -> Load {
    Load::start(host.addresses[0], 8, "bob\n", "Hello bob!\n")
}

/// Starts a host that takes over, and waits until it is the service.
fn taken_over(setup: &Setup) -> Host {
    let host = setup.start();
    host.logged(&["restart settled"]);
    host
}

/// Runs a host that must not take over, and returns its exit code and its log.
fn turned_away(setup: &Setup) -> (i32, String) {
    let (code, out, err) = setup.run();
    assert_eq!(out, "", "it listened; it said:\n{err}");
    (code, err)
}

#[test]
fn one_command_line_starts_cold_and_takes_over_again_and_again() {
    let place = Place::new();
    let unit = place.unit("50ms");
    let mut serving = unit.start();
    serving.logged(&["INFO", "no predecessor, starting cold"]);
    let bound = fs::metadata(place.socket()).unwrap();
    assert!(bound.file_type().is_socket());
    let load = load(&serving);
    for _ in 0..4 {
        let next = taken_over(&unit);
        assert_eq!(next.addresses, serving.addresses);
        assert_eq!(serving.exit_code(), 0, "it said:\n{}", serving.log());
        let found = fs::metadata(place.socket()).unwrap();
        assert_eq!((found.ino(), found.mode() & 0o777), (bound.ino(), 0o600));
        load.goes_on(50);
        serving = next;
    }
    load.stop();
    assert_eq!(serving.terminate(), 0);
    assert!(!place.socket().exists());
    serving = unit.start();
    serving.logged(&["no predecessor, starting cold"]);
}

#[test]
fn a_dead_socket_is_not_a_predecessor() {
    let place = Place::new();
    let mut dead = place.unit("0").start();
    dead.kill();
    assert!(place.socket().exists());
    place.unit("0").start().logged(&["no predecessor, starting cold"]);
}

#[test]
fn a_path_that_is_not_a_handoff_socket_is_an_error_before_binding() {
    let directory = harness::directory();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("regular"), "kept").unwrap();
    let _stream = UnixListener::bind(path("stream")).unwrap();
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    for name in ["regular", "stream", "datagram", "", "regular/below"] {
        let bound = path("bound");
        let setup = Setup::serving("hello").option("--bind", unix_uri(&bound)).option("--take-over", path(name));
        let (code, err) = turned_away(&setup);
        if name.is_empty() {
            assert_eq!(code, 2, "{err}");
        } else {
            assert!(
                code == 3 && err.contains(&format!("--take-over {}: ", path(name).display())),
                "{name}: {code} {err}"
            );
        }
        assert!(!bound.exists(), "{name}");
    }
    assert_eq!(fs::read(path("regular")).unwrap(), b"kept");
}

#[test]
fn only_its_owner_removes_the_path() {
    let place = Place::new();
    let mut first = place.unit("60s").start();
    // A successor that dies, or rolls back, within the window has never owned the path.
    let mut second = place.unit("60s").start();
    second.logged(&["predecessor watching"]);
    second.kill();
    first.logged(&["successor died, serving again"]);
    assert!(place.socket().exists());
    // A successor removes a path of its own in either case.
    let elsewhere = place.0.path().join("elsewhere.sock");
    let other = |window| {
        Setup::serving("hello")
            .option("--take-over", place.socket())
            .option("--handoff-socket", &elsewhere)
            .option("--rollback-window", window)
            .environment("UNINTERRUPTIBLE_FAULTS", place.faults().to_str().unwrap())
    };
    place.inject("successor rollback\n");
    let mut third = other("60s").start();
    assert_eq!(third.exit_code(), 75);
    assert!(place.socket().exists() && !elsewhere.exists());
    place.inject("");
    let mut fourth = other("60s").start();
    fourth.logged(&["predecessor watching"]);
    // TERM to the predecessor settles, and stops the successor.
    first.signal(Signal::SIGTERM);
    assert_eq!((first.exit_code(), fourth.exit_code()), (0, 0));
    assert!(!place.socket().exists() && !elsewhere.exists());
}

#[test]
fn a_socket_that_the_successor_drops_is_removed_when_the_restart_settles() {
    let place = Place::new();
    let mut first = place.unit("50ms").start();
    let second = taken_over(&Setup::serving("hello").option("--take-over", place.socket()));
    assert_eq!(first.exit_code(), 0);
    wait_for("the end of the path", || (!place.socket().exists()).then_some(()));
    assert_eq!(second.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn another_process_file_at_the_path_stays() {
    let place = Place::new();
    let mut host = place.unit("0").start();
    fs::remove_file(place.socket()).unwrap();
    let _theirs = UnixListener::bind(place.socket()).unwrap();
    assert_eq!(host.terminate(), 0);
    assert!(place.socket().exists());
}

#[test]
fn a_process_that_has_handed_over_accepts_no_successor() {
    let place = Place::new();
    let mut first = place.unit("50ms").start();
    let mut held = first.connect();
    held.write_all(b"b").unwrap();
    // The host accepts connections in their order.
    assert_eq!(first.ask("bob\n"), b"Hello bob!\n");
    // It drains, and its successor does not listen at the handoff socket.
    let second = taken_over(&Setup::serving("hello").option("--take-over", place.socket()));
    first.logged(&["handed over"]);
    assert!(matches!(place.stranger(), Err(error) if error.kind() == io::ErrorKind::NotFound));
    held.write_all(b"ob\n").unwrap();
    assert_eq!(read_to_end(&mut held), b"Hello bob!\n");
    assert_eq!(first.exit_code(), 0);
    drop(second);
}

#[test]
fn a_takeover_during_another_is_rejected() {
    let place = Place::new();
    let host = place.unit("60s").start();
    let load = load(&host);
    let mut player = Player::connect(&place.socket());
    player.say(HELLO);
    assert_eq!(player.hear().unwrap()["message"], "offer");
    let (code, err) = turned_away(&place.unit("60s"));
    assert!(code == 75 && err.contains("the predecessor refused: another restart is under way"), "{code} {err}");
    drop(player);
    host.logged(&["restart failed, still serving", "error=it ended before its \"prepared\""]);

    let mut next = place.unit("60s").start();
    next.logged(&["predecessor watching"]);
    // Either of the two may receive the connection.
    let (code, err) = turned_away(&place.unit("60s"));
    assert!(code == 75 && err.contains("the predecessor refused: "), "{code} {err}");
    load.goes_on(50);
    load.stop();
    next.kill();
    host.logged(&["successor died, serving again"]);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn a_rolled_back_successor_drains() {
    let place = Place::new();
    let host = place.unit("60s").start();
    let load = load(&host);
    for _ in 0..3 {
        let mut next = place.unit("60s").start();
        next.logged(&["predecessor watching"]);
        load.goes_on(50);
        let mut held = connect(host.addresses[0]);
        held.write_all(b"b").unwrap();
        load.goes_on(50);
        place.inject("successor rollback\n");
        next.logged(&["handed back"]);
        place.inject("");
        load.goes_on(50);
        held.write_all(b"ob\n").unwrap();
        assert_eq!(read_to_end(&mut held), b"Hello bob!\n");
        assert_eq!(next.exit_code(), 75, "it said:\n{}", next.log());
        host.logged(&["rolled back, serving again"]);
    }
    load.stop();
}

#[test]
fn connections_queued_under_a_bad_successor_are_served_after_its_yield() {
    let place = Place::new();
    let host = place.unit("60s").start();
    let mut player = Player::connect(&place.socket());
    player.say(HELLO);
    assert_eq!(player.hear().unwrap()["message"], "offer");
    player.say(r#"{"message":"prepared","claimed":["tcp://127.0.0.1:0#0"],"unclaimed":[]}"#);
    assert_eq!(player.hear().unwrap()["message"], "commit");
    player.say(r#"{"message":"serving"}"#);
    host.logged(&["successor serving"]);
    let mut queued: Vec<_> = (0..8).map(|_| host.connect()).collect();
    for client in &mut queued {
        client.write_all(b"bob\n").unwrap();
    }
    player.say(r#"{"message":"yield"}"#);
    assert_eq!(player.hear().unwrap()["message"], "resumed");
    for client in &mut queued {
        assert_eq!(read_to_end(client), b"Hello bob!\n");
    }
}
