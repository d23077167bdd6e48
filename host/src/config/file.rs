//! The configuration file: TOML whose keys are the options' long names, and a `[[listener]]` table
//! for each listener with options of its own. Only its form is checked here, not its meaning.

use super::{cli, layers::ALIKE, mistake::Mistake, paths};
use crate::record::secret::{Shown, is_content};
use std::{fmt, fs, io, ops::Range, path::Path, sync::Arc};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use zeroize::Zeroizing;

/// Far more than thousands of listeners take, in bytes.
const LARGEST: u64 = 1 << 20;

/// The content of a file.
#[derive(Debug)]
pub(super) struct File {
    /// The options of the process and of all listeners.
    pub(super) entries: Vec<Entry>,
    /// The tables of single listeners.
    pub(super) listeners: Vec<Section>,
}

/// A table.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) place: Place,
    pub(super) entries: Vec<Entry>,
    /// The tables of its routes, if it is a listener.
    pub(super) routes: Vec<Self>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Word(String),
    List(Vec<String>),
    Switch(bool),
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: Arc<Path>,
    /// From 1; 0 for the file as a whole.
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => Shown::bare(&self.file).fmt(f),
            line => write!(f, "{}, line {line}", Shown::bare(&self.file)),
        }
    }
}

/// A file that is not a valid configuration.
#[derive(Debug, thiserror::Error)]
#[error("--config {place}: {problem}")]
pub struct FileError {
    place: Place,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("{0}")]
    Missing(String),
    #[error("is not UTF-8 text; is it the right file?")]
    NotText,
    #[error("is not a regular file")]
    NotAFile,
    #[error("is {0} bytes, and a configuration has at most {LARGEST}: is it the right file?")]
    TooLarge(u64),
    #[error("is not valid TOML: {0}")]
    Syntax(Mistake),
    #[error("{key} is {found}; it takes {takes}")]
    Kind { key: String, found: &'static str, takes: &'static str },
    #[error("{key} has {found} in its list, which takes strings or numbers")]
    InList { key: String, found: &'static str },
    #[error(
        "there is no table {key}{}; put options, with their names from --help, above the first [[listener]] or into one", instead(key), key = Shown::of(key)
    )]
    UnknownTable { key: String },
    #[error("[{0}] is a single table, and there may be several of them; write [[{0}]], with two brackets")]
    OneTable(&'static str),
    #[error("there is no option {key}{}", meant_instead(key, near.as_deref()), key = Shown::of(key))]
    Unknown { key: String, near: Option<String> },
    #[error("{key:?} is not an option of a single {of}; put it {to}")]
    Misplaced { key: String, of: &'static str, to: &'static str },
    #[error("a [[listener.route]] needs a server-name or an alpn, by which it is chosen")]
    NoChoice,
    #[error("a [[listener]] needs a bind, as in bind = \"tcp://127.0.0.1:7000\"")]
    NoBind,
    #[error("bind is given here, and {0} has a [[listener]]: put each address into a [[listener]] of its own")]
    TwoWaysToBind(Place),
}

/// The table that was probably meant by another name, or the key that takes its place.
fn instead(key: &str) -> String {
    const LISTENERS: [&str; 8] = ["listener", "server", "servers", "bind", "frontend", "http", "socket", "listen"];
    const ROUTES: [&str; 4] = ["route", "routes", "location", "virtual-host"];
    let like = |known: &&str| strsim::jaro_winkler(known, key) >= ALIKE;
    if ROUTES.contains(&key) {
        " (did you mean [[listener.route]]?)".to_owned()
    } else if LISTENERS.contains(&key) || LISTENERS.iter().take(1).any(like) {
        " (did you mean [[listener]]?)".to_owned()
    } else {
        cli::meant(key).map(as_key).map_or_else(String::new, |option| format!(" (write {option}, without a table)"))
    }
}

fn meant_instead(key: &str, near: Option<&str>) -> String {
    match (cli::meant(key).map(as_key), near) {
        (Some(option), _) => format!("; use {option}"),
        (None, Some(near)) => format!("; did you mean {near:?}?"),
        (None, None) => String::new(),
    }
}

/// An option and its value in the form of a file.
fn as_key(option: &str) -> String {
    let (name, value) = option.split_once(' ').unwrap_or((option, ""));
    format!("{name} = {value:?}")
}

impl Place {
    pub(super) fn problem(&self, problem: Problem) -> FileError {
        FileError { place: self.clone(), problem }
    }
}

impl File {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let whole = Place { file: path.into(), line: 0 };
        let unreadable =
            |error| whole.problem(paths::missing(path, None).map_or(Problem::Unreadable(error), Problem::Missing));
        // Opening a pipe would block until it has a writer.
        let found = fs::metadata(path).map_err(unreadable)?;
        if !found.is_file() {
            return Err(whole.problem(Problem::NotAFile));
        }
        if found.len() > LARGEST {
            return Err(whole.problem(Problem::TooLarge(found.len())));
        }
        Self::parse(&Zeroizing::new(fs::read(path).map_err(unreadable)?), path)
    }

    /// Parses the content of a file.
    pub(super) fn parse(content: &[u8], path: &Path) -> Result<Self, FileError> {
        let whole = &Place { file: path.into(), line: 0 };
        let text = str::from_utf8(content).map_err(|_not_utf8| whole.problem(Problem::NotText))?;
        // Some editors put a byte order mark first.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // Computed once: a file may have thousands of entries, each with its line.
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let at = |span: &Range<usize>| {
            let line = ends.partition_point(|end| *end < span.start) + 1;
            Place { file: Arc::clone(&whole.file), line }
        };
        let table = DeTable::parse(text).map_err(|error| {
            let place = error.span().map_or_else(|| whole.clone(), |span| at(&span));
            // The parser's message may quote the file, which may contain a secret.
            let is_duplicate = error.message() == "duplicate key";
            let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
            place.problem(Problem::Syntax(if is_duplicate { Mistake::Duplicate } else { Mistake::of(line) }))
        })?;
        let mut file = Self { entries: Vec::new(), listeners: Vec::new() };
        for (key, value) in in_order(table.get_ref()) {
            match key {
                "listener" => file.listeners = sections("listener", value, &at)?,
                _ if is_table(value.get_ref()) => {
                    return Err(at(&value.span()).problem(Problem::UnknownTable { key: key.to_owned() }));
                }
                _ => file.entries.push(entry(at(&value.span()), key, value.get_ref())?),
            }
        }
        Ok(file)
    }
}

/// A list of tables. Those of listeners may have lists of routes.
fn sections(
    name: &'static str,
    value: &Spanned<DeValue<'_>>,
    at: &impl Fn(&Range<usize>) -> Place,
) -> Result<Vec<Section>, FileError> {
    let (takes, whole) = match name {
        "listener" => ("tables, as in [[listener]]", "listener"),
        _ => ("tables, as in [[listener.route]]", "listener.route"),
    };
    let tables = match value.get_ref() {
        DeValue::Array(tables) => tables,
        DeValue::Table(_) => return Err(at(&value.span()).problem(Problem::OneTable(whole))),
        other => return Err(kind(&at(&value.span()), name, other, takes)),
    };
    let section = |table: &Spanned<DeValue<'_>>| {
        let place = at(&table.span());
        let DeValue::Table(table) = table.get_ref() else { return Err(kind(&place, name, table.get_ref(), takes)) };
        let mut section = Section { place, entries: Vec::new(), routes: Vec::new() };
        for (key, value) in in_order(table) {
            match (name, key) {
                ("listener", "route") => section.routes = sections("route", value, at)?,
                _ => section.entries.push(entry(at(&value.span()), key, value.get_ref())?),
            }
        }
        Ok(section)
    };
    tables.iter().map(section).collect()
}

/// In the order of the file, so that the first of several mistakes is reported.
fn in_order<'t>(table: &'t DeTable<'_>) -> impl Iterator<Item = (&'t str, &'t Spanned<DeValue<'t>>)> {
    let mut entries: Vec<_> =
        table.iter().map(|(key, value)| (key.span().start, key.get_ref().as_ref(), value)).collect();
    entries.sort_by_key(|(start, ..)| *start);
    entries.into_iter().map(|(_, key, value)| (key, value))
}

fn entry(place: Place, key: &str, value: &DeValue<'_>) -> Result<Entry, FileError> {
    if is_content(key) {
        return Err(place.problem(Problem::Unknown { key: key.to_owned(), near: None }));
    }
    let value = match value {
        DeValue::Boolean(on) => Value::Switch(*on),
        DeValue::Array(words) => {
            let words = words.iter().map(|found| {
                word(found.get_ref()).ok_or_else(|| {
                    place.problem(Problem::InList { key: key.to_owned(), found: named(found.get_ref()) })
                })
            });
            Value::List(words.collect::<Result<_, _>>()?)
        }
        other => Value::Word(
            word(other).ok_or_else(|| kind(&place, key, other, "a string, a whole number, true, false or a list"))?,
        ),
    };
    Ok(Entry { place, key: key.to_owned(), value })
}

fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(values) => !values.is_empty() && values.iter().all(|value| is_table(value.get_ref())),
        _ => false,
    }
}

fn word(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn kind(place: &Place, key: &str, found: &DeValue<'_>, takes: &'static str) -> FileError {
    place.problem(Problem::Kind { key: key.to_owned(), found: named(found), takes })
}

fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(number) if number.radix() != 10 => "a number that is not decimal",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
