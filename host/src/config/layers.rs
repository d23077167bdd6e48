//! The layers of a configuration: what was typed wins over the environment, that over the file, and that over the default. A
//! `[[listener]]` of the file wins over them all, for its listener.
//!
//! Nothing here knows what an option means: words are laid over words, and where each came from is kept for whoever finds it wrong.

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

/// How alike two names must be for one to be taken for a slip of the other, of 1 for equal ones.
pub(super) const ALIKE: f64 = 0.8;

/// Every option's word, and where it came from.
#[derive(Clone, Debug)]
pub struct Layers {
    typed: Arguments,
    /// What holds for the process, and for each listener that says nothing else.
    pub(super) options: Options,
    pub(super) origins: Origins,
    /// The listeners that have a table of their own.
    pub(super) listeners: Vec<Listener>,
}

/// What one `[[listener]]` says, over what holds for all.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) bind: String,
    pub(super) options: ListenerOptions,
    pub(super) origins: Origins,
    pub(super) routes: Vec<Route>,
}

/// What one `[[listener.route]]` says, over what holds for its listener.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) place: Place,
    pub(super) server_name: Option<String>,
    pub(super) alpn: Option<String>,
    pub(super) options: HandlerOptions,
    pub(super) origins: Origins,
}

/// Where the words came from that are no defaults, by the long names of their options.
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
    /// Where an option's word came from, as `--name` has it; what was typed needs no telling.
    pub(super) fn of(&self, option: &str) -> Option<String> {
        match self.0.get(option.trim_start_matches("--")) {
            None | Some(Origin::CommandLine) => None,
            Some(origin) => Some(origin.to_string()),
        }
    }
}

impl Origins {
    /// Whether anybody has given this option.
    pub(super) fn given(&self, option: &str) -> bool {
        self.0.contains_key(option)
    }
}

impl Layers {
    /// Reads the file that is named, if one is, and lays what was typed over it.
    ///
    /// # Errors
    ///
    /// Where it is no configuration.
    pub fn read(typed: Arguments) -> Result<Self, Error> {
        let file = typed.options.config.as_deref().map(File::read).transpose()?;
        Self::over(file, typed)
    }

    /// As [`Self::read`], of a file with this content.
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

    /// Reads the file once more. What concerns the process stays as it was; the options for which the file says something else are
    /// named.
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

    /// Under what was given already.
    fn lay_under(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let (given, entries): (Vec<_>, Vec<_>) =
            entries.iter().cloned().partition(|entry| self.origins.0.contains_key(&entry.key));
        // Wrong even where it does not count.
        laid(&self.options, &given, Problem::unknown)?;
        // No file names another: the name of this one is not among the words.
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

/// The one word of a key of a file, where it has it. Whatever else the file says does not matter here.
pub(super) fn word_of(key: &str, file: &Path) -> Result<Option<String>, Error> {
    taken(&mut File::read(file)?.entries, key, "one text or number")
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

/// Takes the one word of a key that is no option.
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
        // The only word that is no text.
        _ => Err(Error::NotText),
    }
}

/// The same options with some of their words replaced.
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
    /// As the word of an option that has had another one; what that takes, where it cannot be.
    fn instead_of(&self, word: &Json) -> Result<Json, &'static str> {
        match (word, self) {
            (Json::Array(_), Self::List(words)) => Ok(words.clone().into()),
            (Json::Array(_), Self::Word(word)) => Ok(vec![word.clone()].into()),
            (Json::Array(_), Self::Switch(_)) => Err("a list"),
            (Json::Bool(_), Self::Switch(on)) => Ok((*on).into()),
            (Json::Bool(_), _) => Err("true or false"),
            (_, Self::Word(word)) => Ok(word.clone().into()),
            // Options that take the words.
            (_, Self::Switch(on)) => Ok(on.to_string().into()),
            (_, Self::List(_)) => Err("one text or number"),
        }
    }

    fn named(&self) -> &'static str {
        match self {
            Self::Word(_) => "a text or number",
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
