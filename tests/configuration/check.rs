//! `check` with a configuration file.

use super::{File, quoted};
use crate::{
    certificates,
    harness::{Setup, directory, plugin},
};
use std::{fs, path::Path};

#[test]
fn check_prints_an_equivalent_file() {
    let file = File::saying(&format!(
        "idle-timeout = \"7m\"\n\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\nplugin = {}\n",
        quoted(&plugin("hello"))
    ));
    let check = |path: &Path| {
        let setup = Setup::bare().argument("check").option("--config", path).option("--workers", "3");
        let (code, out, err) = setup.environment("UNINTERRUPTIBLE_GUEST_MEMORY", "32MiB").run();
        assert_eq!(code, 0, "{err}");
        out
    };
    let printed = check(&file.path);
    let comment = |key: &str| {
        let line = printed
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")))
            .unwrap_or_else(|| panic!("{key}: {printed}"));
        line.split_once(" # ").unwrap().1.to_owned()
    };
    assert_eq!(comment("idle-timeout"), format!("{}, line 1", file.path.display()));
    assert_eq!(comment("bind"), format!("{}, line 4", file.path.display()));
    assert_eq!(comment("guest-memory"), "UNINTERRUPTIBLE_GUEST_MEMORY");
    assert_eq!(comment("workers"), "the command line");
    assert_eq!(comment("backlog"), "default");
    let said: Vec<&str> = printed.lines().map(|line| line.split_once(" # ").map_or(line, |(said, _)| said)).collect();
    let again = File::saying(&printed);
    let printed_again = check(&again.path);
    let said_again: Vec<&str> =
        printed_again.lines().map(|line| line.split_once(" # ").map_or(line, |(said, _)| said)).collect();
    assert_eq!(said, said_again);
}

/// A listener or route that clears an option still clears it when its printed form is read again.
#[test]
fn check_prints_cleared_options() {
    let files = directory();
    let (certificate, key) = certificates::trusted().server(&["localhost"]).write(files.path(), "server");
    let file = File::saying(&format!(
        "plugin = {}\nguest-arg = \"secret\"\ntls-certificate = {}\ntls-key = {}\ntls-alpn = \"talk\"\n\n[[listener]]\n\
         bind = \"tcp://127.0.0.1:0\"\n\n[[listener.route]]\nalpn = \"talk\"\nguest-arg = []\n\n[[listener]]\nbind = \"tcp://127.0.0.1:0\"\n\
         tls-certificate = []\n",
        quoted(&plugin("hello")),
        quoted(&certificate),
        quoted(&key)
    ));
    let mut path = file.path.clone();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let (code, printed, err) = Setup::bare().argument("check").option("--config", &path).run();
        assert_eq!(code, 0, "{err}");
        let words = |table: usize| printed.split("\n[[").nth(table).unwrap().to_owned();
        assert!(words(1).contains("guest-arg = [\"secret\"]") && words(2).contains("guest-arg = []"), "{printed}");
        assert!(words(3).contains("tls-certificate = []"), "{printed}");
        let again = File::saying(&printed);
        path.clone_from(&again.path);
        kept.push(again);
    }
}

#[test]
fn check_finds_the_errors_of_a_boot_and_disturbs_no_host() {
    let directory = directory();
    let path = directory.path().join("host.sock");
    let live = format!("unix://{}", path.display());
    let host = Setup::serving("hello").option("--bind", &live).start();
    let port = format!("tcp://{}", host.addresses[0].tcp());
    let check = || Setup::bare().argument("check").option("--plugin", plugin("hello"));
    // A live host holds these sockets, and its successor will inherit them.
    for served in [&live, &port] {
        let (code, _, err) = check().option("--bind", served).run();
        assert_eq!(code, 0, "{err}");
    }
    assert_eq!(host.settled_log().matches("connection f").count(), 1, "no other client has connected");

    let regular = directory.path().join("regular");
    fs::write(&regular, "").unwrap();
    let damaged = directory.path().join("damaged.wasm");
    fs::write(&damaged, "\0asm").unwrap();
    let nowhere = "tcp://192.0.2.1:0";
    let foreign = format!("unix://{}", regular.display());
    let lost = "unix:///nowhere/at/all.sock";
    for (setup, code, complaint) in [
        (check().option("--bind", nowhere), 3, "this machine does not have that address"),
        (check().option("--bind", &foreign), 3, "is not a socket"),
        (check().option("--bind", lost), 3, "does not exist"),
        (check().option("--pidfile", "/nowhere/at/all.pid"), 2, "--pidfile /nowhere/at/all.pid"),
        (Setup::bare().argument("check").option("--plugin", &damaged), 2, "is damaged"),
        (Setup::bare().argument("check"), 2, "--plugin is missing"),
        (check().argument("--anchor=nonsense"), 2, "--anchor \"nonsense\": is not one of auto, always, never"),
        (check().option("--handoff-socket", &regular), 3, "is not a socket"),
        (check().option("--take-over", &path), 3, "name the --handoff-socket of the host that serves"),
        (
            check().option("--pidfile", &regular).option("--log-file", &regular),
            2,
            "is the path of --log-file, too; give each a path of its own",
        ),
        (
            check().option("--pidfile", &regular).option("--admin", &foreign),
            2,
            "is the path of --admin, too; give each a path of its own",
        ),
        (check().option("--log-file", &regular).option("--bind", &foreign), 2, "is the path of --bind, too"),
        (check().option("--bind", format!("{foreign}/below.sock")), 3, "its directory is not a directory"),
    ] {
        let (found, out, err) = setup.run();
        assert_eq!((found, out.as_str(), err.contains(complaint)), (code, "", true), "{complaint}: {err}");
    }
    // None of these keeps a host from starting.
    for (setup, said) in [
        (check().option("--take-over", "/nowhere/at/all.sock"), "no predecessor, starting cold"),
        (check().option("--start-command", "/nowhere/at/all"), "/nowhere/at/all cannot be executed"),
        (check().option("--start-command", "/tmp"), "/tmp cannot be executed"),
    ] {
        let (found, _, err) = setup.run();
        assert_eq!((found, err.contains(said)), (0, true), "{said}: {err}");
    }
}
