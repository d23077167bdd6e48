//! The request for a new project, from `new`.

use std::str::FromStr;

/// The languages of project handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// C.
    C,
    /// JavaScript.
    JavaScript,
    /// Python.
    Python,
}

impl FromStr for Language {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "rust" => Ok(Self::Rust),
            "c" => Ok(Self::C),
            "js" | "javascript" => Ok(Self::JavaScript),
            "python" => Ok(Self::Python),
            _ => Err("is not one of rust, c, js, python"),
        }
    }
}

/// The name of a project: of its directory, its package and its plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub(crate) String);

/// The longest name that fits into every file name.
const LONGEST_NAME: usize = 64;

/// Rust keywords, which are not valid names of packages.
const TAKEN: [&str; 51] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "use",
    "uninterruptible-guest",
    "uninterruptible-guest-minimal",
];

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words_are_whole = text.split('-').all(|word| !word.is_empty());
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !text.starts_with(|first: char| first.is_ascii_lowercase())
            || !text.bytes().all(allowed)
            || !words_are_whole
            || text.len() > LONGEST_NAME
        {
            return Err(
                "is not a valid project name: use lower-case letters, digits and single dashes, as in my-plugin",
            );
        }
        if TAKEN.contains(&text) {
            return Err("has a meaning of its own in Rust: choose another name, as in my-plugin");
        }
        Ok(Self(text.to_owned()))
    }
}

/// A project to create.
#[derive(Clone, Debug)]
pub struct Project {
    /// The language of its handler.
    pub language: Language,
    /// Its name.
    pub name: Name,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_names_are_valid_in_every_tool() {
        for name in ["hello", "my-plugin", "a2", &"x".repeat(LONGEST_NAME)] {
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
        let long = "x".repeat(LONGEST_NAME + 1);
        for name in ["", "-a", "a-", "a--b", "A", "2a", "a_b", "a/b", "..", "a b", "é", "fn", "std", &long] {
            assert!(name.parse::<Name>().is_err(), "{name}");
        }
    }
}
