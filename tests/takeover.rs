//! `--handoff-socket` and `--take-over`: two processes that did not start each other, and whoever else comes to the socket.

use crate::{
    harness::{self, Host, Load, Setup, connect, read_to_end, unix_uri, wait_for},
    player::{Player, descriptors, send, wait_for_descriptors},
};
use nix::{
    errno::Errno,
    sys::{
        signal::Signal,
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect as connect_to, recv, socket},
    },
    unistd::geteuid,
};
use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixDatagram, UnixListener},
        },
    },
    path::{Path, PathBuf},
};

const HELLO: &str = r#"{"message":"hello","versions":[1],"release":"0"}"#;

/// Where the hosts of one test meet.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(harness::directory())
    }

    fn door(&self) -> PathBuf {
        self.0.path().join("handoff.sock")
    }

    fn orders(&self) -> PathBuf {
        self.0.path().join("faults")
    }

    fn order(&self, faults: &str) {
        fs::write(self.orders(), faults).unwrap();
    }

    /// A host by one and the same command line, whether it is the first or not.
    fn unit(&self, window: &str) -> Setup {
        Setup::serving("hello")
            .option("--handoff-socket", self.door())
            .option("--take-over", self.door())
            .option("--rollback-window", window)
            .environment("UNINTERRUPTIBLE_FAULTS", self.orders().to_str().unwrap())
    }

    /// Connects as a stranger would, from this process, which must not say a valid `hello`: a host may kill who does.
    fn stranger(&self) -> io::Result<OwnedFd> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect_to(socket.as_raw_fd(), &UnixAddr::new(&self.door())?)?;
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

/// Runs a host that is not to take over: its exit code and what it said.
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
    let bound = fs::metadata(place.door()).unwrap();
    assert!(bound.file_type().is_socket());
    let load = load(&serving);
    for _ in 0..4 {
        let next = taken_over(&unit);
        assert_eq!(next.addresses, serving.addresses);
        assert_eq!(serving.exit_code(), 0, "it said:\n{}", serving.log());
        let found = fs::metadata(place.door()).unwrap();
        assert_eq!((found.ino(), found.mode() & 0o777), (bound.ino(), 0o600));
        load.goes_on(50);
        serving = next;
    }
    load.stop();
    assert_eq!(serving.terminate(), 0);
    assert!(!place.door().exists());
    serving = unit.start();
    serving.logged(&["no predecessor, starting cold"]);
}

#[test]
fn a_dead_socket_is_nobody() {
    let place = Place::new();
    let mut dead = place.unit("0").start();
    dead.kill();
    assert!(place.door().exists());
    place.unit("0").start().logged(&["no predecessor, starting cold"]);
}

#[test]
fn what_is_no_handoff_socket_is_an_error_and_nothing_is_bound() {
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
fn the_path_is_removed_by_who_owns_it_and_only_then() {
    let place = Place::new();
    let mut first = place.unit("60s").start();
    // One that dies, or is rolled back, within the window has never owned the path.
    let mut second = place.unit("60s").start();
    second.logged(&["predecessor watching"]);
    second.kill();
    first.logged(&["successor died, serving again"]);
    assert!(place.door().exists());
    // A path of its own is a successor's to remove, whichever way it goes.
    let elsewhere = place.0.path().join("elsewhere.sock");
    let other = |window| {
        Setup::serving("hello")
            .option("--take-over", place.door())
            .option("--handoff-socket", &elsewhere)
            .option("--rollback-window", window)
            .environment("UNINTERRUPTIBLE_FAULTS", place.orders().to_str().unwrap())
    };
    place.order("successor rollback\n");
    let mut third = other("60s").start();
    assert_eq!(third.exit_code(), 75);
    assert!(place.door().exists() && !elsewhere.exists());
    place.order("");
    let mut fourth = other("60s").start();
    fourth.logged(&["predecessor watching"]);
    // TERM to the predecessor settles, and stops the successor.
    first.signal(Signal::SIGTERM);
    assert_eq!((first.exit_code(), fourth.exit_code()), (0, 0));
    assert!(!place.door().exists() && !elsewhere.exists());
}

#[test]
fn a_socket_that_the_successor_does_not_want_is_removed_when_it_is_settled() {
    let place = Place::new();
    let mut first = place.unit("50ms").start();
    let second = taken_over(&Setup::serving("hello").option("--take-over", place.door()));
    assert_eq!(first.exit_code(), 0);
    wait_for("the end of the path", || (!place.door().exists()).then_some(()));
    assert_eq!(second.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn somebody_elses_file_at_the_path_stays() {
    let place = Place::new();
    let mut host = place.unit("0").start();
    fs::remove_file(place.door()).unwrap();
    let _theirs = UnixListener::bind(place.door()).unwrap();
    assert_eq!(host.terminate(), 0);
    assert!(place.door().exists());
}

#[test]
fn who_has_handed_over_lets_nobody_wait() {
    let place = Place::new();
    let mut first = place.unit("50ms").start();
    let mut held = first.connect();
    held.write_all(b"b").unwrap();
    // Connections are accepted in their order.
    assert_eq!(first.ask("bob\n"), b"Hello bob!\n");
    // Draining, and without a successor that would answer at the socket.
    let second = taken_over(&Setup::serving("hello").option("--take-over", place.door()));
    first.logged(&["handed over"]);
    assert!(matches!(place.stranger(), Err(error) if error.kind() == io::ErrorKind::NotFound));
    held.write_all(b"ob\n").unwrap();
    assert_eq!(read_to_end(&mut held), b"Hello bob!\n");
    assert_eq!(first.exit_code(), 0);
    drop(second);
}

#[test]
fn a_take_over_during_another_is_refused() {
    let place = Place::new();
    let host = place.unit("60s").start();
    let load = load(&host);
    let mut player = Player::connect(&place.door());
    player.say(HELLO);
    assert_eq!(player.hear().unwrap()["message"], "offer");
    let (code, err) = turned_away(&place.unit("60s"));
    assert!(code == 75 && err.contains("the predecessor refused: another restart is under way"), "{code} {err}");
    drop(player);
    host.logged(&["restart failed, still serving", "error=it ended before its \"prepared\""]);

    let mut next = place.unit("60s").start();
    next.logged(&["predecessor watching"]);
    // Whoever of the two hears it.
    let (code, err) = turned_away(&place.unit("60s"));
    assert!(code == 75 && err.contains("the predecessor refused: "), "{code} {err}");
    load.goes_on(50);
    load.stop();
    next.kill();
    host.logged(&["successor died, serving again"]);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn a_successor_that_is_rolled_back_finishes_what_it_has() {
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
        place.order("successor rollback\n");
        next.logged(&["handed back"]);
        place.order("");
        load.goes_on(50);
        held.write_all(b"ob\n").unwrap();
        assert_eq!(read_to_end(&mut held), b"Hello bob!\n");
        assert_eq!(next.exit_code(), 75, "it said:\n{}", next.log());
        host.logged(&["rolled back, serving again"]);
    }
    load.stop();
}

#[test]
fn what_is_queued_while_a_successor_serves_badly_is_served_after_its_yield() {
    let place = Place::new();
    let host = place.unit("60s").start();
    let mut player = Player::connect(&place.door());
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

#[test]
fn strangers_change_nothing() {
    let place = Place::new();
    let mut host = place.unit("50ms").start();
    let before = descriptors(host.pid());

    for _ in 0..50 {
        drop(place.stranger().unwrap());
    }
    for garbage in [&b"\0"[..], b"{}", b"{\"message\":\"serving\"}", b"{\"message\":\"hello\"}", &[b' '; 40 << 10]] {
        send(&place.stranger().unwrap(), garbage, &[]).unwrap();
    }
    wait_for_descriptors(host.pid(), before);

    // Descriptors that nobody asked for are never taken, however many.
    let mine = fs::File::open("/dev/null").unwrap();
    for count in [1, 2, 63, 64, 65, 250] {
        let stranger = place.stranger().unwrap();
        send(&stranger, HELLO.as_bytes(), &vec![mine.as_fd(); count]).unwrap();
        assert!(is_closed(&stranger), "{count}");
        wait_for_descriptors(host.pid(), before);
    }
    host.logged(&["handoff socket: connection failed", "descriptors came with a message that must not have any"]);

    let load = load(&host);
    let silent: Vec<_> = (0..200).map(|_| place.stranger().unwrap()).collect();
    assert!(descriptors(host.pid()) < before + 200, "each of them is held");
    let next = taken_over(&place.unit("50ms"));
    load.goes_on(50);
    load.stop();
    drop(silent);
    assert_eq!(host.exit_code(), 0);
    assert_eq!(host.log().matches("successor connected").count(), 1);
    drop(next);
}

/// Whether the other end has closed a socket without a word.
fn is_closed(socket: &OwnedFd) -> bool {
    matches!(recv(socket.as_raw_fd(), &mut [0], MsgFlags::empty()), Ok(0) | Err(Errno::ECONNRESET))
}

/// Whether this process may do what the test needs; lists what was left out where it may not.
fn is_root(left_out: &str) -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        harness::cannot(format!("only root can try {left_out}"));
    }
    is_root
}

#[test]
fn another_user_gets_nothing() {
    if !is_root("a client of another user") {
        return;
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let place = Place::new();
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let host = place.unit("50ms").start();
    let mut kept_out = Player::connect_by_way_of(&nobody, &place.door());
    assert_eq!(kept_out.hear(), None);
    assert!(!host.settled_log().contains("user rejected"));

    // Where the mode has been widened, the credentials still tell.
    fs::set_permissions(place.door(), fs::Permissions::from_mode(0o666)).unwrap();
    let mut turned_away = Player::connect_by_way_of(&nobody, &place.door());
    assert_eq!(turned_away.hear(), None);
    host.logged(&["handoff socket: user rejected", "uid=65534"]);
    assert!(!host.settled_log().contains("successor connected"));

    // And a host of that user, which cannot even reach the socket, does not start cold.
    fs::set_permissions(place.door(), fs::Permissions::from_mode(0o600)).unwrap();
    if host_is_reachable_for_all() {
        let setup = Setup::bare()
            .by_way_of(nobody)
            .option("--plugin", harness::plugin("hello"))
            .option("--bind", "tcp://127.0.0.1:0")
            .option("--cache-dir", "none")
            .option("--take-over", place.door());
        let (code, err) = self::turned_away(&setup);
        assert!(code == 3 && err.contains("Permission denied"), "{code} {err}");
    }
}

fn host_is_reachable_for_all() -> bool {
    let all_the_way =
        |path: &Path| path.ancestors().all(|step| fs::metadata(step).is_ok_and(|step| step.mode() & 0o001 != 0));
    all_the_way(Path::new(env!("CARGO_BIN_EXE_uninterruptible-host")))
        && all_the_way(harness::plugin("hello").parent().unwrap())
}

/// A program that starts the host in a pid namespace of its own, as its first process.
fn in_a_pid_namespace() -> [OsString; 5] {
    ["unshare", "--pid", "--fork", "--kill-child=KILL", "--"].map(OsString::from)
}

#[test]
fn a_successor_in_another_pid_namespace_takes_over() {
    if !is_root("a pid namespace") {
        return;
    }
    let place = Place::new();
    let mut first = place.unit("200ms").start();
    let load = load(&first);
    let mut second = taken_over(&place.unit("60s").by_way_of(in_a_pid_namespace()));
    load.goes_on(50);
    assert_eq!(first.exit_code(), 0);
    load.goes_on(50);

    // Seen from inside, the third is no process at all, so that it could not be watched: the second settles at once, though its
    // window is the same.
    let third = taken_over(&place.unit("60s"));
    second.logged(&["successor serving successor=0"]);
    load.goes_on(50);
    load.stop();
    assert_eq!(second.exit_code(), 0);
    drop(third);
}
