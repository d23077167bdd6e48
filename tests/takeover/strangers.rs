//! Strangers, other users and other namespaces at the handoff socket.

use super::{HELLO, Place, load, taken_over, turned_away};
use crate::{
    harness::{self, Setup},
    player::{Player, descriptors, send, wait_for_descriptors},
};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
    unistd::geteuid,
};
use std::{
    ffi::OsString,
    fs,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
};

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

    // The host closes unexpected descriptors, whatever their number.
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

/// Whether the other end has closed a socket without a message.
fn is_closed(socket: &OwnedFd) -> bool {
    matches!(recv(socket.as_raw_fd(), &mut [0], MsgFlags::empty()), Ok(0) | Err(Errno::ECONNRESET))
}

/// Whether this process may do what the test needs; lists the skipped part if it may not.
fn is_root(left_out: &str) -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        harness::cannot(format!("only root can try {left_out}"));
    }
    is_root
}

#[test]
fn another_user_cannot_take_over() {
    if !is_root("a client of another user") {
        return;
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let place = Place::new();
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let host = place.unit("50ms").start();
    let mut kept_out = Player::connect_by_way_of(&nobody, &place.socket());
    assert_eq!(kept_out.hear(), None);
    assert!(!host.settled_log().contains("user rejected"));

    // With a wider mode, the credentials still decide.
    fs::set_permissions(place.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let mut turned_away = Player::connect_by_way_of(&nobody, &place.socket());
    assert_eq!(turned_away.hear(), None);
    host.logged(&["handoff socket: user rejected", "uid=65534"]);
    assert!(!host.settled_log().contains("successor connected"));

    // And a host of that user, which cannot even reach the socket, does not start cold.
    fs::set_permissions(place.socket(), fs::Permissions::from_mode(0o600)).unwrap();
    if host_is_reachable_for_all() {
        let setup = Setup::bare()
            .by_way_of(nobody)
            .option("--plugin", harness::plugin("hello"))
            .option("--bind", "tcp://127.0.0.1:0")
            .option("--cache-dir", "none")
            .option("--take-over", place.socket());
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

/// A program that starts the host as the first process of a pid namespace.
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

    // From inside, the third process has no pid, so it cannot be watched: the second settles at
    // once, though its window is the same.
    let third = taken_over(&place.unit("60s"));
    second.logged(&["successor serving successor=0"]);
    load.goes_on(50);
    load.stop();
    assert_eq!(second.exit_code(), 0);
    drop(third);
}
