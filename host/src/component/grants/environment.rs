//! Environment variables and arguments: given on the command line, or, for secrets, read from a
//! file.

use super::Error;
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

/// The most bytes of such a file: ten times a certificate chain with its key.
const LONGEST: u64 = 64 << 10;

/// `NAME=VALUE` or `NAME=@FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    name: String,
    value: Value,
}

#[derive(Clone, PartialEq, Eq)]
enum Value {
    Said(String),
    Kept(PathBuf),
}

impl fmt::Debug for Value {
    /// Does not print values: some secrets are given on the command line after all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(_) => f.write_str("Said"),
            Self::Kept(path) => path.fmt(f),
        }
    }
}

impl FromStr for Variable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) =
            text.split_once('=').ok_or("needs a value; write NAME=VALUE, or NAME=@FILE for a secret")?;
        if name.is_empty() {
            return Err("needs a name; write NAME=VALUE");
        }
        if text.contains('\0') {
            return Err("contains a NUL byte, which is not allowed in a variable");
        }
        let value = match value.strip_prefix('@') {
            Some("") => return Err("needs a file after the @; write NAME=@FILE"),
            Some(file) => Value::Kept(file.into()),
            None => Value::Said(value.to_owned()),
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

impl Variable {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that has the value, for `NAME=@FILE`.
    pub fn file(&self) -> Option<&Path> {
        match &self.value {
            Value::Said(_) => None,
            Value::Kept(path) => Some(path),
        }
    }

    /// Name and value. Reads the file now.
    pub(super) fn read(&self) -> Result<(String, String), Error> {
        let value = match &self.value {
            Value::Said(value) => value.clone(),
            Value::Kept(path) => read(path)
                .map_err(|problem| Error::new("--guest-env", format!("{}=@{}", self.name, path.display()), problem))?,
        };
        Ok((self.name.clone(), value))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("the file cannot be read: {error}");
    // Opening a pipe would wait for its writer, and the next reload would find it empty.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a regular file; put the value into one".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("the file is longer than {} KiB; is it the right one?", LONGEST >> 10));
    }
    let mut text = String::from_utf8(bytes).map_err(|_not_utf8| "the file is not UTF-8 text".to_owned())?;
    if text.contains('\0') {
        return Err("the file contains a NUL byte, which is not allowed in a variable".to_owned());
    }
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('\0') {
            Err("contains a NUL byte, which is not allowed in an argument")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}
