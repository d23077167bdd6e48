//! Every kind of header, every kind of fault, and a million random inputs.

use super::*;
use crate::system::{kernel, random::Random};
use std::{io::Write, os::unix::net::UnixStream, panic, thread};

/// Each input derives from this seed and its number alone, so that a failure can be reproduced.
const SEED: u64 = 0x0070_726f_7879;

const INPUTS: u64 = 1_000_000;

/// A header of version 2: command, family, and what comes after the length.
fn binary(command: u8, family: u8, after: &[u8]) -> Vec<u8> {
    let mut header = v2::START.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(after.len()).unwrap().to_be_bytes());
    header.extend(after);
    header
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut extension = vec![kind];
    extension.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    extension.extend(value);
    extension
}

const IPV4: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0xd4, 0x31, 0x01, 0xbb];

fn ipv4(extensions: &[Vec<u8>]) -> Vec<u8> {
    binary(0x21, 0x11, &[&IPV4[..], &extensions.concat()].concat())
}

fn ipv6() -> Vec<u8> {
    let mut addresses = [0; 36];
    addresses[..2].copy_from_slice(&[0x20, 0x01]);
    addresses[15] = 7;
    addresses[31] = 1;
    addresses[32..].copy_from_slice(&[0xd4, 0x31, 0x01, 0xbb]);
    binary(0x21, 0x21, &addresses)
}

/// A header with one extension before the checksum and one after it.
fn with_checksum() -> Vec<u8> {
    let mut header = ipv4(&[extension(0x04, b"padding"), extension(0x03, &[0; 4]), extension(0x20, b"\x01tls")]);
    let at = 16 + 12 + 10 + 3;
    let checksum = v2::crc32c(header.iter().copied()).to_be_bytes();
    header[at..at + 4].copy_from_slice(&checksum);
    header
}

fn tcp(source: &str, destination: &str) -> Header {
    Header::Tcp { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn valid() -> Vec<(Vec<u8>, Header)> {
    let client = || tcp("203.0.113.7:54321", "192.0.2.1:443");
    let client6 = || tcp("[2001::7]:54321", "[::1]:443");
    let line = |line: &str| format!("PROXY {line}\r\n").into_bytes();
    let longest = format!("UNKNOWN {}", "f".repeat(107 - 16));
    vec![
        (line("TCP4 203.0.113.7 192.0.2.1 54321 443"), client()),
        (line("TCP6 2001::7 ::1 54321 443"), client6()),
        (line("TCP6 ::ffff:203.0.113.7 ::1 0 65535"), tcp("[::ffff:203.0.113.7]:0", "[::1]:65535")),
        (line("UNKNOWN"), Header::ProxyItself),
        (line("UNKNOWN whatever this\u{fffd} is"), Header::ProxyItself),
        (line(&longest), Header::ProxyItself),
        (ipv4(&[]), client()),
        (ipv4(&[extension(0x01, b"h2"), extension(0x20, &[0; 300]), extension(0xff, b"")]), client()),
        (with_checksum(), client()),
        (ipv6(), client6()),
        (binary(0x21, 0x31, &[0; 216]), Header::Unix),
        (binary(0x20, 0x00, &[]), Header::ProxyItself),
        (binary(0x20, 0x11, &IPV4), Header::ProxyItself),
        (binary(0x20, 0x77, b"whatever"), Header::ProxyItself),
        (binary(0x21, 0x00, b"whatever"), Header::ProxyItself),
        (ipv4(&[extension(0x04, &[0; LONGEST - 16 - 12 - 3])]), client()),
    ]
}

#[test]
fn every_header_parses_and_excludes_the_bytes_after_it() {
    for (bytes, header) in valid() {
        assert_eq!(decode(&bytes), Ok(Some((header, bytes.len()))), "{}", String::from_utf8_lossy(&bytes));
        let followed = [&bytes[..], b"\r\nPROXY and more"].concat();
        assert_eq!(decode(&followed), Ok(Some((header, bytes.len()))));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Ok(None), "{end} bytes of {}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn invalid_headers_are_rejected_as_early_as_possible() {
    let changed = |at: usize| {
        let mut header = with_checksum();
        header[at] ^= 1;
        header
    };
    let line = |line: &str| format!("PROXY {line}\r\n").into_bytes();
    let says = |line: &str| Malformed::Line(format!("PROXY {line}"));
    for (bytes, malformed) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), Malformed::Start),
        (b"\x16\x03\x01".to_vec(), Malformed::Start),
        (b"proxy TCP4".to_vec(), Malformed::Start),
        (b"PROXY\r\n".to_vec(), Malformed::Start),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Malformed::Start),
        (line(""), says("")),
        (line("TCP4"), says("TCP4")),
        (line("UDP4 203.0.113.7 192.0.2.1 1 2"), says("UDP4 203.0.113.7 192.0.2.1 1 2")),
        (line("TCP4 203.0.113.7 192.0.2.1 1"), says("TCP4 203.0.113.7 192.0.2.1 1")),
        (line("TCP4 203.0.113.7 192.0.2.1 1 2 3"), says("TCP4 203.0.113.7 192.0.2.1 1 2 3")),
        (line("TCP4 203.0.113.7 192.0.2.1 1 2 "), says("TCP4 203.0.113.7 192.0.2.1 1 2 ")),
        (line("TCP4  203.0.113.7 192.0.2.1 1 2"), says("TCP4  203.0.113.7 192.0.2.1 1 2")),
        (line("TCP4 203.0.113.7 192.0.2.1 1 65536"), says("TCP4 203.0.113.7 192.0.2.1 1 65536")),
        (line("TCP4 203.0.113.7 192.0.2.1 +1 2"), says("TCP4 203.0.113.7 192.0.2.1 +1 2")),
        (line("TCP4 203.0.113.7 192.0.2.1 01 2"), says("TCP4 203.0.113.7 192.0.2.1 01 2")),
        (line("TCP4 203.0.113.07 192.0.2.1 1 2"), says("TCP4 203.0.113.07 192.0.2.1 1 2")),
        (line("TCP4 ::1 ::1 1 2"), says("TCP4 ::1 ::1 1 2")),
        (line("TCP6 203.0.113.7 ::1 1 2"), says("TCP6 203.0.113.7 ::1 1 2")),
        (line("TCP6 fe80::1%lo ::1 1 2"), says("TCP6 fe80::1%lo ::1 1 2")),
        (line("UNKNOWNS"), says("UNKNOWNS")),
        (format!("PROXY UNKNOWN {}", "f".repeat(93)).into_bytes(), Malformed::Endless),
        (format!("PROXY UNKNOWN {}\r\n", "f".repeat(92)).into_bytes(), Malformed::Endless),
        (binary(0x22, 0x11, &IPV4), Malformed::Command(0x22)),
        (binary(0x11, 0x11, &IPV4), Malformed::Command(0x11)),
        (binary(0x21, 0x12, &IPV4), Malformed::Family(0x12)),
        (binary(0x21, 0x13, &IPV4), Malformed::Family(0x13)),
        (binary(0x21, 0x41, &IPV4), Malformed::Family(0x41)),
        (binary(0x21, 0x11, &IPV4[..11]), Malformed::TooShort),
        (binary(0x21, 0x21, &IPV4), Malformed::TooShort),
        (binary(0x21, 0x31, &[0; 215]), Malformed::TooShort),
        (ipv4(&[vec![4]]), Malformed::Extension),
        (ipv4(&[vec![4, 0]]), Malformed::Extension),
        (ipv4(&[vec![4, 0, 1]]), Malformed::Extension),
        (ipv4(&[extension(0x03, b"")]), Malformed::Checksum),
        (ipv4(&[extension(0x03, &[0; 4])]), Malformed::Checksum),
        (changed(20), Malformed::Checksum),
        (changed(16 + 12 + 10 + 3), Malformed::Checksum),
        (changed(16 + 12 + 10 + 3 + 4 + 3), Malformed::Checksum),
        // The error shows as soon as the length is known, before the rest arrives.
        (ipv4(&[extension(0x04, &[0; LONGEST])])[..16].to_vec(), Malformed::TooLong(16 + 12 + 3 + LONGEST)),
    ] {
        assert_eq!(decode(&bytes), Err(malformed), "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(v2::crc32c(b"123456789".iter().copied()), 0xe306_9283);
}

/// Both ends of a connection, the accepted one as the host holds it.
fn connection() -> (UnixStream, AsyncFd<OwnedFd>) {
    let (peer, host) = UnixStream::pair().unwrap();
    host.set_nonblocking(true).unwrap();
    (peer, kernel::watched(host.into()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_header_is_read_however_it_arrives() {
    for (bytes, header) in valid() {
        for step in [1, 7, bytes.len(), usize::MAX] {
            let (mut peer, socket) = connection();
            let all = [&bytes[..], b"and more"].concat();
            let reading = tokio::spawn(async move { (read(&socket).await, socket) });
            for piece in all.chunks(step) {
                peer.write_all(piece).unwrap();
                tokio::task::yield_now().await;
            }
            let (read, socket) = reading.await.unwrap();
            assert_eq!(read.unwrap(), header);
            let mut rest = [0; 16];
            let (count, _) = recv(&socket, &mut rest, RecvFlags::empty()).unwrap();
            assert_eq!(&rest[..count], b"and more");
        }
    }
}

#[tokio::test]
async fn an_end_before_and_within_a_header_are_different_errors() {
    for (sent, expected) in [(&b""[..], "it sent nothing"), (b"PROXY TCP4 ", "the header is cut off after 11 bytes")] {
        let (mut peer, socket) = connection();
        peer.write_all(sent).unwrap();
        drop(peer);
        assert_eq!(read(&socket).await.unwrap_err().to_string(), expected);
    }
}

/// One input, derived from its number.
fn input(number: u64, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut dice = Random::new(SEED ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut bytes = valid[dice.below(valid.len())].clone();
    match number % 8 {
        0 => (0..dice.below(200)).map(|_| dice.next_u64().to_le_bytes()[0]).collect(),
        1 => {
            const WORDS: [&str; 16] = [
                "PROXY ",
                "TCP4 ",
                "TCP6 ",
                "UNKNOWN",
                " ",
                "\r\n",
                "\r",
                "\n",
                "\0",
                "0",
                "65536 ",
                "127.0.0.1 ",
                "::1 ",
                "::ffff:1.2.3.4 ",
                "\u{1f980}",
                "-1 ",
            ];
            let words: String = (0..dice.below(12)).map(|_| dice.one_of(&WORDS)).collect();
            format!("PROXY {words}\r\n").into_bytes()
        }
        2 => {
            // Extensions whose lengths may or may not match.
            let mut after = IPV4.to_vec();
            for _ in 0..dice.below(8) {
                let value = vec![dice.next_u64().to_le_bytes()[0]; dice.below(40)];
                after.extend(extension(dice.one_of(&[1, 2, 3, 4, 0x20, 0xff]), &value));
            }
            after.truncate(after.len() - dice.below(3));
            binary(dice.one_of(&[0x20, 0x21]), dice.one_of(&[0x00, 0x11, 0x21, 0x31]), &after)
        }
        _ => {
            for _ in 0..=dice.below(3) {
                mutate(&mut dice, &mut bytes);
            }
            bytes
        }
    }
}

fn mutate(dice: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(b'P');
    }
    let at = dice.below(bytes.len().min(120));
    match dice.below(5) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.one_of(b"\0\r\n 0129.:fP\x11\x20\x21\x31\xff"),
        2 => bytes.truncate(at),
        3 => drop(bytes.remove(at)),
        _ => bytes.insert(at, dice.next_u64().to_le_bytes()[0]),
    }
}

/// Fails if the decoder breaks its guarantees. Returns whether the input was a header.
fn check_guarantees(bytes: &[u8], dice: &mut Random) -> bool {
    let sooner = &bytes[..dice.below(bytes.len() + 1)];
    match decode(bytes) {
        Ok(None) => {
            assert!(bytes.len() < LONGEST, "would be waited for without end");
            assert_eq!(decode(sooner), Ok(None), "what is not certain now was not before");
            false
        }
        Ok(Some((header, length))) => {
            assert!(length <= bytes.len() && length <= LONGEST);
            assert_eq!(decode(&bytes[..length]), Ok(Some((header, length))), "what follows does not matter");
            assert_eq!(decode(&bytes[..length - 1]), Ok(None), "the last byte does");
            true
        }
        Err(malformed) => {
            let later = [bytes, b"\r\n"].concat();
            assert!(decode(&later).is_err(), "{malformed}: more of it mends nothing");
            assert!(malformed.to_string().len() < 1000 && !malformed.to_string().contains(char::is_control));
            false
        }
    }
}

#[test]
fn no_input_panics_the_decoder() {
    let valid: Vec<_> = valid().into_iter().map(|(bytes, _)| bytes).collect();
    let workers = thread::available_parallelism().map_or(1, |workers| u64::try_from(workers.get()).unwrap());
    let read = |worker: u64| {
        let numbers = (worker..INPUTS).step_by(usize::try_from(workers).unwrap());
        let is_header = |number: &u64| {
            let bytes = input(*number, &valid);
            panic::catch_unwind(|| check_guarantees(&bytes, &mut Random::new(*number)))
                .unwrap_or_else(|_| panic!("input {number} of seed {SEED:#x}: {:?}", String::from_utf8_lossy(&bytes)))
        };
        numbers.filter(is_header).count()
    };
    let headers: usize = thread::scope(|scope| {
        let read = &read;
        let readers: Vec<_> = (0..workers).map(|worker| scope.spawn(move || read(worker))).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    // Neither all nor none: otherwise one half of the guarantee would be untested.
    assert!((10_000..900_000).contains(&headers), "{headers} of {INPUTS} were headers");
}
