//! Directories that a guest was granted: everything in them, and nothing beyond.

use crate::{
    harness::{Setup, directory, wait_for},
    reach::{Guest, OUTSIDE, Server, Tree, descriptors},
};
use nix::sys::signal::Signal;
use std::{fs, io::Write, os::unix::fs::symlink};

fn stays_inside(guest: &mut Guest) {
    for path in OUTSIDE {
        let answer = guest.run(&format!("read 0:{path}"));
        // A path cannot lead through a file.
        assert!(["not-permitted", "not-directory"].contains(&answer.as_str()), "{path}: {answer}");
        assert_eq!(guest.run(&format!("stat 0:{path}")), answer, "{path}");
        let answer = guest.run(&format!("write 0:{path} mine"));
        assert!(["not-permitted", "not-directory"].contains(&answer.as_str()), "{path}: {answer}");
    }
    guest.answers(&[
        ("read 0:file", "content"),
        ("read 0:deep/deeper/inside", "content"),
        ("read 0:deep/../file", "content"),
        ("below 0:deep ../../other/secret", "not-permitted"),
        ("below 0:deep ../file", "not-permitted"),
        ("no-follow 0:out", "loop"),
        ("read 0:absent", "no-entry"),
        // Opening a pipe without a writer would block.
        ("read 0:pipe", "not-permitted"),
        ("write 0:pipe x", "not-permitted"),
    ]);
}

#[test]
fn a_read_only_grant_forbids_writing() {
    let tree = Tree::new();
    let host = Setup::serving("reach")
        .option("--guest-dir", tree.grant("granted", "/data"))
        .option("--guest-dir", format!("{}:rw", tree.grant("granted/deep", "/deep")))
        .start();
    let mut guest = Guest::of(&host);
    assert_eq!(guest.run("directories"), r#"["/data", "/deep"]"#);
    stays_inside(&mut guest);
    for command in [
        "write 0:file x",
        "write 0:new x",
        "write-by-reading 0:file",
        "truncate 0:file",
        "symlink file 0:link",
        "link 0:file 0:hard",
        "rename 0:file 0:renamed",
        "make-directory 0:made",
        "remove 0:file",
        "touch 0:file",
        // From a read-only directory into a writable one, and back.
        "link 0:file 1:hard",
        "rename 0:file 1:renamed",
        "rename 1:deeper 0:renamed",
    ] {
        let answer = guest.run(command);
        // The first two grants of this file are the same directory: an operation that one forbids
        // is not allowed through the other.
        assert!(["not-permitted", "bad-descriptor"].contains(&answer.as_str()), "{command}: {answer}");
    }
    guest.answers(&[
        ("read 0:file", "content"),
        ("list 0:deep", r#"["deeper"]"#),
        ("read-link 0:out", "../other/secret"),
        ("write 1:new text", "ok"),
        ("read 0:deep/new", "text"),
        // The same from a program that knows nothing of this.
        ("standard-read /data/file", "content"),
        ("standard-read /data/deep/../deep/new", "text"),
        ("standard-read /data/out", "Operation not permitted (os error 63)"),
        ("standard-write /deep/standard text", "ok"),
        ("standard-write /data/standard text", "Operation not permitted (os error 63)"),
        ("standard-list /deep", r#"["deeper", "new", "standard"]"#),
    ]);
    tree.outside_is_as_it_was();
}

#[test]
fn a_writable_grant_does_not_lead_outside() {
    let tree = Tree::new();
    let host = Setup::serving("reach").option("--guest-dir", format!("{}:rw", tree.grant("granted", "/data"))).start();
    let mut guest = Guest::of(&host);
    stays_inside(&mut guest);
    for command in [
        "rename 0:file 0:../other/file",
        "rename 0:../other/secret 0:taken",
        "link 0:../other/secret 0:taken",
        "link 0:file 0:outside/file",
        "make-directory 0:outside/made",
        "remove 0:outside/secret",
        "remove 0:../other/secret",
        "symlink file 0:outside/link",
        "touch 0:out",
    ] {
        assert_eq!(guest.run(command), "not-permitted", "{command}");
    }
    // Links that the guest makes lead no further.
    guest.run("symlink ../other/secret 0:mine");
    assert_eq!(guest.run("read 0:mine"), "not-permitted");
    guest.run("symlink /etc/passwd 0:passwd");
    assert!(["not-permitted", "no-entry"].contains(&guest.run("read 0:passwd").as_str()));
    guest.answers(&[
        ("symlink .. 0:deep/up", "ok"),
        ("read 0:deep/up/file", "content"),
        ("read 0:deep/up/../other/secret", "not-permitted"),
        // A hard link to a link is that link, not its target.
        ("link 0:out 0:hard", "ok"),
        ("read 0:hard", "not-permitted"),
        // A directory that was opened, then moved.
        ("rename 0:deep/deeper 0:moved", "ok"),
        ("read 0:moved/inside", "not-permitted"),
        ("touch 0:pipe", "ok"),
        ("touch 0:file", "ok"),
        ("write 0:new text", "ok"),
        ("read 0:new", "text"),
        ("truncate 0:new", "ok"),
        ("read 0:new", ""),
        ("remove 0:new", "ok"),
        ("read 0:new", "no-entry"),
    ]);
    tree.outside_is_as_it_was();
}

#[test]
fn a_granted_path_is_resolved_at_load_and_not_later() {
    let tree = Tree::new();
    fs::create_dir(tree.path("granted/next")).unwrap();
    fs::write(tree.path("granted/next/file"), "the next content").unwrap();
    symlink("granted", tree.path("current")).unwrap();
    let host = Setup::serving("reach").option("--guest-dir", tree.grant("current", "/data")).start();
    assert_eq!(Guest::of(&host).run("read 0:file"), "content");
    symlink("granted/next", tree.path("draft")).unwrap();
    fs::rename(tree.path("draft"), tree.path("current")).unwrap();
    assert_eq!(Guest::of(&host).run("read 0:file"), "content");
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    assert_eq!(Guest::of(&host).run("read 0:file"), "the next content");
}

#[test]
fn a_guests_descriptors_are_limited() {
    let tree = Tree::new();
    let server = Server::on("127.0.0.1:0");
    let host = Setup::serving("reach")
        .option("--guest-dir", tree.grant("granted", "/data"))
        .option("--guest-connect", format!("127.0.0.1:{}", server.port))
        .start();
    let before = descriptors(&host);
    let mut guest = Guest::of(&host);
    guest.answers(&[
        ("hold 0:file 100", "16 then quota"),
        // A closed descriptor frees its place.
        ("hold-streams 0:file 100", "16 then quota"),
        ("again-and-again 0:file 1000", "ok"),
        ("sockets 100", "16 then new-socket-limit"),
        (&format!("connect {} 100", server.address), "16 then new-socket-limit"),
        ("hold 0:file 10", "10"),
    ]);
    // Other connections have places of their own.
    let mut others: Vec<_> = (0..8).map(|_| Guest::of(&host)).collect();
    for other in &mut others {
        assert_eq!(other.run("hold 0:file 16"), "16");
    }
    drop((guest, others));
    wait_for("descriptors to be closed", || (descriptors(&host) <= before).then_some(()));
}

#[test]
fn a_long_directory_is_not_listed() {
    let files = directory();
    for number in 0..8193 {
        fs::write(files.path().join(number.to_string()), "").unwrap();
    }
    let grant = format!("{}::/data", files.path().display());
    for (guest, refused) in [("reach", "quota"), ("reach-async", "ErrorCode::Quota")] {
        let host = Setup::serving(guest).option("--guest-dir", grant.clone()).start();
        assert_eq!(Guest::of(&host).run("list 0:."), refused);
    }
    fs::remove_file(files.path().join("0")).unwrap();
    let host = Setup::serving("reach").option("--guest-dir", grant).start();
    assert!(Guest::of(&host).run("list 0:.").ends_with("\"999\"]"));
}

/// Each stream may hold memory of the host, so the number of a guest's streams is limited.
#[test]
fn a_guest_that_hoards_streams_is_ended() {
    let tree = Tree::new();
    let host = Setup::serving("reach").option("--guest-dir", tree.grant("granted", "/data")).start();
    let mut other = Guest::of(&host);
    let mut hoarder = Guest::of(&host);
    assert_eq!(hoarder.run("hoard-streams 0:file 200"), "200");
    assert_eq!(hoarder.run("hoard-streams 0:file 300"), "");
    host.logged(&["reason=trap"]);
    assert_eq!(other.run("read 0:file"), "content");
}

/// The CPU limit does not see the work of opening and closing files; it must not keep others from
/// their share.
#[test]
fn guests_that_only_open_files_do_not_delay_others() {
    let tree = Tree::new();
    let host = Setup::serving("reach")
        .option("--guest-dir", tree.grant("granted", "/data"))
        .option("--idle-timeout", "3s")
        .start();
    let busy: Vec<_> = (0..16)
        .map(|_| {
            let mut guest = Guest::of(&host);
            guest.0.write_all(b"again-and-again 0:file 100000000\n").unwrap();
            guest
        })
        .collect();
    for _ in 0..50 {
        Guest::of(&host).answers(&[("read 0:file", "content"), ("arguments", "[]")]);
    }
    // The time limits end them in any state.
    wait_for("their end", || (host.log().matches("reason=idle").count() >= busy.len()).then_some(()));
}
