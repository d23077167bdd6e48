//! The commands of the protocol.

use crate::key::{Key, LONGEST_KEY};
use crate::store::LONGEST_VALUE;

/// In bytes, with its end: a word, a key, a length, and room to recognise longer lines as invalid.
pub(crate) const LONGEST_LINE: u64 = LONGEST_KEY as u64 + 48;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Get(Key),
    /// A value of this length follows.
    Put(Change, Key, usize),
    Delete(Key),
    Keys(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Set,
    Add,
}

impl Command {
    /// Parses a line with its end. The error says what is wrong.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err("the line is not complete".to_owned());
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        match *words.as_slice() {
            [b"GET", name] => key(name).map(Self::Get),
            [b"SET", name, length] => Ok(Self::Put(Change::Set, key(name)?, value_length(length)?)),
            [b"ADD", name, length] => Ok(Self::Put(Change::Add, key(name)?, value_length(length)?)),
            [b"DEL", name] => key(name).map(Self::Delete),
            [b"KEYS"] => Ok(Self::Keys(Vec::new())),
            [b"KEYS", prefix] => Ok(Self::Keys(prefix.to_vec())),
            _ => Err("a line is GET key, SET key length, ADD key length, DEL key, KEYS or KEYS prefix".to_owned()),
        }
    }
}

fn key(word: &[u8]) -> Result<Key, String> {
    Key::new(word)
        .ok_or_else(|| format!("a key has 1 to {LONGEST_KEY} bytes, none of them a space or a control character"))
}

fn value_length(word: &[u8]) -> Result<usize, String> {
    let digits = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let length = str::from_utf8(word).ok().filter(|_| digits).and_then(|word| word.parse().ok());
    length.filter(|length| *length <= LONGEST_VALUE).ok_or_else(|| format!("a length is 0 to {LONGEST_VALUE} bytes"))
}

#[cfg(test)]
mod tests {
    use super::{Change, Command, LONGEST_LINE};
    use crate::key::{Key, LONGEST_KEY};
    use crate::store::LONGEST_VALUE;

    #[test]
    fn commands_are_parsed() {
        let key = || Key::new(b"k").unwrap();
        for (line, command) in [
            ("GET k\n", Command::Get(key())),
            ("GET k\r\n", Command::Get(key())),
            ("SET k 0\n", Command::Put(Change::Set, key(), 0)),
            ("ADD k 1048576\n", Command::Put(Change::Add, key(), LONGEST_VALUE)),
            ("DEL k\n", Command::Delete(key())),
            ("KEYS\n", Command::Keys(Vec::new())),
            ("KEYS k\n", Command::Keys(b"k".to_vec())),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line}");
        }
        let longest = format!("SET {} {LONGEST_VALUE}\r\n", "k".repeat(LONGEST_KEY));
        assert!(longest.len() as u64 <= LONGEST_LINE);
        assert!(Command::parse(longest.as_bytes()).is_ok());
    }

    #[test]
    fn an_invalid_command_is_rejected_with_the_valid_ones() {
        for line in ["\n", "get k\n", "GET\n", "GET \n", "GET  k\n", "GET a b\n", "SET k\n", "KEYS a b\n", "PUT k 1\n"]
        {
            assert!(Command::parse(line.as_bytes()).is_err(), "{line}");
        }
        for length in ["", "-1", "+1", "1048577", "99999999999999999999", "1x"] {
            let refusal = Command::parse(format!("SET k {length}\n").as_bytes()).unwrap_err();
            assert_eq!(refusal, "a length is 0 to 1048576 bytes", "{length}");
        }
        assert_eq!(Command::parse(b"GET k").unwrap_err(), "the line is not complete");
    }
}
