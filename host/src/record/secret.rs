//! How messages show a value that may be a misplaced secret, such as a key in the variable for its
//! path.

use std::{borrow::Cow, fmt, path::Path};

/// Longer than the longest file name that the system accepts.
const LONGEST_NAME: usize = 255;

/// Longer than the longest path that the system accepts.
const LONGEST_PATH: usize = 4096;

/// The shortest run of base64 characters, with digits, capital and small letters, that counts as
/// content. A key of 256 bits has 43.
const SHORTEST_CONTENT: usize = 40;

/// The longest hexadecimal digest that a name may contain: SHA-256.
const LONGEST_DIGEST: usize = 64;

/// A value, or a note that it is not shown.
pub struct Shown<'v> {
    value: Cow<'v, str>,
    quoted: bool,
}

impl<'v> Shown<'v> {
    /// A value, in quotes.
    pub fn of(value: &'v str) -> Self {
        Self { value: value.into(), quoted: true }
    }

    /// A path, in quotes.
    pub fn path(path: &'v Path) -> Self {
        Self { value: path.to_string_lossy(), quoted: true }
    }

    /// A path, without quotes.
    pub fn bare(path: &'v Path) -> Self {
        Self { value: path.to_string_lossy(), quoted: false }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, quoted } = self;
        if is_content(value) {
            let length = value.len();
            write!(f, "(not shown, since its {length} bytes look like the content of a file and not like its path)")
        } else if *quoted {
            write!(f, "{value:?}")
        } else {
            f.write_str(value)
        }
    }
}

/// A text about a value. If the value is not shown, words of the text that are part of it become
/// "...".
pub fn without_words_of<'t>(value: &str, text: &'t str) -> Cow<'t, str> {
    const PART: usize = 8;
    if !is_content(value) {
        return text.into();
    }
    let is_part = |word: &str| {
        word.as_bytes().windows(PART).any(|part| value.as_bytes().windows(PART).any(|of_value| of_value == part))
    };
    text.split(' ').map(|word| if is_part(word) { "..." } else { word }).collect::<Vec<_>>().join(" ").into()
}

/// Whether a value looks like the content of a file of secrets, in one of its usual encodings.
pub fn is_content(value: &str) -> bool {
    value.contains("-----BEGIN")
        || value.contains("-----END")
        || value.chars().any(|character| character.is_control())
        || value.len() > LONGEST_PATH
        || value.split(['/', ',', ' ', ':', '=']).any(|name| name.len() > LONGEST_NAME)
        || value.split(|character: char| !is_base64(character)).any(is_random)
        || is_encoded(value)
        || is_hexadecimal(value)
        // A relative path is made absolute before it is used.
        || value.match_indices('/').any(|(slash, _)| value.get(slash + 1..).is_some_and(is_encoded))
}

/// Whether the value is all base64, including slashes, and begins like DER or like the dashes of
/// PEM.
fn is_encoded(value: &str) -> bool {
    // The first bytes of a DER sequence, by its length: the shortest keys, then up to 127 bytes,
    // then longer. Last, the dashes.
    let begins = ["MC", "ME", "MF", "MG", "MH", "MI", "LS0t"].iter().any(|beginning| value.starts_with(beginning));
    let rest = value.trim_end_matches('=');
    begins && is_random(rest) && rest.chars().all(|character| is_base64(character) || character == '/')
}

/// Whether the value contains a DER sequence in hexadecimal, with or without colons between the
/// bytes.
fn is_hexadecimal(value: &str) -> bool {
    let runs = value.split(|character: char| !character.is_ascii_hexdigit() && character != ':');
    runs.map(|run| run.replace(':', "")).any(|digits| digits.len() > LONGEST_DIGEST && digits.starts_with("30"))
}

fn is_base64(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '+'
}

/// Whether a word is long and looks random.
fn is_random(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.bytes().filter(kind).count() >= 3;
    word.len() >= SHORTEST_CONTENT
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_does_not_repeat_a_value_that_is_not_shown() {
        let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2";
        let text = format!("has no scheme, as in tcp://{key}:7000");
        assert_eq!(without_words_of(key, &text), "has no scheme, as in ...");
        assert_eq!(without_words_of("localhost:7000", "as in tcp://localhost:7000"), "as in tcp://localhost:7000");
    }

    #[test]
    fn content_is_not_shown_and_paths_are() {
        for content in [
            "-----BEGIN PRIVATE KEY-----\nMIIE",
            "-----BEGIN PRIVATE KEY----- MIIE",
            "one\ntwo",
            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2",
            "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JR0hBZ0VBTUJNR0J5cUdTTTQ5",
            &"x".repeat(256),
            "MHcCAQEEIA0b1C2d3E4f/5G6h7I8j9K0l/1M2n3O4p5Q6r7S8t/9U0v1W2x",
            "/run/app/MC4CAQAwBQYDK2VwBCIEIA0b/1C2d3E4f5G6h7I8j/9K0l1M2n3O4p=",
            &"a/".repeat(2049),
            "302e020100300506032b6570042204203fb285e618278da385ca44eb234efe6f38ee6bdd1ed426b7ab376d7521986106",
            "302E020100300506032B6570042204203FB285E618278DA385CA44EB234EFE6F38EE6BDD1ED426B7AB376D7521986106",
            "30:2e:02:01:00:30:05:06:03:2b:65:70:04:22:04:20:3f:b2:85:e6:18:27:8d:a3:85:ca:44:eb:23:4e:fe:6f:38:ee:6b",
        ] {
            assert!(is_content(content), "{content}");
            assert!(!Shown::of(content).to_string().contains(&content[..content.len().min(20)]));
        }
        for path in [
            "/etc/ssl/private/site.key",
            "C:\\keys\\site.pem",
            "/nix/store/5rnfzla9kcx4mj5zdc7nlnv8na1najvg-host-0.1.0/etc/host.toml",
            "/var/lib/0d6c8a4b2f1e7c5d9b3a6f8e4d2c1b0a9f8e7d6c5b4a39281706f5e4d3c2b1a0/key",
            "/var/lib/306c8a4b2f1e7c5d9b3a6f8e4d2c1b0a9f8e7d6c5b4a39281706f5e4d3c2b1a0/key",
            "/srv/MIT/courses/algorithms/lectures/recordings/part1/video",
            "",
        ] {
            assert!(!is_content(path), "{path}");
            assert_eq!(Shown::of(path).to_string(), format!("{path:?}"));
            assert_eq!(Shown::bare(Path::new(path)).to_string(), path);
        }
    }
}
