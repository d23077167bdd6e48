//! What a guest gets: nothing that was not granted, and of what was granted nothing beyond. The guests `reach` and `reach-async`
//! try to get more, from the inside.

use crate::{
    harness::{Host, Setup, Stream, directory, plugin, read_line, read_to_end, wait_for},
    service::Service,
};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use std::{
    fs,
    io::{ErrorKind, Write},
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
};
use tempfile::TempDir;

/// One guest, which does what it is told and says how that went.
struct Guest(Stream);

impl Guest {
    fn of(host: &Host) -> Self {
        Self(host.connect())
    }

    fn tell(&mut self, order: &str) -> String {
        // In one piece, for which no acknowledgement is waited.
        self.0.write_all(format!("{order}\n").as_bytes()).unwrap();
        read_line(&mut self.0).trim_end().to_owned()
    }

    /// Each order with its answer.
    fn answers(&mut self, expected: &[(&str, &str)]) {
        for (order, answer) in expected {
            assert_eq!(self.tell(order), *answer, "{order}");
        }
    }
}

/// A server that is not for guests, unless a test has granted it.
struct Server {
    listener: TcpListener,
    address: String,
    port: u16,
}

impl Server {
    fn on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address: address.to_string(), port: address.port() }
    }

    fn was_left_alone(&self) {
        let accepted = self.listener.accept();
        assert!(accepted.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{} was reached", self.address);
    }

    fn was_reached(&self) {
        wait_for("a connection from a guest", || self.listener.accept().ok());
    }
}

/// A directory that is granted and what lies beside it, all that there is to reach.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(directory());
        fs::create_dir_all(tree.path("granted/deep/deeper")).unwrap();
        fs::create_dir(tree.path("other")).unwrap();
        fs::write(tree.path("granted/file"), "content").unwrap();
        fs::write(tree.path("other/secret"), "secret").unwrap();
        symlink("../other/secret", tree.path("granted/out")).unwrap();
        symlink(tree.path("other/secret"), tree.path("granted/absolute")).unwrap();
        symlink("../../file", tree.path("granted/deep/deeper/inside")).unwrap();
        symlink("../other", tree.path("granted/outside")).unwrap();
        symlink("/proc/self/environ", tree.path("granted/magic")).unwrap();
        mkfifo(&tree.path("granted/pipe"), Mode::S_IRWXU).unwrap();
        tree
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.0.path().join(below)
    }

    fn grant(&self, below: &str, guest: &str) -> String {
        format!("{}::{guest}", self.path(below).display())
    }

    /// Nothing outside of the granted directory was read, written, made or removed.
    fn outside_is_as_it_was(&self) {
        assert_eq!(fs::read_to_string(self.path("other/secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.path("other")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 2);
    }
}

/// What is the same whatever the access: none of these may be opened, by any way.
const OUTSIDE: [&str; 11] = [
    "../other/secret",
    "deep/../../other/secret",
    "deep/deeper/../../../other/secret",
    "..",
    "/etc/passwd",
    "/",
    "out",
    "absolute",
    "outside/secret",
    "magic",
    "deep/deeper/inside/../../../../other/secret",
];

fn stays_inside(guest: &mut Guest) {
    for path in OUTSIDE {
        let answer = guest.tell(&format!("read 0:{path}"));
        // Through a file there is no way at all.
        assert!(["not-permitted", "not-directory"].contains(&answer.as_str()), "{path}: {answer}");
        assert_eq!(guest.tell(&format!("stat 0:{path}")), answer, "{path}");
        let answer = guest.tell(&format!("write 0:{path} mine"));
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
        // A pipe without a writer would be waited for.
        ("read 0:pipe", "not-permitted"),
        ("write 0:pipe x", "not-permitted"),
    ]);
}

#[test]
fn nothing_is_granted_that_was_not_said() {
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
fn environment_and_arguments_are_what_was_given_and_no_more() {
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
    assert!(!host.log().contains("s3cret"), "secrets are not for the log");

    // As it is by the next load, for new guests.
    let mut old = Guest::of(&host);
    assert_eq!(old.tell("environment"), given);
    fs::write(&secret, "changed").unwrap();
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    assert!(Guest::of(&host).tell("environment").contains(r#"("TOKEN", "changed")"#));
    assert_eq!(old.tell("environment"), given);
    fs::remove_file(&secret).unwrap();
    host.signal(Signal::SIGHUP);
    host.logged(&["the reload failed", "--guest-env", "TOKEN=@", "cannot be read"]);
    assert!(Guest::of(&host).tell("environment").contains(r#"("TOKEN", "changed")"#));
}

#[test]
fn what_a_restart_hands_over_is_not_for_guests() {
    let setup = Setup::serving("reach").option("--guest-env", "A=1").option("--rollback-window", "50ms");
    let service = Service::start(setup);
    service.restart();
    assert_eq!(Guest::of(&service.host).tell("environment"), r#"[("A", "1")]"#);
}

#[test]
fn a_directory_to_read_is_for_reading() {
    let tree = Tree::new();
    let host = Setup::serving("reach")
        .option("--guest-dir", tree.grant("granted", "/data"))
        .option("--guest-dir", format!("{}:rw", tree.grant("granted/deep", "/deep")))
        .start();
    let mut guest = Guest::of(&host);
    assert_eq!(guest.tell("directories"), r#"["/data", "/deep"]"#);
    stays_inside(&mut guest);
    for order in [
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
        // From one that is read only into one that is not, and back.
        "link 0:file 1:hard",
        "rename 0:file 1:renamed",
        "rename 1:deeper 0:renamed",
    ] {
        let answer = guest.tell(order);
        // The first two directories of this file are one: what is forbidden in the one is no more allowed in the other.
        assert!(["not-permitted", "bad-descriptor"].contains(&answer.as_str()), "{order}: {answer}");
    }
    guest.answers(&[
        ("read 0:file", "content"),
        ("list 0:deep", r#"["deeper"]"#),
        ("read-link 0:out", "../other/secret"),
        ("write 1:new text", "ok"),
        ("read 0:deep/new", "text"),
        // As a program does it that knows nothing of all this.
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
fn a_directory_to_write_is_no_way_out() {
    let tree = Tree::new();
    let host = Setup::serving("reach").option("--guest-dir", format!("{}:rw", tree.grant("granted", "/data"))).start();
    let mut guest = Guest::of(&host);
    stays_inside(&mut guest);
    for order in [
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
        assert_eq!(guest.tell(order), "not-permitted", "{order}");
    }
    // Links of its own making lead no further.
    guest.tell("symlink ../other/secret 0:mine");
    assert_eq!(guest.tell("read 0:mine"), "not-permitted");
    guest.tell("symlink /etc/passwd 0:passwd");
    assert!(["not-permitted", "no-entry"].contains(&guest.tell("read 0:passwd").as_str()));
    guest.answers(&[
        ("symlink .. 0:deep/up", "ok"),
        ("read 0:deep/up/file", "content"),
        ("read 0:deep/up/../other/secret", "not-permitted"),
        // A hard link to a link is that link, not what it leads to.
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
fn a_granted_path_is_followed_when_the_plugin_is_loaded_and_not_later() {
    let tree = Tree::new();
    fs::create_dir(tree.path("granted/next")).unwrap();
    fs::write(tree.path("granted/next/file"), "the next content").unwrap();
    symlink("granted", tree.path("current")).unwrap();
    let host = Setup::serving("reach").option("--guest-dir", tree.grant("current", "/data")).start();
    assert_eq!(Guest::of(&host).tell("read 0:file"), "content");
    symlink("granted/next", tree.path("draft")).unwrap();
    fs::rename(tree.path("draft"), tree.path("current")).unwrap();
    assert_eq!(Guest::of(&host).tell("read 0:file"), "content");
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    assert_eq!(Guest::of(&host).tell("read 0:file"), "the next content");
}

fn descriptors(host: &Host) -> usize {
    fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count()
}

#[test]
fn a_guest_holds_so_many_descriptors_and_no_more() {
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
        // What was closed is free again.
        ("hold-streams 0:file 100", "16 then quota"),
        ("again-and-again 0:file 1000", "ok"),
        ("sockets 100", "16 then new-socket-limit"),
        (&format!("connect {} 100", server.address), "16 then new-socket-limit"),
        ("hold 0:file 10", "10"),
    ]);
    // Others have their own.
    let mut others: Vec<_> = (0..8).map(|_| Guest::of(&host)).collect();
    for other in &mut others {
        assert_eq!(other.tell("hold 0:file 16"), "16");
    }
    drop((guest, others));
    wait_for("descriptors to be closed", || (descriptors(&host) <= before).then_some(()));
}

#[test]
fn what_guests_may_hold_is_reserved_for_each_connection() {
    let files = directory();
    let grant = format!("{}::/data", files.path().display());
    let setup = || Setup::serving("reach").option("--guest-dir", grant.clone()).by_way_of(["prlimit", "--nofile=500"]);
    let (code, _, err) = setup().option("--max-connections", "100").run();
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--max-connections 100") && err.contains("room for 14, since a guest may hold"), "{err}");
    assert!(err.contains("ulimit -n 1959"), "{err}");
    assert_eq!(Guest::of(&setup().start()).tell("list 0:."), "[]");
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
        assert_eq!(Guest::of(&host).tell("list 0:."), refused);
    }
    fs::remove_file(files.path().join("0")).unwrap();
    let host = Setup::serving("reach").option("--guest-dir", grant).start();
    assert!(Guest::of(&host).tell("list 0:.").ends_with("\"999\"]"));
}

#[test]
fn a_guest_connects_where_it_may_and_nowhere_else() {
    let granted = Server::on("127.0.0.1:0");
    let other = Server::on("127.0.0.1:0");
    let elsewhere = Server::on("127.0.0.2:0");
    let six = Server::on("[::1]:0");
    let host = Setup::serving("reach")
        .option("--guest-connect", format!("127.0.0.1:{}", granted.port))
        .option("--guest-connect", "192.0.2.0/24:*,[2001:db8::/32]:443")
        .start();
    let mapped = format!("connect [::ffff:127.0.0.1]:{}", other.port);
    Guest::of(&host).answers(&[
        (&format!("connect {}", granted.address), "ok"),
        (&format!("connect {}", other.address), "access-denied"),
        (&format!("connect {}", elsewhere.address), "access-denied"),
        (&format!("connect 127.0.0.2:{}", granted.port), "access-denied"),
        (&format!("connect {}", six.address), "access-denied"),
        // There are no mapped addresses in WASI.
        (&mapped, "invalid-argument"),
        (&format!("connect 0.0.0.0:{}", other.port), "invalid-argument"),
        // What a connection needs, and nothing that lets others in.
        ("bind 0.0.0.0:0", "ok"),
        (&format!("bind 127.0.0.1:{}", other.port), "access-denied"),
        ("listen 0.0.0.0:0", "access-denied"),
        ("listen 127.0.0.1:0", "access-denied"),
        ("udp", "access-denied"),
        // No name was granted; what is an address needs no looking up.
        ("lookup localhost", "access-denied"),
        ("lookup 127.0.0.1", "127.0.0.1"),
        ("lookup ::1", "::1"),
    ]);
    granted.was_reached();
    for server in [other, elsewhere, six] {
        server.was_left_alone();
    }
    let host =
        Setup::serving("reach").option("--guest-connect", "127.0.0.0/8:*").option("--guest-connect", "[::1]:*").start();
    let (four, six) = (Server::on("127.0.0.3:0"), Server::on("[::1]:0"));
    Guest::of(&host)
        .answers(&[(&format!("connect {}", four.address), "ok"), (&format!("connect {}", six.address), "ok")]);
    four.was_reached();
    six.was_reached();
}

#[test]
fn only_names_that_were_granted_are_looked_up() {
    let granted = Server::on("127.0.0.1:0");
    let other = Server::on("127.0.0.1:0");
    let host = Setup::serving("reach").option("--guest-connect", format!("localhost:{}", granted.port)).start();
    let mut guest = Guest::of(&host);
    for name in ["localhost", "LocalHost", "localhost."] {
        assert!(guest.tell(&format!("lookup {name}")).contains("127.0.0.1"), "{name}");
    }
    for name in [
        "localhost.localdomain",
        "other.test",
        "secret.in.a.name.evil.test",
        "lo\u{441}alhost",
        "[::1",
        "ip6-localhost",
    ] {
        assert_eq!(guest.tell(&format!("lookup {name}")), "access-denied", "{name}");
    }
    guest.answers(&[
        (&format!("connect {}", granted.address), "ok"),
        (&format!("connect {}", other.address), "access-denied"),
    ]);
    other.was_left_alone();
}

/// A resolver for one host alone: its own /etc/hosts, in a namespace of its own.
fn with_own_hosts(setup: Setup, hosts: &Path) -> Setup {
    let mount = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
    setup.by_way_of(["unshare", "--mount", "sh", "-c", &mount, "sh"])
}

#[test]
fn a_name_that_changes_its_answer_leads_nowhere_new() {
    let may = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        eprintln!("skipped: no namespace for a resolver of its own could be made here (unshare --mount)");
        return;
    }
    let internal = Server::on("127.0.0.1:0");
    let files = directory();
    let hosts = files.path().join("hosts");
    // In place, as what is mounted is the file itself.
    let answer = |db: &str, api: &str| fs::write(&hosts, format!("{db} db.test\n{api} api.test\n")).unwrap();
    answer("127.0.0.1", "192.0.2.1");
    let setup = Setup::serving("reach")
        .option("--guest-connect", format!("db.test:{}", internal.port))
        .option("--guest-connect", "api.test:*");
    let host = with_own_hosts(setup, &hosts).start();
    host.logged(&["name=\"db.test\"", "127.0.0.1", "lives on this machine"]);
    host.logged(&["name=\"api.test\"", "192.0.2.1", "lives in the internet"]);
    let mut guest = Guest::of(&host);
    let connect = format!("connect {}", internal.address);
    guest.answers(&[("lookup db.test", "127.0.0.1"), (&connect, "ok"), ("lookup api.test", "192.0.2.1")]);
    internal.was_reached();

    // A service moves, and the grant with it; the address before still serves guests that have looked up already.
    answer("127.0.0.9", "192.0.2.2");
    wait_for("the new address", || (guest.tell("lookup db.test") == "127.0.0.9").then_some(()));
    assert_eq!(guest.tell(&connect), "ok");
    internal.was_reached();
    wait_for("the other name's address", || (guest.tell("lookup api.test") == "192.0.2.2").then_some(()));

    // Somebody points a name of the internet at this machine, whose every port it would open.
    answer("127.0.0.9", "127.0.0.1");
    wait_for("the warning", || {
        assert_eq!(guest.tell("lookup api.test"), "192.0.2.2");
        host.log().contains("is left out: it is on this machine").then_some(())
    });
    let private = Server::on("127.0.0.1:0");
    assert_eq!(guest.tell(&format!("connect {}", private.address)), "access-denied");
    private.was_left_alone();

    // A name that is gone keeps what it had.
    fs::write(&hosts, "").unwrap();
    wait_for("the resolver's failure", || {
        assert_eq!(guest.tell("lookup api.test"), "192.0.2.2");
        host.log().contains("no longer resolved").then_some(())
    });

    // A reload is the operator's word that the answer is right.
    answer("127.0.0.9", "127.0.0.1");
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    Guest::of(&host).answers(&[("lookup api.test", "127.0.0.1"), (&format!("connect {}", private.address), "ok")]);
    private.was_reached();
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
        let answer = guest.tell(&format!("read 0:{path}"));
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
    assert!(guest.tell("lookup localhost").contains("127.0.0.1"));
    let mut guest = Guest::of(&host);
    assert_eq!(guest.tell(&format!("connect {} 100", granted.address)), "16 then ErrorCode::OutOfMemory");
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
fn grants_alone_keep_no_guest_from_starting_late() {
    let tree = Tree::new();
    let host = Setup::serving("hello")
        .option("--guest-env", "A=1")
        .option("--guest-arg", "x")
        .option("--guest-dir", tree.grant("granted", "/data"))
        .option("--guest-connect", "127.0.0.1:1")
        .start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    // The guest that was asked has shown that it waits; from here on nobody has one before its first byte.
    let before = host.status_kib("VmRSS");
    let idle: Vec<_> = (0..200).map(|_| host.connect()).collect();
    wait_for("every connection to be accepted", || (descriptors(&host) > 200).then_some(()));
    assert!((host.status_kib("VmRSS") - before) / 200 <= 8, "an idle connection has a guest");
    drop(idle);
}

/// A host that does not start, for one reason that is told in one line.
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
fn each_grant_that_cannot_be_given_is_named_with_a_remedy() {
    let files = directory();
    let at = |name: &str| files.path().join(name).display().to_string();
    fs::write(at("file"), "x").unwrap();
    fs::write(at("long"), vec![b'x'; (64 << 10) + 1]).unwrap();
    fs::write(at("binary"), [0xff, 0xfe]).unwrap();
    mkfifo(Path::new(&at("pipe")), Mode::S_IRWXU).unwrap();
    for (option, value, remedy) in [
        ("--guest-env", "NAME", "has no value; write NAME=VALUE, or NAME=@FILE"),
        ("--guest-env", "=x", "has no name"),
        ("--guest-env", "", "has no value"),
        ("--guest-env", "A=@", "names no file after the @"),
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
        ("--guest-dir", "/srv::/data:ro", "something else than rw"),
        ("--guest-dir", "/absent::/data", "there is no such directory"),
        ("--guest-dir", &format!("{}::/data", at("file")), "is not a directory"),
        ("--guest-dir", &format!("{}::/data", at("pipe")), "is not a directory"),
        ("--guest-dir", "/proc::/proc", "this one with its secrets"),
        ("--guest-connect", "", "has no port"),
        ("--guest-connect", "db.internal", "has no port"),
        ("--guest-connect", "db.internal:", "no number from 1 to 65535"),
        ("--guest-connect", "db.internal:0", "no number from 1 to 65535"),
        ("--guest-connect", "db.internal:99999", "no number from 1 to 65535"),
        ("--guest-connect", "db.internal:80-90", "once for each port"),
        ("--guest-connect", ":80", "has no host"),
        ("--guest-connect", "*:80", "has no host"),
        ("--guest-connect", "::1:80", "without brackets"),
        ("--guest-connect", "[::1:80", "does not close it"),
        ("--guest-connect", "[db]:80", "no IPv6 address"),
        ("--guest-connect", "10.0.0.1/8:80", "bits beyond its length"),
        ("--guest-connect", "10.0.0.0/33:80", "is not ADDRESS/BITS"),
        ("--guest-connect", "127.1:80", "not written in full"),
        ("--guest-connect", "datenb\u{e4}nke.test:80", "begins with xn--"),
        ("--plugin-sha256", "abc", "is no SHA-256"),
    ] {
        let value_as_said = format!("{value:?}");
        refused(&Setup::serving("hello").argument(format!("{option}={value}")), 2, &[option, &value_as_said, remedy]);
    }
    refused(&Setup::serving("hello").option("--guest-connect", ","), 2, &["--guest-connect \"\"", "has no port"]);
    let twice =
        |option: &str, one: &str, other: &str| Setup::serving("hello").option(option, one).option(option, other);
    refused(&twice("--guest-env", "A=1", "A=2"), 2, &["--guest-env \"A\"", "is given a second time"]);
    refused(&twice("--guest-dir", "/srv::/d", "/tmp::/d:rw"), 2, &["--guest-dir \"/d\"", "is given a second time"]);
    fs::write(at("secret"), vec![b'x'; 64 << 10]).unwrap();
    let much = (0..5).fold(Setup::serving("hello"), |setup, number| {
        setup.option("--guest-env", format!("A{number}=@{}", at("secret")))
    });
    refused(&much, 2, &["--guest-env \"A3\"", "longer than 256 KiB"]);
    // A resolver that is down is no mistake of the operator's: a supervisor is to try again.
    refused(
        &Setup::serving("hello").option("--guest-connect", "no.such.name.invalid:80"),
        3,
        &["--guest-connect", "cannot be resolved"],
    );
}

#[test]
fn another_plugin_than_the_one_that_was_meant_is_refused() {
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
    host.logged(&["the reload failed", &hello, &echo]);
    let mut stream = host.connect();
    stream.write_all(b"bob\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n");
}

/// Each stream may hold memory of the host's, so that a guest may not have them by the thousand.
#[test]
fn a_guest_that_hoards_streams_is_ended() {
    let tree = Tree::new();
    let host = Setup::serving("reach").option("--guest-dir", tree.grant("granted", "/data")).start();
    let mut other = Guest::of(&host);
    let mut hoarder = Guest::of(&host);
    assert_eq!(hoarder.tell("hoard-streams 0:file 200"), "200");
    assert_eq!(hoarder.tell("hoard-streams 0:file 300"), "");
    host.logged(&["reason=trap"]);
    assert_eq!(other.tell("read 0:file"), "content");
}

/// Opening and closing files is work that the CPU limit does not see; it must not keep others from their share.
#[test]
fn guests_that_do_nothing_but_open_files_hold_back_nobody() {
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
    // The limits of time end them, whatever they are doing.
    wait_for("their end", || (host.log().matches("reason=idle").count() >= busy.len()).then_some(()));
}
