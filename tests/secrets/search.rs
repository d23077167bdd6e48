//! Finds a secret in an output, in any notation.

use crate::certificates::trusted;
use std::collections::HashSet;

/// An output does not contain that many bytes in a row by chance.
const WINDOW: usize = 5;

/// Bytes that must not be printed.
pub struct Secret {
    /// The content of its file, and the decoded form.
    bytes: Vec<Vec<u8>>,
    windows: HashSet<[u8; WINDOW]>,
}

impl Secret {
    /// A key or certificate in PEM.
    pub fn of_pem(pem: &str) -> Self {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = unbase64(&body);
        Self::of(vec![body.into_bytes(), der])
    }

    pub fn of_text(text: &str) -> Self {
        Self::of(vec![text.as_bytes().to_vec()])
    }

    fn of(bytes: Vec<Vec<u8>>) -> Self {
        let windows = bytes.iter().flat_map(|bytes| bytes.windows(WINDOW)).map(|window| window.try_into().unwrap());
        Self { windows: windows.collect(), bytes }
    }

    /// The notation in which an output contains a part of it.
    fn found_in(&self, output: &str) -> Option<String> {
        let text = |bytes: &[u8], length: usize| {
            let pieces = bytes.windows(length).map(String::from_utf8_lossy).map(|piece| piece.into_owned());
            pieces.into_iter().find(|piece| output.contains(piece)).map(|piece| format!("{piece:?} as text"))
        };
        if let Some(found) = text(&self.bytes[0], 8) {
            return Some(found);
        }
        // Base64 of it begins at one of three offsets.
        for (bytes, skipped) in self.bytes.iter().flat_map(|bytes| [(bytes, 0), (bytes, 1), (bytes, 2)]) {
            if let Some(found) = text(&base64(&bytes[skipped..]), 12) {
                return Some(format!("{found} in base64"));
            }
        }
        let tokens: Vec<&str> = output.split(|character: char| !character.is_ascii_alphanumeric()).collect();
        let tokens: Vec<&str> = tokens.into_iter().filter(|token| !token.is_empty()).collect();
        let decimal = |token: &&str| token.parse().ok();
        let hexadecimal =
            |token: &&str| u8::from_str_radix(token.trim_start_matches("0x").trim_start_matches('x'), 16).ok();
        for (notation, read) in [("decimal", &decimal as &dyn Fn(&&str) -> Option<u8>), ("hexadecimal", &hexadecimal)] {
            for run in tokens.windows(WINDOW) {
                let bytes: Option<Vec<u8>> = run.iter().map(read).collect();
                if bytes.is_some_and(|bytes| self.windows.contains(bytes.as_slice())) {
                    return Some(format!("{run:?} as {notation} numbers"));
                }
            }
        }
        for run in output.split(|character: char| !character.is_ascii_hexdigit()).filter(|run| run.len() >= 2 * WINDOW)
        {
            for digits in run.as_bytes().windows(2 * WINDOW) {
                let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
                let bytes: Vec<u8> = digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
                if self.windows.contains(bytes.as_slice()) {
                    return Some(format!("{run:?} as hexadecimal digits"));
                }
            }
        }
        None
    }

    pub fn is_not_in(&self, what: &str, output: &str) {
        if let Some(found) = self.found_in(output) {
            panic!("{what}: {found} in\n{output}");
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn unbase64(text: &str) -> Vec<u8> {
    let bits: Vec<usize> =
        text.bytes().filter_map(|byte| ALPHABET.iter().position(|&character| character == byte)).collect();
    bits.chunks_exact(4)
        .flat_map(|group| {
            let number = group.iter().fold(0, |number, &bits| number << 6 | bits);
            [(number >> 16) as u8, (number >> 8) as u8, number as u8]
        })
        .collect()
}

/// Encodes the bytes that fill groups of three.
pub fn base64(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks_exact(3)
        .flat_map(|group| {
            let number = group.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
            [18, 12, 6, 0].map(|shift| ALPHABET[number >> shift & 63])
        })
        .collect()
}

#[test]
fn a_secret_is_found_in_every_notation() {
    let key = &trusted().client("carol").key;
    let secret = Secret::of_pem(key);
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let der = unbase64(&body);
    let (piece, part) = (&body.as_bytes()[30..50], &der[30..50]);
    let joined = |bytes: &[u8], format: fn(&u8) -> String, between: &str| {
        format!("an error: [{}]", bytes.iter().map(format).collect::<Vec<_>>().join(between))
    };
    for leak in [
        body[30..45].to_owned(),
        format!("{piece:?}"),
        format!("{part:?}"),
        joined(part, |byte| format!("{byte:02x}"), ""),
        joined(part, |byte| format!("{byte:02X}"), ":"),
        joined(piece, |byte| format!("\\x{byte:02x}"), ""),
        joined(piece, |byte| format!("{byte:#x}"), " "),
        String::from_utf8(base64(body.as_bytes())).unwrap(),
        String::from_utf8(base64(&body.as_bytes()[2..])).unwrap(),
    ] {
        assert!(secret.found_in(&leak).is_some(), "{leak}");
    }
    assert_eq!(secret.found_in("127.0.0.1:7000 at 2026-11-30T16:06:59.123456Z, 5 of 10, 20 and 30 0x40"), None);
}
