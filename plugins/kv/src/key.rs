//! A key, and the name of the file that holds its value. Two keys never share a name, and a key
//! names only its own file in the store's directory.

use std::fmt;

/// In bytes. A file name has at most 255, and each byte of a key becomes up to three of them.
pub const LONGEST_KEY: usize = 80;

/// One to [`LONGEST_KEY`] bytes, without spaces and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// `None` if the bytes are not a valid key.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let valid = (1..=LONGEST_KEY).contains(&bytes.len()) && bytes.iter().all(|&byte| byte > b' ' && byte != 0x7f);
        valid.then(|| Self(bytes.to_vec()))
    }

    /// The key itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name of its file: letters, digits, `_` and `-` unchanged, every other byte as in `%2F`.
    /// So it never begins with a dot, as the store's own files do.
    #[must_use]
    pub fn file_name(&self) -> String {
        let mut name = String::with_capacity(self.0.len() * 3);
        for &byte in &self.0 {
            if is_plain(byte) {
                name.push(char::from(byte));
            } else {
                name.push('%');
                name.push(char::from(HEX[usize::from(byte >> 4)]));
                name.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        name
    }

    /// The key whose file has this name; `None` if it is not a key's file.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        let (mut bytes, mut rest) = (Vec::with_capacity(name.len()), name.as_bytes());
        while let Some((&first, after)) = rest.split_first() {
            if first != b'%' {
                bytes.push(first);
                rest = after;
                continue;
            }
            let (digits, after) = after.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        }
        // Another program's file may look like a key in another spelling: `a%41` would be `aA`.
        Self::new(&bytes).filter(|key| key.file_name() == name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file_name())
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::{Key, LONGEST_KEY};

    #[test]
    fn every_valid_byte_survives_in_a_file_name() {
        for byte in (0x21..=0xff).filter(|&byte| byte != 0x7f) {
            let key = Key::new(&[b'k', byte]).unwrap();
            let name = key.file_name();
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-%".contains(&byte)), "{name}");
            assert_eq!(Key::of_file(&name), Some(key));
        }
        let longest = Key::new(&[b'/'; LONGEST_KEY]).unwrap();
        assert!(longest.file_name().len() <= 255);
        assert_eq!(Key::new(b"../../etc/passwd").unwrap().file_name(), "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd");
    }

    #[test]
    fn an_invalid_key_is_rejected() {
        for bytes in [b"".as_slice(), b"a b", b"a\0", b"\x7f", b"a\n", &[b'a'; LONGEST_KEY + 1]] {
            assert_eq!(Key::new(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn files_of_other_programs_are_not_keys() {
        for name in ["", ".writing", "a.txt", "a%41", "a%2f", "%", "%2", "%+1", "%é", "a b", "%20"] {
            assert_eq!(Key::of_file(name), None, "{name}");
        }
    }
}
