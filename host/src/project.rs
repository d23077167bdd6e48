//! `new`: a project for a plugin, which builds and runs as it is, anywhere.
//!
//! What it consists of is in this binary: the handler and its bindings are those of the examples, the SDK is this repository's.
//! Nothing in a project leads out of it, so that it is the same whoever has this repository.

mod files;

use files::{Content, File};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    str::FromStr,
};

/// What handlers can be begun in.
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
            _ => Err("is none of rust, c, js, python"),
        }
    }
}

/// The name of a project: of its directory, its package and its plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// The longest name that is sure to fit into the names of files.
const LONGEST_NAME: usize = 64;

/// What Rust keeps for itself, in names of packages.
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
            return Err("is no name for a project: take lower case letters, digits and single dashes, as in my-plugin");
        }
        if TAKEN.contains(&text) {
            return Err("means something else to Rust: take another name, as in my-plugin");
        }
        Ok(Self(text.to_owned()))
    }
}

/// A project that is to be.
#[derive(Clone, Debug)]
pub struct Project {
    /// What its handler is written in.
    pub language: Language,
    /// How it is called.
    pub name: Name,
}

/// Why there is no project now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing that is there is touched.
    #[error("new: {0} is there already: take another name, or move it away")]
    Exists(String),
    /// The system refused.
    #[error("new: {path}: {source}")]
    Refused {
        /// What it was asked for.
        path: String,
        /// What it said.
        source: io::Error,
    },
}

impl Project {
    /// Writes it into a directory of its name, which must not be there yet. What was begun and could not be finished is removed.
    ///
    /// # Errors
    ///
    /// Where the directory is there, or cannot be made or filled.
    pub fn write(&self) -> Result<(), Error> {
        let Name(name) = &self.name;
        let directory = Path::new(name);
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists(name.clone())),
            Err(source) => return Err(Error::Refused { path: name.clone(), source }),
        }
        for file in files::of(self.language) {
            let path = directory.join(file.path);
            if let Err(source) = self.file(&path, file) {
                // It is this process's own, and nothing was ever in it but what it has written.
                fs::remove_dir_all(directory).ok();
                return Err(Error::Refused { path: path.display().to_string(), source });
            }
        }
        Ok(())
    }

    fn file(&self, path: &Path, File { content, executable, .. }: &File) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mode = if *executable { 0o777 } else { 0o666 };
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        match content {
            Content::Bytes(bytes) => file.write_all(bytes),
            Content::Text(text) => file.write_all(text.as_bytes()),
            Content::Template(text) => file.write_all(self.filled(text).as_bytes()),
        }
    }

    /// A template with what differs from project to project.
    fn filled(&self, template: &str) -> String {
        let Name(name) = &self.name;
        let words = files::words(self.language);
        let about = [
            ("@NAME@", name.as_str()),
            // As cargo names the file of a library.
            ("@MODULE@", &name.replace('-', "_")),
            ("@VERSION@", env!("CARGO_PKG_VERSION")),
            ("@RUST@", env!("CARGO_PKG_RUST_VERSION")),
            ("@LICENCE@", env!("CARGO_PKG_LICENSE")),
            ("@REPOSITORY@", env!("CARGO_PKG_REPOSITORY")),
        ];
        words.iter().chain(&about).fold(template.to_owned(), |text, (what, with)| text.replace(what, with))
    }

    /// What to do with it now.
    pub fn next_steps(&self) -> String {
        let Name(name) = &self.name;
        format!("wrote {name}/; now: cd {name} && ./build && uninterruptible-host --watch --plugin {name}.wasm\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, path::PathBuf};

    #[test]
    fn names_are_those_that_every_tool_takes() {
        for name in ["hello", "my-plugin", "a2", &"x".repeat(LONGEST_NAME)] {
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
        let long = "x".repeat(LONGEST_NAME + 1);
        for name in ["", "-a", "a-", "a--b", "A", "2a", "a_b", "a/b", "..", "a b", "é", "fn", "std", &long] {
            assert!(name.parse::<Name>().is_err(), "{name}");
        }
    }

    fn all_below(directory: &Path, into: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all_below(&path, into);
            } else {
                into.insert(path);
            }
        }
    }

    /// A file that is new in the SDK or the contract has to come with a project.
    #[test]
    fn the_sdk_and_the_contract_are_there_as_a_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut wanted = BTreeSet::new();
        for part in [
            "guest-sdk/src",
            "guest-sdk/macros/src",
            "guest-sdk/minimal/src",
            "guest-sdk/minimal/wit",
            "guest-sdk/wit",
            "wit",
        ] {
            all_below(&root.join(part), &mut wanted);
        }
        let found: BTreeSet<_> = files::of(Language::Rust)
            .filter_map(|file| file.path.strip_prefix("uninterruptible/"))
            .map(|path| root.join(path))
            .filter(|path| path.exists())
            .collect();
        let missing: Vec<_> = wanted.difference(&found).collect();
        assert!(missing.is_empty(), "to be named in project/files.rs: {missing:?}");
    }

    #[test]
    fn no_word_is_left_open() {
        for language in [Language::Rust, Language::C, Language::JavaScript, Language::Python] {
            let project = Project { language, name: Name("my-plugin".to_owned()) };
            for file in files::of(language) {
                if let Content::Template(text) = file.content {
                    let filled = project.filled(text);
                    let open =
                        filled.split('@').nth(1).filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase()));
                    assert_eq!(open, None, "{}", file.path);
                }
            }
        }
    }
}
