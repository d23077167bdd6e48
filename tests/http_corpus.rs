//! The corpus of `fixtures/http1.txt`: requests as bytes, each with its expected responses.

use crate::harness::{Host, Setup, read_to_end, root};
use std::{fs, io::Write, net::Shutdown, time::Duration};

/// One line of the corpus.
struct Case<'a> {
    verdicts: Vec<&'a str>,
    section: &'a str,
    bytes: Vec<u8>,
}

impl<'a> Case<'a> {
    fn of(line: &'a str) -> Self {
        let mut words = line.splitn(3, ' ');
        let (verdicts, section, bytes) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        Self { verdicts: verdicts.split('|').collect(), section, bytes: unescaped(bytes) }
    }
}

fn unescaped(mut text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(next) = text.chars().next() {
        if let Some((count, rest)) = repetition(text) {
            let (repeated, rest) = rest.split_once('}').unwrap();
            bytes.extend(unescaped(repeated).repeat(count));
            text = rest;
        } else if next == '\\' {
            let (byte, length) = match text.as_bytes()[1] {
                b'r' => (b'\r', 2),
                b'n' => (b'\n', 2),
                b't' => (b'\t', 2),
                b'\\' => (b'\\', 2),
                b'x' => (u8::from_str_radix(&text[2..4], 16).unwrap(), 4),
                other => panic!("unknown escape {:?}", other as char),
            };
            bytes.push(byte);
            text = &text[length..];
        } else {
            bytes.push(text.as_bytes()[0]);
            text = &text[1..];
        }
    }
    bytes
}

/// How often the following text is repeated.
fn repetition(text: &str) -> Option<(usize, &str)> {
    let (count, rest) = text.strip_prefix('{')?.split_once('*')?;
    Some((count.parse().ok()?, rest))
}

/// The response, in the words of a verdict, with every detail.
fn answers(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        bytes = &bytes[end..];
        let status = head.split(' ').nth(1).unwrap().to_owned();
        let mut body = Vec::new();
        if let Some((_, length)) = head.split_once("\r\ncontent-length: ") {
            let length = length.lines().next().unwrap().parse().unwrap();
            body.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
        } else if head.contains("\r\ntransfer-encoding: chunked\r\n") {
            loop {
                let line = bytes.iter().position(|byte| *byte == b'\n').expect("a whole body") + 1;
                let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap().trim(), 16).unwrap();
                body.extend_from_slice(&bytes[line..line + size]);
                bytes = &bytes[line + size + 2..];
                if size == 0 {
                    break;
                }
            }
        } else if head.starts_with("http/1.0") || head.contains("\r\nconnection: close\r\n") {
            body.extend_from_slice(bytes);
            bytes = &[];
        }
        answers.push((status, String::from_utf8_lossy(&body).trim_end().to_owned()));
    }
    answers
}

fn fits(verdict: &str, answers: &[(String, String)]) -> bool {
    if verdict == "-" {
        return answers.is_empty();
    }
    let expected: Vec<&str> = verdict.split(',').collect();
    expected.len() == answers.len()
        && expected.iter().zip(answers).all(|(expected, (status, body))| match expected.split_once(':') {
            Some((expected, length)) => expected == status && length == body,
            None => expected == status,
        })
}

/// To the end, which may be a reset where the host has not read everything.
fn ask(host: &Host, bytes: &[u8]) -> Vec<u8> {
    let mut stream = host.connect();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The host may have answered before the last byte.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    read_to_end(&mut stream)
}

#[test]
fn each_request_of_the_corpus_has_one_of_its_verdicts() {
    let corpus = fs::read_to_string(root().join("tests/fixtures/http1.txt")).unwrap();
    let host = Setup::serving("http-wasi").option("--idle-timeout", "5s").start();
    let (mut count, mut wrong) = (0, Vec::new());
    for line in corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let case = Case::of(line);
        count += 1;
        let answered = ask(&host, &case.bytes);
        let found = std::panic::catch_unwind(|| answers(&answered)).unwrap_or_default();
        if !case.verdicts.iter().any(|verdict| fits(verdict, &found)) {
            let shown: Vec<_> = found.iter().map(|(status, body)| format!("{status}:{body}")).collect();
            wrong.push(format!("{}: came {}: {:.120}", case.section, shown.join(","), line));
        }
    }
    assert!(count >= 150, "{count} requests");
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let log = host.whole_log();
    assert!(!log.contains("WARN"), "a client must not cause a warning: {log}");
}
