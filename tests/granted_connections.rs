//! Connections that a guest was granted: to which addresses, by which names, and to no other.

use crate::{
    harness::{Setup, directory, wait_for},
    reach::{Guest, Server},
};
use nix::sys::signal::Signal;
use std::{fs, path::Path, process::Command};

#[test]
fn a_guest_connects_to_granted_addresses_only() {
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
        // WASI has no mapped addresses.
        (&mapped, "invalid-argument"),
        (&format!("connect 0.0.0.0:{}", other.port), "invalid-argument"),
        // The calls that a connection needs, and none that accepts others.
        ("bind 0.0.0.0:0", "ok"),
        (&format!("bind 127.0.0.1:{}", other.port), "access-denied"),
        ("listen 0.0.0.0:0", "access-denied"),
        ("listen 127.0.0.1:0", "access-denied"),
        ("udp", "access-denied"),
        // No name was granted, and an address needs no lookup.
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
fn only_granted_names_are_looked_up() {
    let granted = Server::on("127.0.0.1:0");
    let other = Server::on("127.0.0.1:0");
    let host = Setup::serving("reach").option("--guest-connect", format!("localhost:{}", granted.port)).start();
    let mut guest = Guest::of(&host);
    for name in ["localhost", "LocalHost", "localhost."] {
        assert!(guest.run(&format!("lookup {name}")).contains("127.0.0.1"), "{name}");
    }
    for name in [
        "localhost.localdomain",
        "other.test",
        "secret.in.a.name.evil.test",
        "lo\u{441}alhost",
        "[::1",
        "ip6-localhost",
    ] {
        assert_eq!(guest.run(&format!("lookup {name}")), "access-denied", "{name}");
    }
    guest.answers(&[
        (&format!("connect {}", granted.address), "ok"),
        (&format!("connect {}", other.address), "access-denied"),
    ]);
    other.was_left_alone();
}

/// A resolver for one host alone: its own /etc/hosts, in its own namespace.
fn with_own_hosts(setup: Setup, hosts: &Path) -> Setup {
    let mount = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
    setup.by_way_of(["unshare", "--mount", "sh", "-c", &mount, "sh"])
}

#[test]
fn a_name_that_changes_its_answer_leads_nowhere_new() {
    let may = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        crate::harness::cannot("the kernel refuses a mount namespace (unshare --mount)");
        return;
    }
    let internal = Server::on("127.0.0.1:0");
    let files = directory();
    let hosts = files.path().join("hosts");
    // In place, as the file itself is mounted.
    let answer = |db: &str, api: &str| fs::write(&hosts, format!("{db} db.test\n{api} api.test\n")).unwrap();
    answer("127.0.0.1", "192.0.2.1");
    let setup = Setup::serving("reach")
        .option("--guest-connect", format!("db.test:{}", internal.port))
        .option("--guest-connect", "api.test:*");
    let host = with_own_hosts(setup, &hosts).start();
    host.logged(&["name=\"db.test\"", "127.0.0.1", "networks=\"on this machine\""]);
    host.logged(&["name=\"api.test\"", "192.0.2.1", "networks=\"on the internet\""]);
    let mut guest = Guest::of(&host);
    let connect = format!("connect {}", internal.address);
    guest.answers(&[("lookup db.test", "127.0.0.1"), (&connect, "ok"), ("lookup api.test", "192.0.2.1")]);
    internal.was_reached();

    // The grant follows a service that moves. The old address still works for guests that have
    // looked it up already.
    answer("127.0.0.9", "192.0.2.2");
    wait_for("the new address", || (guest.run("lookup db.test") == "127.0.0.9").then_some(()));
    assert_eq!(guest.run(&connect), "ok");
    internal.was_reached();
    wait_for("the other name's address", || (guest.run("lookup api.test") == "192.0.2.2").then_some(()));

    // An attacker points a public name at this machine, which would open every local port.
    answer("127.0.0.9", "127.0.0.1");
    wait_for("the warning", || {
        assert_eq!(guest.run("lookup api.test"), "192.0.2.2");
        host.log().contains("resolved address rejected").then_some(())
    });
    let private = Server::on("127.0.0.1:0");
    assert_eq!(guest.run(&format!("connect {}", private.address)), "access-denied");
    private.was_left_alone();

    // A name that no longer resolves keeps its last addresses.
    fs::write(&hosts, "").unwrap();
    wait_for("the resolver's failure", || {
        assert_eq!(guest.run("lookup api.test"), "192.0.2.2");
        host.log().contains("granted name resolution failed").then_some(())
    });

    // A reload is the operator's confirmation of the new answer.
    answer("127.0.0.9", "127.0.0.1");
    host.signal(Signal::SIGHUP);
    host.logged(&["reloaded"]);
    Guest::of(&host).answers(&[("lookup api.test", "127.0.0.1"), (&format!("connect {}", private.address), "ok")]);
    private.was_reached();
}
