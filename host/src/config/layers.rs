//! The layers of a configuration: the command line wins over the environment, that over the file,
//! and that over the default. A `[[listener]]` of the file wins over all of them, for its listener.
//!
//! This module does not know the meaning of options: it replaces words by words, and keeps the
//! origin of each for error messages.

use super::{
    cli::{
        Arguments, Given,
        options::{HandlerOptions, ListenerOptions, Options},
    },
    error::Error,
    file::{Entry, File, FileError, Place, Problem, Section, Value},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value as Json};
use std::{collections::HashMap, fmt, path::Path};

/// How similar two names must be for one to be taken for a typo of the other; 1 means equal.
pub(super) const ALIKE: f64 = 0.8;

/// The word of every option, and its origin.
#[derive(Clone, Debug)]
pub struct Layers {
    typed: Arguments,
    /// The options of the process, and of each listener that does not override them.
    pub(super) options: Options,
    pub(super) origins: Origins,
    /// The listeners with a table of their own.
    pub(super) listeners: Vec<Listener>,
}

/// The options of one `[[listener]]`, over those of all.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) bind: String,
    pub(super) options: ListenerOptions,
    pub(super) origins: Origins,
    pub(super) routes: Vec<Route>,
}

/// The options of one `[[listener.route]]`, over those of its listener.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) place: Place,
    pub(super) server_name: Option<String>,
    pub(super) alpn: Option<String>,
    pub(super) options: HandlerOptions,
    pub(super) origins: Origins,
}

/// The origins of words that are not defaults, by the long names of their options.
#[derive(Clone, Debug)]
pub(super) struct Origins(HashMap<String, Origin>);

#[derive(Clone, Debug)]
enum Origin {
    CommandLine,
    Environment(String),
    File(Place),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("the command line"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File(place) => place.fmt(f),
        }
    }
}

impl Origins {
    /// The origin of an option's word; `--name` includes the dashes. `None` for the command line.
    pub(super) fn of(&self, option: &str) -> Option<String> {
        match self.0.get(option.trim_start_matches("--")) {
            None | Some(Origin::CommandLine) => None,
            Some(origin) => Some(origin.to_string()),
        }
    }
}

impl Origins {
    /// Whether this option was given.
    pub(super) fn given(&self, option: &str) -> bool {
        self.0.contains_key(option)
    }
}

impl Layers {
    /// Reads the configuration file, if there is one, and lays the typed options over it.
    ///
    /// # Errors
    ///
    /// If it is not a valid configuration.
    pub fn read(typed: Arguments) -> Result<Self, Error> {
        let file = typed.options.config.as_deref().map(File::read).transpose()?;
        Self::over(file, typed)
    }

    /// As [`Self::read`], for a file with this content.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(content: &[u8], typed: Arguments) -> Result<Self, Error> {
        let file = File::parse(content, Path::new("host.toml"))?;
        Self::over(Some(file), typed)
    }

    fn over(file: Option<File>, typed: Arguments) -> Result<Self, Error> {
        let mut layers = Self {
            options: typed.options.clone(),
            origins: typed
                .given
                .iter()
                .map(|Given { name, variable }| (name.clone(), Origin::given(variable)))
                .collect(),
            listeners: Vec::new(),
            typed,
        };
        if let Some(File { entries, listeners }) = file {
            if let (Some(section), Some(entry)) = (listeners.first(), entries.iter().find(|entry| entry.key == "bind"))
            {
                return Err(entry.place.problem(Problem::TwoWaysToBind(section.place.clone())).into());
            }
            if layers.origins.0.contains_key("bind") && !listeners.is_empty() {
                return Err(Error::TwoWaysToBind);
            }
            layers.lay_under(&entries)?;
            layers.listeners =
                listeners.into_iter().map(|section| layers.listener(section)).collect::<Result<_, _>>()?;
        }
        Ok(layers)
    }

    /// Reads the file again. Options of the process stay as they were; the result names those that
    /// differ in the file.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub(super) fn again(&self) -> Result<(Self, Vec<String>), Error> {
        let fresh = Self::read(self.typed.clone())?;
        let (was, is) = (words(&self.options)?, words(&fresh.options)?);
        let of_listeners = words(&self.options.listener)?;
        let of_process = was.iter().filter(|(name, _)| !of_listeners.contains_key(*name) && *name != "bind");
        let differing = of_process.filter(|(name, word)| is.get(*name) != Some(word));
        let differing = differing.map(|(name, _)| format!("--{name}")).collect();
        let Options { listener, bind, .. } = fresh.options;
        Ok((Self { options: Options { listener, bind, ..self.options.clone() }, ..fresh }, differing))
    }

    /// Adds the entries beneath the options that were given already.
    fn lay_under(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let (given, entries): (Vec<_>, Vec<_>) =
            entries.iter().cloned().partition(|entry| self.origins.0.contains_key(&entry.key));
        // Reported even if another layer wins.
        laid(&self.options, &given, Problem::unknown)?;
        // A file cannot name another file: its own name is not among the words.
        let config = self.options.config.take();
        self.options = Options { config, ..laid(&self.options, &entries, Problem::unknown)? };
        self.origins.add(&entries);
        Ok(())
    }

    fn listener(&self, Section { place, mut entries, routes }: Section) -> Result<Listener, Error> {
        let mut origins = self.origins.clone();
        origins.add(&entries);
        let bind = taken(&mut entries, "bind", "one address; give each a [[listener]]")?;
        let process = words(&self.options)?;
        let options = laid(&self.options.listener, &entries, |key, near| match process.contains_key(key) {
            true => Problem::Misplaced { key: key.into(), of: "listener", to: "above the first [[listener]]" },
            false => Problem::unknown(key, near),
        })?;
        let bind = bind.ok_or_else(|| place.problem(Problem::NoBind))?;
        let routes = routes.into_iter().map(|section| route(section, &options, &origins)).collect::<Result<_, _>>()?;
        Ok(Listener { bind, options, origins, routes })
    }
}

/// The word of one key of a file, if present. The rest of the file is not checked here.
pub(super) fn word_of(key: &str, file: &Path) -> Result<Option<String>, Error> {
    taken(&mut File::read(file)?.entries, key, "one string or number")
}

fn route(
    Section { place, mut entries, .. }: Section,
    listener: &ListenerOptions,
    origins: &Origins,
) -> Result<Route, Error> {
    let mut origins = origins.clone();
    origins.add(&entries);
    let server_name = taken(&mut entries, "server-name", "one name; give each a [[listener.route]]")?;
    let alpn = taken(&mut entries, "alpn", "one protocol; give each a [[listener.route]]")?;
    if server_name.is_none() && alpn.is_none() {
        return Err(place.problem(Problem::NoChoice).into());
    }
    let of_listener = words(listener)?;
    let options = laid(&listener.handler, &entries, |key, near| match of_listener.contains_key(key) {
        true => Problem::Misplaced { key: key.into(), of: "route", to: "above the first [[listener.route]]" },
        false => Problem::unknown(key, near),
    })?;
    Ok(Route { place, server_name, alpn, options, origins })
}

/// Removes a key that is not an option, and returns its word.
fn taken(entries: &mut Vec<Entry>, key: &str, takes: &'static str) -> Result<Option<String>, Error> {
    let Some(index) = entries.iter().position(|entry| entry.key == key) else { return Ok(None) };
    let Entry { place, key, value } = entries.remove(index);
    match value {
        Value::Word(word) => Ok(Some(word)),
        value => Err(place.problem(Problem::Kind { key, found: value.named(), takes }).into()),
    }
}

impl Origin {
    fn given(variable: &Option<String>) -> Self {
        variable.clone().map_or(Self::CommandLine, Self::Environment)
    }
}

impl FromIterator<(String, Origin)> for Origins {
    fn from_iter<T: IntoIterator<Item = (String, Origin)>>(origins: T) -> Self {
        Self(origins.into_iter().collect())
    }
}

impl Origins {
    fn add(&mut self, entries: &[Entry]) {
        self.0.extend(entries.iter().map(|entry| (entry.key.clone(), Origin::File(entry.place.clone()))));
    }
}

impl Problem {
    fn unknown(key: &str, near: Option<String>) -> Self {
        Self::Unknown { key: key.to_owned(), near }
    }
}

/// Options by their names, as words.
pub(super) fn words(options: &impl Serialize) -> Result<Map<String, Json>, Error> {
    match serde_json::to_value(options) {
        Ok(Json::Object(words)) => Ok(words),
        // Only a path that is not text fails here.
        _ => Err(Error::NotText),
    }
}

/// The same options with some words replaced.
fn laid<T: Serialize + DeserializeOwned>(
    options: &T,
    entries: &[Entry],
    unknown: impl Fn(&str, Option<String>) -> Problem,
) -> Result<T, Error> {
    let mut words = words(options)?;
    for Entry { place, key, value } in entries {
        let Some(word) = words.get_mut(key) else {
            let near = words.keys().map(|known| (strsim::jaro_winkler(known, key), known));
            let near = near.filter(|(alike, _)| *alike >= ALIKE).max_by(|(a, _), (b, _)| a.total_cmp(b));
            return Err(place.problem(unknown(key, near.map(|(_, near)| near.clone()))).into());
        };
        *word = value
            .instead_of(word)
            .map_err(|takes| place.problem(Problem::Kind { key: key.clone(), found: value.named(), takes }))?;
    }
    serde_json::from_value(Json::Object(words)).map_err(|error| Error::Bug(error.to_string()))
}

impl Value {
    /// This value as the word of an option in place of another; or an error that says what the
    /// option takes.
    fn instead_of(&self, word: &Json) -> Result<Json, &'static str> {
        match (word, self) {
            (Json::Array(_), Self::List(words)) => Ok(words.clone().into()),
            (Json::Array(_), Self::Word(word)) => Ok(vec![word.clone()].into()),
            (Json::Array(_), Self::Switch(_)) => Err("a list"),
            (Json::Bool(_), Self::Switch(on)) => Ok((*on).into()),
            (Json::Bool(_), _) => Err("true or false"),
            (_, Self::Word(word)) => Ok(word.clone().into()),
            // Options that take lists.
            (_, Self::Switch(on)) => Ok(on.to_string().into()),
            (_, Self::List(_)) => Err("one string or number"),
        }
    }

    fn named(&self) -> &'static str {
        match self {
            Self::Word(_) => "a string or number",
            Self::List(_) => "a list",
            Self::Switch(_) => "true or false",
        }
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}
