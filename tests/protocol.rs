//! The handoff as a protocol: what was recorded of version 1 is played against this program, on either side, and what a later
//! version might add does no harm.

use crate::{
    harness::{self, Host, Setup, read_to_end, unix_uri},
    player::{Player, Predecessor},
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
    path::{Path, PathBuf},
    process::Command,
};
use uninterruptible_host::handoff::message::Message;

const RECORDED: &str = include_str!("fixtures/handoff-1.jsonl");

/// Where the sockets of the recorded hosts were.
const RECORDED_DIRECTORY: &str = "/run/handoff-1";

/// The fields that differ from one host to another of the same version.
const VARIABLE: [&str; 8] =
    ["release", "reason", "generation", "pid", "connections", "counters", "hears-of-reloads", "hears-of-connections"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Predecessor,
    Successor,
}

/// A recorded message, as if its sockets were in `directory`.
fn recorded(directory: &Path) -> Vec<(String, Side, Value)> {
    let lines = RECORDED.replace(RECORDED_DIRECTORY, directory.to_str().unwrap());
    let read = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let side = match line["from"].as_str().unwrap() {
            "predecessor" => Side::Predecessor,
            "successor" => Side::Successor,
            other => panic!("nobody is called {other}"),
        };
        (line["exchange"].as_str().unwrap().to_owned(), side, line["message"].take())
    };
    lines.lines().map(read).collect()
}

fn exchange(name: &str, directory: &Path) -> Vec<(Side, Value)> {
    let messages = recorded(directory).into_iter().filter(|(exchange, ..)| exchange == name);
    let messages: Vec<_> = messages.map(|(_, side, message)| (side, message)).collect();
    assert!(!messages.is_empty(), "{name} was not recorded");
    messages
}

/// What has to be the same in whoever sends it.
fn constant(message: &Value) -> Value {
    let mut message = message.clone();
    let fields = message.as_object_mut().unwrap();
    fields.retain(|name, _| !VARIABLE.contains(&name.as_str()));
    if let Some(entries) = fields.get_mut("entries") {
        // Whether any earlier generation drains is another matter, and so is which file a path leads to.
        let entries = entries.as_array_mut().unwrap();
        entries.retain(|entry| entry["role"] != "generation" && entry["role"] != "reports");
        entries.iter_mut().for_each(|entry| drop(entry.as_object_mut().unwrap().remove("file")));
    }
    message
}

fn assert_as_recorded(heard: Option<&Value>, recorded: &Value, exchange: &str) {
    let heard = heard.unwrap_or_else(|| panic!("{exchange}: the end of the channel instead of {recorded}"));
    assert_eq!(constant(heard), constant(recorded), "{exchange}");
    for field in recorded.as_object().unwrap().keys() {
        assert!(heard.get(field).is_some(), "{exchange}: {heard} has no {field}");
    }
}

/// What is sent: as it was recorded, or with fields that only a later version would know.
#[derive(Clone, Copy)]
enum Form {
    Recorded,
    Extended,
}

impl Form {
    fn of(self, message: &Value) -> String {
        let mut message = message.clone();
        if let Self::Extended = self {
            message["later"] = json!({ "message": "commit", "list": [1, null, { "role": "listener" }] });
            for entry in message.get_mut("entries").and_then(Value::as_array_mut).into_iter().flatten() {
                entry["later"] = json!([u64::MAX]);
            }
        }
        message.to_string()
    }
}

#[test]
fn every_recorded_message_is_read_and_written_as_it_was() {
    for (exchange, _, recorded) in recorded(Path::new(RECORDED_DIRECTORY)) {
        let message = Message::decode(recorded.to_string().as_bytes()).unwrap();
        let written: Value = serde_json::from_slice(&message.encode()).unwrap();
        assert_eq!(written, recorded, "{exchange}");
        assert_eq!(Message::decode(Form::Extended.of(&recorded).as_bytes()).unwrap(), message, "{exchange}");
    }
}

/// A host that hands over, and where.
struct Served {
    host: Host,
    door: PathBuf,
    directory: tempfile::TempDir,
}

fn serving(window: &str) -> Served {
    let directory = harness::directory();
    let door = directory.path().join("handoff.sock");
    let host = Setup::serving("hello")
        .option("--bind", unix_uri(&directory.path().join("hello.sock")))
        .option("--handoff-socket", &door)
        .option("--rollback-window", window)
        .start();
    Served { host, door, directory }
}

/// Plays the successor of an exchange to a real predecessor, whose operator does what made it say what it said.
fn play_successor(name: &str, window: &str, form: Form) {
    let Served { mut host, door, directory } = serving(window);
    let busy_with = (name == "refused").then(|| {
        let mut other = Player::connect(&door);
        other.say(r#"{"message":"hello","versions":[1],"release":"0"}"#);
        assert_eq!(other.hear().unwrap()["message"], "offer");
        other
    });
    let mut player = Player::connect(&door);
    for (side, recorded) in exchange(name, directory.path()) {
        if side == Side::Successor {
            player.say(&form.of(&recorded));
            if recorded["message"] == "serving" {
                host.logged(&["successor serving"]);
            }
            continue;
        }
        match (recorded["message"].as_str().unwrap(), recorded["verb"].as_str()) {
            ("forward", Some("stop")) | ("abort", _) => host.signal(Signal::SIGTERM),
            ("forward", Some("reload")) => host.signal(Signal::SIGHUP),
            _ => {}
        }
        let heard = player.hear();
        // Whoever is called off has no time to say that it was.
        if recorded["message"] != "abort" || heard.is_some() {
            assert_as_recorded(heard.as_ref(), &recorded, name);
        }
    }
    if name != "failed" {
        drop(player);
    }
    match name {
        "rollback" => assert_eq!(host.ask("bob\n"), b"Hello bob!\n"),
        "failed" => {
            host.logged(&["restart failed, still serving", "error=adopting: --bind tcp://127.0.0.1:"]);
            assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
        }
        "refused" => {
            drop(busy_with);
            host.logged(&["restart failed, still serving"]);
            assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
        }
        _ => assert_eq!(host.exit_code(), 0),
    }
}

#[test]
fn the_recorded_successor_takes_over_from_this_program() {
    play_successor("handover", "300ms", Form::Recorded);
    play_successor("stop-forwarded", "60s", Form::Recorded);
    play_successor("reload-forwarded", "2s", Form::Recorded);
    play_successor("leaving-to-stop", "60s", Form::Recorded);
}

#[test]
fn the_recorded_successor_does_not_take_over_from_this_program() {
    for exchange in ["rollback", "failed", "refused", "aborted"] {
        play_successor(exchange, "60s", Form::Recorded);
    }
}

#[test]
fn what_a_later_successor_adds_is_ignored() {
    play_successor("handover", "300ms", Form::Extended);
    for exchange in ["rollback", "leaving-to-stop", "failed", "refused", "aborted"] {
        play_successor(exchange, "60s", Form::Extended);
    }
}

/// What a played predecessor has to give.
struct Estate {
    tcp: TcpListener,
    unix: UnixListener,
    door: OwnedFd,
    earlier: OwnedFd,
    directory: tempfile::TempDir,
}

impl Estate {
    fn new() -> Self {
        let directory = harness::directory();
        let door = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(door.as_raw_fd(), &UnixAddr::new(&directory.path().join("handoff.sock")).unwrap()).unwrap();
        listen(&door, Backlog::new(1).unwrap()).unwrap();
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            unix: UnixListener::bind(directory.path().join("hello.sock")).unwrap(),
            door,
            earlier: pidfd_open(getpid(), PidfdFlags::empty()).unwrap(),
            directory,
        }
    }

    /// The descriptors that the entries of an offer speak of.
    fn descriptors(&self, offer: &Value) -> Vec<BorrowedFd<'_>> {
        let entries = offer.get("entries").and_then(Value::as_array).into_iter().flatten();
        let descriptor =
            |entry: &Value| match (entry["role"].as_str().unwrap(), entry["key"].as_str().unwrap_or_default()) {
                ("listener", key) if key.starts_with("tcp://") => self.tcp.as_fd(),
                ("listener", _) => self.unix.as_fd(),
                ("handoff-socket", _) => self.door.as_fd(),
                ("generation", _) => self.earlier.as_fd(),
                (role, _) => panic!("{role} was not recorded"),
            };
        entries.map(descriptor).collect()
    }

    /// A successor that has the same to serve.
    fn successor(&self) -> Setup {
        Setup::serving("hello")
            .option("--bind", unix_uri(&self.directory.path().join("hello.sock")))
            .option("--handoff-socket", self.directory.path().join("handoff.sock"))
    }
}

/// Plays the predecessor of an exchange to a real successor, whose operator does what made it say what it said.
fn play_predecessor(name: &str, form: Form) {
    let estate = Estate::new();
    let faults = estate.directory.path().join("faults");
    let (predecessor, far) = Predecessor::pair();
    let mut setup = estate.successor().inheriting(far).environment("UNINTERRUPTIBLE_FAULTS", faults.to_str().unwrap());
    if name == "failed" {
        setup = setup.option("--bind", format!("tcp://{}", estate.tcp.local_addr().unwrap()));
    }
    let mut host = setup.spawn();
    drop(setup);
    for (side, recorded) in exchange(name, estate.directory.path()) {
        if side == Side::Predecessor {
            predecessor.say(&form.of(&recorded), &estate.descriptors(&recorded));
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
            let mut client = harness::connect(estate.tcp.local_addr().unwrap());
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
fn what_a_later_predecessor_adds_is_ignored() {
    for exchange in ["handover", "stop-forwarded", "rollback", "refused", "aborted"] {
        play_predecessor(exchange, Form::Extended);
    }
}

/// A real successor that has said `hello` and waits for its offer.
fn greeted(estate: &Estate) -> (Host, Predecessor) {
    let (predecessor, far) = Predecessor::pair();
    let host = estate.successor().inheriting(far).spawn();
    assert_eq!(predecessor.hear().unwrap()["message"], "hello");
    (host, predecessor)
}

fn recorded_offer(estate: &Estate) -> Value {
    let mut messages = exchange("rollback", estate.directory.path()).into_iter().map(|(_, message)| message);
    messages.find(|message| message["message"] == "offer").unwrap()
}

/// Whether nobody can write to a pipe any more.
fn is_closed(mut reader: PipeReader) -> bool {
    reader.read(&mut [0]).unwrap() == 0
}

#[test]
fn what_comes_in_an_unknown_role_is_closed() {
    drop(takes_over_in_spite_of(json!({ "role": "of-a-later-version", "key": 7 })));
}

/// Whatever it is, nobody waits for it, and nobody is signalled by it.
#[test]
fn what_is_no_process_is_no_earlier_generation() {
    drop(takes_over_in_spite_of(json!({ "role": "generation", "generation": 1, "pid": std::process::id() })));
}

/// Whatever comes as ticket keys, it is no reason not to serve.
#[test]
fn what_are_no_ticket_keys_is_closed_and_told() {
    let log = takes_over_in_spite_of(json!({ "role": "ticket-keys", "key": 7 }));
    assert!(log.contains("WARN TLS ticket keys not adopted"), "{log}");
}

/// A real successor is offered a pipe for something, and has to close it. Returns what it said.
fn takes_over_in_spite_of(entry: Value) -> String {
    let estate = Estate::new();
    let (mut host, predecessor) = greeted(&estate);
    let mut offer = recorded_offer(&estate);
    let descriptors = estate.descriptors(&offer);
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
        ("no such message", |offer| offer["message"] = json!("estate"), 75, "not a message of version 1"),
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
        let estate = Estate::new();
        let (mut host, predecessor) = greeted(&estate);
        let mut offer = recorded_offer(&estate);
        let descriptors = estate.descriptors(&offer);
        change(&mut offer);
        predecessor.say(&offer.to_string(), &descriptors);
        let answer = predecessor.hear().unwrap();
        assert_eq!((&answer["message"], &answer["stage"]), (&json!("failed"), &json!("adopting")), "{failure}");
        assert!(answer["reason"].as_str().unwrap().contains(needle), "{failure}: {answer}");
        assert_eq!(host.exit_code(), code, "{failure}");
    }
}

/// The kernel drops descriptors silently there, and a listener would be missing.
#[test]
fn a_successor_at_its_descriptor_limit_takes_nothing_and_says_why() {
    let estate = Estate::new();
    let (mut host, predecessor) = greeted(&estate);
    let limit = [format!("--pid={}", host.pid()), "--nofile=3:".to_owned()];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    let offer = recorded_offer(&estate);
    predecessor.say(&offer.to_string(), &estate.descriptors(&offer));
    let answer = predecessor.hear().unwrap();
    assert_eq!((&answer["message"], &answer["stage"]), (&json!("failed"), &json!("adopting")));
    let reason = answer["reason"].as_str().unwrap();
    assert!(reason.contains("0 descriptors instead of 3") && reason.contains("ulimit -n"), "{reason}");
    assert_eq!(host.exit_code(), 75);
}

#[test]
fn an_unknown_message_instead_of_commit_is_no_consent() {
    let estate = Estate::new();
    let (mut host, predecessor) = greeted(&estate);
    let offer = recorded_offer(&estate);
    predecessor.say(&offer.to_string(), &estate.descriptors(&offer));
    assert_eq!(predecessor.hear().unwrap()["message"], "prepared");
    predecessor.say(r#"{"message":"commit-later"}"#, &[]);
    assert_eq!(predecessor.hear().unwrap()["message"], "failed");
    assert_eq!(host.exit_code(), 75);
}

#[test]
fn versions_are_agreed_upon_or_the_successor_is_refused() {
    let Served { host, door, directory: _directory } = serving("60s");
    for versions in ["[]", "[99]", "[0,2]"] {
        let mut player = Player::connect(&door);
        player.say(&format!(r#"{{"message":"hello","versions":{versions},"release":"9.9.9"}}"#));
        let answer = player.hear().unwrap();
        assert_eq!(answer["message"], "refused");
        assert!(answer["reason"].as_str().unwrap().contains("this program 1"), "{answer}");
        assert_eq!(player.hear(), None);
    }
    let mut player = Player::connect(&door);
    player.say(r#"{"message":"hello","versions":[1,99],"release":"9.9.9"}"#);
    let offer = player.hear().unwrap();
    assert_eq!((&offer["message"], &offer["version"]), (&json!("offer"), &json!(1)));
    player.say(r#"{"message":"failed","stage":"dreaming","reason":"it was only a test"}"#);
    host.logged(&["restart failed, still serving", "error=another stage: it was only a test"]);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn a_successor_that_breaks_the_protocol_changes_nothing() {
    let Served { host, door, directory } = serving("60s");
    let key = format!("unix://{}/hello.sock", directory.path().display());
    let prepared = |claimed: &[&str], unclaimed: &[&str]| {
        json!({ "message": "prepared", "claimed": claimed, "unclaimed": unclaimed }).to_string()
    };
    let tcp = "tcp://127.0.0.1:0#0";
    let answers = [
        (r#"{"message":"estate"}"#.to_owned(), "not a message of version 1"),
        (r#"{"message":"serving"}"#.to_owned(), "\"serving\" instead of \"prepared\""),
        (r#"{"message":"hello","versions":[1],"release":""}"#.to_owned(), "\"hello\" instead of \"prepared\""),
        ("\0".to_owned(), "not a message of version 1"),
        (format!("{{\"message\":\"serving\",\"later\":\"{}\"}}", "a".repeat(32 << 10)), "more than 32768 bytes"),
        (prepared(&[tcp], &[]), "that it was not offered"),
        (prepared(&[tcp, &key, "tcp://127.0.0.1:80"], &[]), "that it was not offered"),
        (prepared(&[tcp, &key], &[tcp]), "that it was not offered"),
        (prepared(&[tcp, tcp, &key], &[]), "that it was not offered"),
    ];
    for (count, (answer, needle)) in answers.iter().enumerate() {
        let mut player = Player::connect(&door);
        player.say(r#"{"message":"hello","versions":[1],"release":"0"}"#);
        assert_eq!(player.hear().unwrap()["message"], "offer");
        player.say(answer);
        assert_eq!(player.hear().unwrap()["message"], "abort");
        drop(player);
        let failures =
            || host.log().lines().filter(|line| line.contains("restart failed")).nth(count).map(str::to_owned);
        let record = harness::wait_for("a restart that fails", failures);
        assert!(record.contains(needle), "{record}");
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
    }
}
