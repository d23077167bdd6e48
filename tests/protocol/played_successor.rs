//! The host is the predecessor; the test plays its successor.

use super::{Form, Side, assert_as_recorded, exchange};
use crate::{
    harness::{self, Host, Setup, unix_uri},
    player::Player,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::path::PathBuf;

/// A host that hands over, with its handoff socket.
struct Served {
    host: Host,
    handoff: PathBuf,
    directory: tempfile::TempDir,
}

fn serving(window: &str) -> Served {
    let directory = harness::directory();
    let handoff = directory.path().join("handoff.sock");
    let host = Setup::serving("hello")
        .option("--bind", unix_uri(&directory.path().join("hello.sock")))
        .option("--handoff-socket", &handoff)
        .option("--rollback-window", window)
        .start();
    Served { host, handoff, directory }
}

/// Plays the successor of an exchange to a real predecessor. Signals make the predecessor send the
/// recorded messages.
fn play_successor(name: &str, window: &str, form: Form) {
    let Served { mut host, handoff, directory } = serving(window);
    let busy_with = (name == "refused").then(|| {
        let mut other = Player::connect(&handoff);
        other.say(r#"{"message":"hello","versions":[1],"release":"0"}"#);
        assert_eq!(other.hear().unwrap()["message"], "offer");
        other
    });
    let mut player = Player::connect(&handoff);
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
        // A successor may be killed before it reads that it is aborted.
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
fn additions_of_a_later_successor_are_ignored() {
    play_successor("handover", "300ms", Form::Extended);
    for exchange in ["rollback", "leaving-to-stop", "failed", "refused", "aborted"] {
        play_successor(exchange, "60s", Form::Extended);
    }
}

#[test]
fn a_common_version_is_negotiated_or_the_successor_is_rejected() {
    let Served { host, handoff, directory: _directory } = serving("60s");
    for versions in ["[]", "[99]", "[0,2]"] {
        let mut player = Player::connect(&handoff);
        player.say(&format!(r#"{{"message":"hello","versions":{versions},"release":"9.9.9"}}"#));
        let answer = player.hear().unwrap();
        assert_eq!(answer["message"], "refused");
        assert!(answer["reason"].as_str().unwrap().contains("this program 1"), "{answer}");
        assert_eq!(player.hear(), None);
    }
    let mut player = Player::connect(&handoff);
    player.say(r#"{"message":"hello","versions":[1,99],"release":"9.9.9"}"#);
    let offer = player.hear().unwrap();
    assert_eq!((&offer["message"], &offer["version"]), (&json!("offer"), &json!(1)));
    player.say(r#"{"message":"failed","stage":"dreaming","reason":"it was only a test"}"#);
    host.logged(&["restart failed, still serving", "error=another stage: it was only a test"]);
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
}

#[test]
fn a_successor_that_breaks_the_protocol_changes_nothing() {
    let Served { host, handoff, directory } = serving("60s");
    let key = format!("unix://{}/hello.sock", directory.path().display());
    let prepared = |claimed: &[&str], unclaimed: &[&str]| {
        json!({ "message": "prepared", "claimed": claimed, "unclaimed": unclaimed }).to_string()
    };
    let tcp = "tcp://127.0.0.1:0#0";
    let answers = [
        (r#"{"message":"unknown"}"#.to_owned(), "not a message of version 1"),
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
        let mut player = Player::connect(&handoff);
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
