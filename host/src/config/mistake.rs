//! Finds the mistake in a line that is not valid TOML, by its form alone. It repeats nothing of the
//! line, which may contain a secret.

use std::fmt;

/// A common mistake, as far as the line shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// The key occurred before.
    Duplicate,
    /// `key = word`.
    Unquoted,
    /// `key = 30s`.
    UnquotedNumber,
    /// `key = "text`.
    OpenQuote,
    /// A list with a mistake in it.
    List,
    /// `[table`.
    OpenTable,
    /// `key: value`.
    Colon,
    /// `key =`.
    NoValue,
    /// `key`.
    NoSign,
    /// Lines of a certificate or key.
    Pem,
    /// Another mistake.
    Other,
}

impl Mistake {
    /// The mistake in a line.
    pub(super) fn of(line: &str) -> Self {
        let line = line.trim();
        if line.starts_with("-----BEGIN") || line.starts_with("-----END") {
            return Self::Pem;
        }
        if line.starts_with('[') {
            return if line.contains(']') { Self::Other } else { Self::OpenTable };
        }
        let Some((key, value)) = line.split_once('=') else {
            return if line.contains(": ") || line.ends_with(':') { Self::Colon } else { Self::NoSign };
        };
        let value = value.trim();
        // Escaped quotes count twice, or not at all.
        let quotes = |quote: char| value.matches(quote).count() % 2 == 1;
        match value.chars().next() {
            None => Self::NoValue,
            _ if key.trim_end().ends_with(':') => Self::Colon,
            Some('#') => Self::NoValue,
            Some('[') => Self::List,
            Some(quote @ ('"' | '\'')) if quotes(quote) => Self::OpenQuote,
            Some(first) if first.is_ascii_digit() => Self::UnquotedNumber,
            Some(first) if first.is_alphabetic() || "~/$.@*_-".contains(first) => Self::Unquoted,
            Some(_) => Self::Other,
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duplicate => "duplicate key: it is given a second time; give it once",
            Self::Unquoted => "the value is a string, and strings need quotes; write KEY = \"VALUE\"",
            Self::UnquotedNumber => {
                "the value starts with a number but is not one, and needs quotes, as in KEY = \"30s\""
            }
            Self::OpenQuote => "the quote is not closed, or there is one within the string; write \\\" there",
            Self::List => "the list is not complete; it needs a bracket at its end, and quotes and commas, as in KEY = [\"A\", \"B\"]",
            Self::OpenTable => "the bracket is not closed, as in [[listener]]",
            Self::Colon => "there is a colon in place of the equals sign; write KEY = \"VALUE\"",
            Self::NoValue => "the value is missing; write KEY = \"VALUE\", or leave the line out",
            Self::NoSign => "the line is neither KEY = \"VALUE\" nor a comment, which begins with #",
            Self::Pem => "it is a certificate or a key, not a configuration; is it the right file?",
            Self::Other => "something here is not KEY = \"VALUE\", a [[listener]] or a comment",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_recognised_by_their_form() {
        for (line, mistake) in [
            ("idle-timeout = none", Mistake::Unquoted),
            ("plugin = ~/x.wasm", Mistake::Unquoted),
            ("bind = tcp://127.0.0.1:7000", Mistake::Unquoted),
            ("drain-timeout = 30s", Mistake::UnquotedNumber),
            ("plugin = \"x.wasm", Mistake::OpenQuote),
            ("guest-env = [TOKEN=secret]", Mistake::List),
            ("[[listener", Mistake::OpenTable),
            ("plugin: x.wasm", Mistake::Colon),
            ("plugin =", Mistake::NoValue),
            ("plugin = # none", Mistake::NoValue),
            ("plugin", Mistake::NoSign),
            ("-----BEGIN PRIVATE KEY-----", Mistake::Pem),
            ("a b = 1", Mistake::UnquotedNumber),
            ("x = }", Mistake::Other),
        ] {
            assert_eq!(Mistake::of(line), mistake, "{line}");
        }
    }
}
