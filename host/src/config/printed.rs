//! A resolved configuration as an equivalent file, with the origin of each word in a comment.

use super::{
    error::Error,
    layers::{Layers, Listener, Origins, Route, words},
};
use crate::record::secret::Shown;
use serde_json::{Map, Value as Json};
use std::path::Path;
use toml::{Table, Value};

/// The column of comments: most lines are shorter.
const COMMENT: usize = 48;

impl Layers {
    /// The file. `found` are computed defaults of options that were not given.
    ///
    /// # Errors
    ///
    /// If a word is not text.
    pub(super) fn as_file(&self, found: impl IntoIterator<Item = (&'static str, Json)>) -> Result<String, Error> {
        let mut process = words(&self.options)?;
        process.extend(found.into_iter().map(|(name, word)| (name.to_owned(), word)));
        let of_all = words(&self.options.listener)?;
        if !self.listeners.is_empty() {
            // Each listener prints its own.
            process.retain(|name, _| name != "bind" && !of_all.contains_key(name));
        }
        let mut text = lines(&process, &self.origins)?;
        for Listener { bind, options, origins, routes } in &self.listeners {
            let mut own = words(options)?;
            own.insert("bind".to_owned(), bind.clone().into());
            text.push_str("\n[[listener]]\n");
            text.push_str(&lines(&own, origins)?);
            for Route { server_name, alpn, options, origins, .. } in routes {
                let mut own = words(options)?;
                let choices = [("server-name", server_name), ("alpn", alpn)];
                own.extend(choices.map(|(key, word)| (key.to_owned(), word.clone().into())));
                text.push_str("\n[[listener.route]]\n");
                text.push_str(&lines(&own, origins)?);
            }
        }
        Ok(text)
    }
}

fn lines(words: &Map<String, Json>, origins: &Origins) -> Result<String, Error> {
    let mut text = String::new();
    for (name, word) in words {
        let origin = origins.of(name);
        let line = match word {
            Json::Null => continue,
            word => line(name, word)?,
        };
        let origin =
            origin.unwrap_or_else(|| if origins.given(name) { "the command line" } else { "default" }.to_owned());
        text.push_str(&format!("{line:COMMENT$} # {origin}\n"));
    }
    Ok(text)
}

fn line(name: &str, word: &Json) -> Result<String, Error> {
    let value = Value::try_from(without_content(word)).map_err(|error| Error::Bug(error.to_string()))?;
    let table = Table::from_iter([(name.to_owned(), value)]);
    Ok(table.to_string().trim_end().to_owned())
}

/// The word, or a note if it looks like the content of a file: for example a key in the variable
/// for a path.
fn without_content(word: &Json) -> Json {
    match word {
        Json::String(text) => Shown::bare(Path::new(text)).to_string().into(),
        Json::Array(words) => words.iter().map(without_content).collect(),
        other => other.clone(),
    }
}
