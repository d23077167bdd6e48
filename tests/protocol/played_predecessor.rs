//! The host is the successor; the test plays its predecessor.

use super::{Form, Side, assert_as_recorded, exchange};
use crate::{
    harness::{self, Host, Setup, read_to_end, unix_uri},
    player::Predecessor,
};
use nix::sys::{
    signal::Signal,
    socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use serde_json::{Value, json};
use std::{
    fs,
    io::{PipeReader, Read},
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    process::Command,
};

/// The sockets and processes that a played predecessor hands over.
struct Offered {
    tcp: TcpListener,
    unix: UnixListener,
    handoff: OwnedFd,
    earlier: OwnedFd,
    directory: tempfile::TempDir,
}

impl Offered {
    fn new() -> Self {
        let directory = harness::directory();
        let handoff = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(handoff.as_raw_fd(), &UnixAddr::new(&directory.path().join("handoff.sock")).unwrap()).unwrap();
        listen(&handoff, Backlog::new(1).unwrap()).unwrap();
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            unix: UnixListener::bind(directory.path().join("hello.sock")).unwrap(),
            handoff,
            earlier: pidfd_open(getpid(), PidfdFlags::empty()).unwrap(),
            directory,
        }
    }

    /// The descriptors for the entries of an offer.
    fn descriptors(&self, offer: &Value) -> Vec<BorrowedFd<'_>> {
        let entries = offer.get("entries").and_then(Value::as_array).into_iter().flatten();
        let descriptor =
            |entry: &Value| match (entry["role"].as_str().unwrap(), entry["key"].as_str().unwrap_or_default()) {
                ("listener", key) if key.starts_with("tcp://") => self.tcp.as_fd(),
                ("listener", _) => self.unix.as_fd(),
                ("handoff-socket", _) => self.handoff.as_fd(),
                ("generation", _) => self.earlier.as_fd(),
                (role, _) => panic!("{role} was not recorded"),
            };
        entries.map(descriptor).collect()
    }

    /// A successor with the same listeners.
    fn successor(&self) -> Setup {
        Setup::serving("hello")
            .option("--bind", unix_uri(&self.directory.path().join("hello.sock")))
            .option("--handoff-socket", self.directory.path().join("handoff.sock"))
    }
}

/// Plays the predecessor of an exchange to a real successor. Signals and faults make the successor
/// send the recorded messages.
fn play_predecessor(name: &str, form: Form) {
    let offered = Offered::new();
    let faults = offered.directory.path().join("faults");
    let (predecessor, far) = Predecessor::pair();
    let mut setup = offered.successor().inheriting(far).environment("UNINTERRUPTIBLE_FAULTS", faults.to_str().unwrap());
    if name == "failed" {
        setup = setup.option("--bind", format!("tcp://{}", offered.tcp.local_addr().unwrap()));
    }
    let mut host = setup.spawn();
    drop(setup);
    for (side, recorded) in exchange(name, offered.directory.path()) {
        if side == Side::Predecessor {
            predecessor.say(&form.of(&recorded), &offered.descriptors(&recorded));
            continue;
        }
        match recorded["message"].as_str().unwrap() {
            "yield" => fs::write(&faults, "successor rollback\n").unwrap(),
            "leaving" => {
                host.logged(&["serving, predecessor watching"]);
                host.signal(Signal::SIGTERM);
            }
            _ => {}
        }
        assert_as_recorded(predecessor.hear().as_ref(), &recorded, name);
        if recorded["message"] == "serving" {
            let mut client = harness::connect(offered.tcp.local_addr().unwrap());
            std::io::Write::write_all(&mut client, b"bob\n").unwrap();
            assert_eq!(read_to_end(&mut client), b"Hello bob!\n");
        }
    }
    let code = match name {
        "handover" | "reload-forwarded" => {
            host.logged(&["restart settled"]);
            host.terminate()
        }
        _ => host.exit_code(),
    };
    let expected = match name {
        "handover" | "reload-forwarded" | "stop-forwarded" | "leaving-to-stop" => 0,
        "failed" => 3,
        _ => 75,
    };
    assert_eq!(code, expected, "{name}; the host said:\n{}", host.log());
}

#[test]
fn this_program_takes_over_from_the_recorded_predecessor() {
    for exchange in ["handover", "stop-forwarded", "reload-forwarded", "leaving-to-stop"] {
        play_predecessor(exchange, Form::Recorded);
    }
}

#[test]
fn this_program_does_not_take_over_from_the_recorded_predecessor() {
    for exchange in ["rollback", "failed", "refused", "aborted"] {
        play_predecessor(exchange, Form::Recorded);
    }
}

#[test]
fn additions_of_a_later_predecessor_are_ignored() {
    for exchange in ["handover", "stop-forwarded", "rollback", "refused", "aborted"] {
        play_predecessor(exchange, Form::Extended);
    }
}

/// A real successor that has said `hello` and waits for its offer.
fn greeted(offered: &Offered) -> (Host, Predecessor) {
    let (predecessor, far) = Predecessor::pair();
    let host = offered.successor().inheriting(far).spawn();
    assert_eq!(predecessor.hear().unwrap()["message"], "hello");
    (host, predecessor)
}

fn recorded_offer(offered: &Offered) -> Value {
    let mut messages = exchange("rollback", offered.directory.path()).into_iter().map(|(_, message)| message);
    messages.find(|message| message["message"] == "offer").unwrap()
}

/// Whether every writer of a pipe is closed.
fn is_closed(mut reader: PipeReader) -> bool {
    reader.read(&mut [0]).unwrap() == 0
}

#[test]
fn a_descriptor_with_an_unknown_role_is_closed() {
    drop(takes_over_in_spite_of(json!({ "role": "of-a-later-version", "key": 7 })));
}

/// The successor neither waits for the process nor signals it.
#[test]
fn a_descriptor_that_is_not_a_process_is_not_an_earlier_generation() {
    drop(takes_over_in_spite_of(json!({ "role": "generation", "generation": 1, "pid": std::process::id() })));
}

/// Invalid ticket keys are not a reason to stop serving.
#[test]
fn invalid_ticket_keys_are_closed_and_logged() {
    let log = takes_over_in_spite_of(json!({ "role": "ticket-keys", "key": 7 }));
    assert!(log.contains("WARN TLS ticket keys not adopted"), "{log}");
}

/// Offers a real successor a pipe under some role, which it has to close. Returns its log.
fn takes_over_in_spite_of(entry: Value) -> String {
    let offered = Offered::new();
    let (mut host, predecessor) = greeted(&offered);
    let mut offer = recorded_offer(&offered);
    let descriptors = offered.descriptors(&offer);
    let (reader, writer) = std::io::pipe().unwrap();
    offer["entries"].as_array_mut().unwrap().insert(0, entry);
    predecessor.say(&offer.to_string(), &[&[writer.as_fd()][..], &descriptors].concat());
    drop(writer);
    assert_eq!(predecessor.hear().unwrap()["message"], "prepared");
    assert!(is_closed(reader));
    predecessor.say(r#"{"message":"commit"}"#, &[]);
    assert_eq!(predecessor.hear().unwrap()["message"], "serving");
    predecessor.say(r#"{"message":"settled"}"#, &[]);
    host.logged(&["restart settled"]);
    assert_eq!(host.terminate(), 0);
    host.log()
}

#[test]
fn a_predecessor_that_breaks_the_protocol_is_not_followed() {
    type Change = fn(&mut Value);
    let failures: [(&str, Change, i32, &str); 7] = [
        ("another version", |offer| offer["version"] = json!(99), 75, "speaks version 99"),
        ("a part that is not due", |offer| offer["part"] = json!(2), 75, "part 2 of 1"),
        ("no parts", |offer| offer["parts"] = json!(0), 75, "part 1 of 0"),
        ("no such message", |offer| offer["message"] = json!("unknown"), 75, "not a message of version 1"),
        (
            "a descriptor too many",
            |offer| drop(offer["entries"].as_array_mut().unwrap().pop()),
            75,
            "3 descriptors instead of 2",
        ),
        (
            "a descriptor too few",
            |offer| offer["entries"].as_array_mut().unwrap().push(json!({ "role": "later" })),
            75,
            "3 descriptors instead of 4",
        ),
        (
            "something else than it says",
            |offer| offer["entries"].as_array_mut().unwrap().reverse(),
            3,
            "the predecessor's offer is rejected",
        ),
    ];
    for (failure, change, code, needle) in failures {
        let offered = Offered::new();
        let (mut host, predecessor) = greeted(&offered);
        let mut offer = recorded_offer(&offered);
        let descriptors = offered.descriptors(&offer);
        change(&mut offer);
        predecessor.say(&offer.to_string(), &descriptors);
        let answer = predecessor.hear().unwrap();
        assert_eq!((&answer["message"], &answer["stage"]), (&json!("failed"), &json!("adopting")), "{failure}");
        assert!(answer["reason"].as_str().unwrap().contains(needle), "{failure}: {answer}");
        assert_eq!(host.exit_code(), code, "{failure}");
    }
}

/// At the limit the kernel drops descriptors silently, and a listener would be missing.
#[test]
fn a_successor_at_its_descriptor_limit_takes_nothing_and_says_why() {
    let offered = Offered::new();
    let (mut host, predecessor) = greeted(&offered);
    let limit = [format!("--pid={}", host.pid()), "--nofile=3:".to_owned()];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    let offer = recorded_offer(&offered);
    predecessor.say(&offer.to_string(), &offered.descriptors(&offer));
    let answer = predecessor.hear().unwrap();
    assert_eq!((&answer["message"], &answer["stage"]), (&json!("failed"), &json!("adopting")));
    let reason = answer["reason"].as_str().unwrap();
    assert!(reason.contains("0 descriptors instead of 3") && reason.contains("ulimit -n"), "{reason}");
    assert_eq!(host.exit_code(), 75);
}

#[test]
fn an_unknown_message_instead_of_commit_is_rejected() {
    let offered = Offered::new();
    let (mut host, predecessor) = greeted(&offered);
    let offer = recorded_offer(&offered);
    predecessor.say(&offer.to_string(), &offered.descriptors(&offer));
    assert_eq!(predecessor.hear().unwrap()["message"], "prepared");
    predecessor.say(r#"{"message":"commit-later"}"#, &[]);
    assert_eq!(predecessor.hear().unwrap()["message"], "failed");
    assert_eq!(host.exit_code(), 75);
}
