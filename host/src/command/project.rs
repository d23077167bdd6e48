//! `new`: writes a project for a plugin, which builds and runs unchanged on any machine.
//!
//! This binary contains its files. The handler and its bindings are those of the examples, the SDK
//! is this repository's. A project refers to nothing outside, so it is the same with and without
//! this repository.

mod contents;

use self::contents::{Content, File};
use crate::config::project::{Name, Project};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Why the project could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory exists. Existing files are never changed.
    #[error("new: {0} exists already: choose another name, or move it")]
    Exists(String),
    /// The system refused.
    #[error("new: {path}: {source}")]
    Refused {
        /// The operation.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

impl Project {
    /// Writes the project into a directory of its name, which must not exist. If that fails, it
    /// removes what it has written.
    ///
    /// # Errors
    ///
    /// If the directory exists, or cannot be created or filled.
    pub fn write(&self) -> Result<(), Error> {
        let Name(name) = &self.name;
        let directory = Path::new(name);
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists(name.clone())),
            Err(source) => return Err(Error::Refused { path: name.clone(), source }),
        }
        for file in contents::of(self.language) {
            let path = directory.join(file.path);
            if let Err(source) = self.file(&path, file) {
                // This process created it and only wrote into it.
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

    /// A template with the words of this project.
    fn filled(&self, template: &str) -> String {
        let Name(name) = &self.name;
        let words = contents::words(self.language);
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

    /// The next steps for the user.
    pub fn next_steps(&self) -> String {
        let Name(name) = &self.name;
        format!("wrote {name}/; now: cd {name} && ./build && uninterruptible-host --watch --plugin {name}.wasm\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::project::Language;
    use std::{collections::BTreeSet, path::PathBuf};

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

    /// A new file in the SDK or the contract has to be part of a project.
    #[test]
    fn projects_contain_the_complete_sdk_and_contract() {
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
        let found: BTreeSet<_> = contents::of(Language::Rust)
            .filter_map(|file| file.path.strip_prefix("uninterruptible/"))
            .map(|path| root.join(path))
            .filter(|path| path.exists())
            .collect();
        let missing: Vec<_> = wanted.difference(&found).collect();
        assert!(missing.is_empty(), "to be named in project/contents.rs: {missing:?}");
    }

    #[test]
    fn every_template_word_is_filled_in() {
        for language in [Language::Rust, Language::C, Language::JavaScript, Language::Python] {
            let project = Project { language, name: "my-plugin".parse().unwrap() };
            for file in contents::of(language) {
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
