//! A million packets, most of them invalid: none may panic the decoder, and each decoded message
//! must survive encoding and decoding.

use super::*;
use crate::{record::counters::Failed, system::random::Random};
use std::{panic, thread};

/// Each input derives from this seed and its number alone, so that a failure can be reproduced.
const SEED: u64 = 0x0068_616e_646f_6666;

const INPUTS: u64 = 1_000_000;

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

/// Every message, with every variant of its fields.
fn messages() -> Vec<Message> {
    let reason = || "tcp://127.0.0.1:80: \"Address in use\"\n\u{1f980}\0".to_owned();
    let listeners = || vec![key("tcp://[::1]:80"), key("tcp://127.0.0.1:0#7"), key("unix:///run/a\"b\\é.sock")];
    let file: FileId = serde_json::from_str(r#"{"device":0,"inode":18446744073709551615}"#).unwrap();
    let mut entries: Vec<_> = listeners().into_iter().map(|key| Entry::Listener { key, file: Some(file) }).collect();
    entries.push(Entry::Listener { key: key("systemd:a b#0"), file: None });
    entries.push(Entry::HandoffSocket { path: "/run/handoff".parse().unwrap(), file: Some(file) });
    entries.push(Entry::Admin { key: key("unix:///run/admin.sock"), file: Some(file) });
    entries.push(Entry::Generation { generation: u64::MAX, pid: i32::MIN, rolled_back: false });
    entries.push(Entry::Generation { generation: 2, pid: 7, rolled_back: true });
    entries.push(Entry::Reports { pid: 7, connections: u64::MAX });
    entries.push(Entry::TicketKeys {});
    entries.push(Entry::Unknown);
    let mut messages = vec![
        Message::Hello { versions: vec![0, VERSION, u32::MAX], release: "0.1.0".into() },
        Message::Hello { versions: vec![], release: String::new() },
        Message::Offer {
            version: VERSION,
            release: "0.1.0".into(),
            generation: 1,
            part: 1,
            parts: usize::MAX,
            entries,
            counters: Totals {
                accepted: u64::MAX,
                failed: Failed { cpu_time: 7, ..Failed::default() },
                ..Totals::default()
            },
            hears_of_reloads: true,
        },
        Message::Prepared {
            claimed: listeners(),
            unclaimed: vec![],
            pidfile: None,
            admin: None,
            hears_of_connections: false,
        },
        Message::Prepared {
            claimed: vec![],
            unclaimed: listeners(),
            pidfile: Some("/run/host.pid".into()),
            admin: Some(key("tcp://127.0.0.1:9000")),
            hears_of_connections: true,
        },
        Message::Commit { counters: Totals::default() },
        Message::Commit { counters: Totals { finished: 1, ..Totals::default() } },
        Message::Serving {},
        Message::Settled {},
        Message::Yield { counters: Totals { restarts: 1, ..Totals::default() } },
        Message::Reloading {},
        Message::Reloaded { done: false },
        Message::Refused { reason: reason() },
        Message::Abort { reason: reason() },
        Message::Resumed {},
        Message::Draining { connections: u64::MAX, counters: Totals { refused: u64::MAX, ..Totals::default() } },
    ];
    for stage in [Stage::Configuration, Stage::Loading, Stage::Adopting, Stage::Other] {
        messages.push(Message::Failed { stage, reason: reason() });
    }
    for verb in [Verb::Stop, Verb::Restart, Verb::Reload] {
        messages.extend([Message::Leaving { to: verb }, Message::Forward { verb }]);
    }
    messages
}

#[test]
fn every_message_survives_encoding_and_decoding() {
    for message in messages() {
        let packet = message.encode();
        assert!(!packet.is_empty() && packet.len() <= LONGEST, "{message:?}");
        assert_eq!(Message::decode(&packet).unwrap(), message);
        let named: serde_json::Value = serde_json::from_slice(&packet).unwrap();
        assert_eq!(named["message"], message.name());
    }
}

#[test]
fn decoding_errors_are_one_short_line() {
    let noisy = format!("{{\"message\":\"{}\\n\"}}", "\\u001b".repeat(4000));
    let error = Message::decode(noisy.as_bytes()).unwrap_err().to_string();
    assert!(error.len() < LONGEST / 6 && !error.contains(char::is_control), "{} bytes", error.len());
}

/// One packet, derived from its number.
fn packet(number: u64, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut dice = Random::new(SEED ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut packet = valid[dice.below(valid.len())].clone();
    match number % 10 {
        0 => noise(&mut dice),
        1 => tokens(&mut dice),
        2 => nested(&mut dice, &packet, number),
        3 => {
            let other = &valid[dice.below(valid.len())];
            let (cut, resumed) = (dice.below(packet.len()), dice.below(other.len()));
            packet.truncate(cut);
            packet.extend(&other[resumed..]);
            packet
        }
        4 => with_values_replaced(&mut dice, &packet),
        5 => with_keys_repeated(&mut dice, &packet, valid),
        _ => {
            for _ in 0..=dice.below(4) {
                mutate(&mut dice, &mut packet);
            }
            packet
        }
    }
}

fn noise(dice: &mut Random) -> Vec<u8> {
    let length = dice.one_of(&[0, 1, 2, 8, 64, 200]);
    let mut noise: Vec<_> = (0..length).step_by(8).flat_map(|_| dice.next_u64().to_le_bytes()).collect();
    noise.truncate(length);
    noise
}

/// Tokens of the grammar in random order.
fn tokens(dice: &mut Random) -> Vec<u8> {
    const TOKENS: [&str; 32] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "true",
        "-",
        "0",
        "1",
        "1e999",
        "-1",
        "0.5",
        " ",
        "\n",
        "\\u0000",
        "\\ud800",
        "\"message\":",
        "\"role\":",
        "\"hello\"",
        "\"offer\"",
        "\"entries\":[",
        "\"key\":",
        "\"listener\"",
        "\"versions\":[1]",
        "\"release\":\"\"",
        "\"generation\":",
        "\u{feff}",
        "18446744073709551616",
    ];
    (0..dice.below(24)).flat_map(|_| dice.one_of(&TOKENS).bytes()).collect()
}

/// A message with a deeply nested value, or at the bottom of one. Sometimes as long as a packet may
/// be.
fn nested(dice: &mut Random, packet: &[u8], number: u64) -> Vec<u8> {
    let depth = if number % 5000 == 2 { LONGEST / 8 } else { dice.one_of(&[1, 2, 126, 127, 128, 129, 300]) };
    let (open, close) = dice.one_of(&[("[", "]"), ("{\"a\":", "}"), ("{\"message\":", "}"), ("[", "")]);
    let mut deep = String::with_capacity(depth * 12);
    deep.push_str(&open.repeat(depth));
    deep.push('0');
    deep.push_str(&close.repeat(depth));
    match dice.below(3) {
        0 => deep.into_bytes(),
        1 => {
            let mut within = format!("{{\"later\":{deep},").into_bytes();
            within.extend(&packet[1..]);
            within
        }
        _ => {
            let mut after = packet[..packet.len() - 1].to_vec();
            after.extend(format!(",\"later\":{deep}}}").bytes());
            after
        }
    }
}

/// A message with values that are too large or of another type.
fn with_values_replaced(dice: &mut Random, packet: &[u8]) -> Vec<u8> {
    const VALUES: [&str; 16] = [
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "4294967296",
        "1e400",
        "-0",
        "0.1",
        "-1",
        "null",
        "[]",
        "{}",
        "\"\"",
        "\"tcp://127.0.0.1:65536\"",
        "\"unix:///../a\"",
        "[[[]]]",
        "{\"role\":\"listener\",\"key\":7}",
    ];
    // From a colon to the next comma or end. Within a string that is another kind of mutation.
    let colons: Vec<_> = (0..packet.len()).filter(|at| packet[*at] == b':').collect();
    let start = dice.one_of(&colons) + 1;
    let length = packet[start..].iter().position(|byte| b",}]".contains(byte)).unwrap_or_default();
    let mut replaced = packet.to_vec();
    drop(replaced.splice(start..start + length, dice.one_of(&VALUES).bytes()));
    replaced
}

/// The fields of two messages in one, or of one message twice.
fn with_keys_repeated(dice: &mut Random, packet: &[u8], valid: &[Vec<u8>]) -> Vec<u8> {
    let other = if dice.below(2) == 0 { packet } else { &valid[dice.below(valid.len())] };
    let mut both = packet[..packet.len() - 1].to_vec();
    both.push(b',');
    both.extend(&other[1..]);
    both
}

fn mutate(dice: &mut Random, packet: &mut Vec<u8>) {
    if packet.is_empty() {
        return packet.push(b'{');
    }
    let at = dice.below(packet.len());
    match dice.below(6) {
        0 => packet[at] ^= 1 << dice.below(8),
        1 => packet[at] = dice.one_of(b"\0\"\\{}[],:0-9eE.+ \x7f\xff"),
        2 => packet.truncate(at),
        3 => drop(packet.remove(at)),
        4 => packet.insert(at, dice.next_u64().to_le_bytes()[0]),
        _ => {
            let end = at + dice.below(packet.len() - at);
            let piece = packet[at..end].to_vec();
            let to = dice.below(packet.len());
            drop(packet.splice(to..to, piece));
        }
    }
}

/// Fails if the decoder breaks its guarantees. Returns whether the packet was a message.
fn check_guarantees(packet: &[u8]) -> bool {
    let Ok(message) = Message::decode(packet) else { return false };
    let again = Message::decode(&message.encode());
    assert_eq!(again.as_ref().ok(), Some(&message), "read, written and read again");
    assert!(message.descriptors() <= packet.len(), "announces more descriptors than it has room to name");
    true
}

#[test]
fn no_packet_panics_the_decoder_and_decoded_messages_encode_again() {
    let valid: Vec<_> = messages().iter().map(Message::encode).collect();
    let workers = thread::available_parallelism().map_or(1, |workers| u64::try_from(workers.get()).unwrap());
    let read = |worker: u64| {
        let numbers = (worker..INPUTS).step_by(usize::try_from(workers).unwrap());
        let is_message = |number: &u64| {
            let packet = packet(*number, &valid);
            panic::catch_unwind(|| check_guarantees(&packet)).unwrap_or_else(|_| {
                panic!("input {number} of seed {SEED:#x}: {:?}", String::from_utf8_lossy(&packet));
            })
        };
        numbers.filter(is_message).count()
    };
    let messages: usize = thread::scope(|scope| {
        let readers: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn({
                    let read = &read;
                    move || read(worker)
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    // Neither all nor none: otherwise one half of the guarantee would be untested.
    assert!((10_000..900_000).contains(&messages), "{messages} of {INPUTS} were messages");
}
