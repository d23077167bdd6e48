//! Log records as machines read them: unique keys, and the fields that docs/monitoring.md promises.
//! Also the records of failures.

use crate::{
    harness::{Host, Setup, root},
    reach::{Guest, Server},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, fs, io::Write};

/// A record with all of its keys, including duplicates.
struct Keys(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Keys(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The records of a log, checked for duplicate keys.
fn records(log: &str) -> Vec<BTreeMap<String, Value>> {
    let parsed = log.lines().map(|line| {
        let Keys(pairs) = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let record: BTreeMap<_, _> = pairs.iter().cloned().collect();
        assert_eq!(record.len(), pairs.len(), "a key comes twice: {line}");
        record
    });
    parsed.collect()
}

/// The rows of the documents' tables whose first cell has a name in backticks: each name with its
/// other cells.
fn documented(heading: &str) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let table = text.split(&format!("\n| {heading} |")).nth(1).unwrap_or_else(|| panic!("no table {heading}"));
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut found = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        for name in cells[0].split('`').skip(1).step_by(2) {
            found.insert(name.to_owned(), cells[1..].to_vec());
        }
    }
    found
}

fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A log in JSON with every documented event in it.
fn every_event() -> Vec<(Host, &'static str)> {
    let json = |name: &str| Setup::serving(name).option("--log-format", "json");
    let finished = json("echo").start();
    assert_eq!(finished.ask("x"), b"x");
    let failed = json("fail").start();
    failed.ask("x");
    let refused = json("hello").option("--deny-network", "127.0.0.0/8").start();
    refused.ask("");
    let says = json("chatty").start();
    says.ask("x");
    let denied = json("reach").option("--guest-connect", "127.0.0.1:1").start();
    assert_eq!(Guest::of(&denied).run("connect 127.0.0.1:2"), "access-denied");
    let request = json("http-wasi").start();
    request.ask("GET /trap HTTP/1.1\r\nHost: a\r\n\r\n");
    vec![
        (finished, "connection finished"),
        (failed, "connection failed"),
        (refused, "connection refused"),
        (says, "guest: "),
        (denied, "guest denied"),
        (request, "request failed"),
    ]
}

#[test]
fn records_in_json_have_the_fields_that_the_documents_promise() {
    let (common, events, fields) = (documented("Key"), documented("Event"), documented("Field"));
    for (host, event) in every_event() {
        host.logged(&[event]);
        let records = records(&host.log());
        let of_event: Vec<_> =
            records.iter().filter(|record| record["message"].as_str().unwrap().starts_with(event)).collect();
        assert!(!of_event.is_empty(), "{event}");
        for record in records.iter() {
            assert!(common.keys().all(|key| record.contains_key(key)), "{record:?}");
        }
        let (_, cells) = events.iter().find(|(known, _)| known.starts_with(event)).unwrap_or_else(|| panic!("{event}"));
        let promised = names(&cells[1]);
        for record in of_event {
            for (key, value) in record {
                let kind =
                    common.get(key).or(fields.get(key)).unwrap_or_else(|| panic!("{event}: {key} is undocumented"));
                assert!(common.contains_key(key) || promised.contains(&key.as_str()), "{event} has {key}");
                let as_promised = match kind[0].as_str() {
                    "number" => value.is_u64(),
                    "string" => value.is_string(),
                    other => panic!("{key}: {other}"),
                };
                assert!(as_promised, "{event}: {key}={value}");
            }
        }
    }
}

#[test]
fn a_guest_that_exits_with_a_status_has_one_message_and_one_error() {
    let host = Setup::serving("program").option("--log-format", "json").start();
    host.ask("leave 1\n");
    host.logged(&["connection failed"]);
    let records = records(&host.log());
    let failed = records.iter().find(|record| record["message"] == "connection failed").unwrap();
    assert!(failed["error"].as_str().unwrap().contains("the guest exited with status 1"), "{failed:?}");
    assert!(!failed.contains_key("suppressed"), "nothing was suppressed: {failed:?}");
}

#[test]
fn a_limit_is_recorded_with_its_amount_its_option_and_the_function_that_ran() {
    let host = Setup::serving("allocate").option("--guest-memory", "8MiB").start();
    host.ask("x");
    let record = host.logged(&["connection failed", "reason=memory"]);
    for part in ["error=\"the guest wanted 8.", "--guest-memory allows 8.0 MiB", ", in ", "memory allocation of "] {
        assert!(record.contains(part), "{part}: {record}");
    }
    assert!(!record.contains("RUST_BACKTRACE"), "{record}");

    let host = Setup::serving("loop").option("--guest-cpu-time", "50ms").start();
    host.ask("x");
    let record = host.logged(&["connection failed", "reason=cpu-time"]);
    for part in ["computed for more than 50ms without moving a byte (--guest-cpu-time)", ", in function "] {
        assert!(record.contains(part), "{part}: {record}");
    }

    let host = Setup::serving("echo").option("--idle-timeout", "50ms").option("--guest-start", "accept").start();
    let idle = host.connect();
    host.logged(&["connection failed", "reason=idle", "no byte moved for 50ms (--idle-timeout)"]);
    drop(idle);
    let host = Setup::serving("echo").option("--connection-timeout", "50ms").start();
    let long = host.connect();
    host.logged(&["connection failed", "reason=wall-time", "open for 50ms (--connection-timeout)"]);
    drop(long);
}

#[test]
fn a_denial_is_recorded_with_the_grant_that_would_allow_it() {
    let other = Server::on("127.0.0.1:0");
    for name in ["reach", "reach-async"] {
        let without = Setup::serving(name).start();
        let with = Setup::serving(name).option("--guest-connect", "127.0.0.1:1").start();
        let exact = format!("grant=\"--guest-connect {}\"", other.address);
        for (host, grant) in [(&without, "grant=\"--guest-connect HOST:PORT\""), (&with, &exact)] {
            let mut guest = Guest::of(host);
            let denied = ["access-denied", "ErrorCode::AccessDenied"];
            let answer = guest.run(&format!("connect {}", other.address));
            assert!(denied.contains(&answer.as_str()), "{answer}");
            let answer = guest.run("lookup db.internal");
            assert!(denied.contains(&answer.as_str()), "{answer}");
            host.logged(&["DEBUG", "guest denied", "act=\"connect\"", grant]);
            host.logged(&["guest denied", "act=\"lookup\"", "grant=\"--guest-connect db.internal:PORT\""]);
        }
    }
}

#[test]
fn a_guest_that_may_only_read_a_directory_is_recorded_with_the_grant_for_writing() {
    let directory = crate::harness::directory();
    fs::write(directory.path().join("file"), "x").unwrap();
    let grant = format!("{}::/data", directory.path().display());
    let host = Setup::serving("reach").option("--guest-dir", &grant).start();
    assert_eq!(Guest::of(&host).run("write 0:new text"), "not-permitted");
    host.logged(&["guest denied", "act=\"write\"", "target=\"new\"", "grant=\"--guest-dir HOST::GUEST:rw\""]);
}

#[test]
fn the_text_of_a_guest_is_quoted_in_text_records() {
    let host = Setup::serving("fail").start();
    let mut stream = host.connect();
    stream.write_all(b"x\n").unwrap();
    drop(stream);
    let record = host.logged(&["connection failed", "reason=error"]);
    assert!(record.contains(" error=\"") && !record.contains("suppressed=0"), "{record}");
}
