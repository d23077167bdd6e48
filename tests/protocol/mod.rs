//! The handoff as a protocol. Recorded messages of version 1 are played against this program, on
//! either side. Additions of a later version do no harm.

mod played_predecessor;
mod played_successor;

use serde_json::{Value, json};
use std::path::Path;
use uninterruptible_host::handoff::message::Message;

const RECORDED: &str = include_str!("../fixtures/handoff-1.jsonl");

/// The directory of the recorded hosts' sockets.
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
            other => panic!("unknown side {other}"),
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

/// The fields of a message that every sender sends alike.
fn constant(message: &Value) -> Value {
    let mut message = message.clone();
    let fields = message.as_object_mut().unwrap();
    fields.retain(|name, _| !VARIABLE.contains(&name.as_str()));
    if let Some(entries) = fields.get_mut("entries") {
        // Other tests cover earlier generations that drain, and the file that a path leads to.
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

/// The form of a sent message: as recorded, or with fields that only a later version knows.
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
fn every_recorded_message_is_decoded_and_encoded_unchanged() {
    for (exchange, _, recorded) in recorded(Path::new(RECORDED_DIRECTORY)) {
        let message = Message::decode(recorded.to_string().as_bytes()).unwrap();
        let written: Value = serde_json::from_slice(&message.encode()).unwrap();
        assert_eq!(written, recorded, "{exchange}");
        assert_eq!(Message::decode(Form::Extended.of(&recorded).as_bytes()).unwrap(), message, "{exchange}");
    }
}
