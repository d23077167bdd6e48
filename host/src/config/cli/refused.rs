//! Why a command line cannot be served with, in one line.

use super::{CommandLine, spellings::meant};
use crate::record::{exit::Exit, log, secret};
use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::fmt;

/// The command line was not one to serve with: help was asked for, or it does not parse.
#[derive(Debug)]
pub struct Refused(pub(super) clap::Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.told();
        // The parser quotes what it does not know.
        f.write_str(if secret::is_content(&told) {
            "an argument, or the variable of an option, looks like the content of a file and is not shown; give the file's path; see --help"
        } else {
            &told
        })
    }
}

impl Refused {
    /// The parser's report is a paragraph; its first line and its tip, where it has one, are what an operator needs.
    fn told(&self) -> String {
        if let Some((unknown, option)) = self.meant() {
            return format!("there is no option {unknown}; use --{option}");
        }
        let report = self.0.render().to_string();
        let mut lines = report.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut told = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        // What is missing stands on the next.
        if told.ends_with(':') {
            told.push(' ');
            told.push_str(lines.next().unwrap_or_default());
        }
        if let Some(variable) = self.variable_without_value() {
            told.push_str(", neither here nor by ");
            told.push_str(&variable);
        }
        let rest: Vec<_> = lines.collect();
        let found = |what| rest.iter().find_map(|line: &&str| line.strip_prefix(what));
        told.push_str(&match (found("tip: "), found("[possible values: ")) {
            (Some(tip), _) => format!("; {tip}"),
            (None, Some(values)) => format!("; it takes {}", values.trim_end_matches(']').replace(", ", " or ")),
            (None, None) if self.is_word_without_option() => {
                "; a value stands beside its option, as in --plugin hello.wasm or --anchor=always: see --help"
                    .to_owned()
            }
            (None, None) => "; see --help".to_owned(),
        });
        told
    }

    /// An option by another program's name, and its name here.
    fn meant(&self) -> Option<(&str, &'static str)> {
        let Some(ContextValue::String(given)) = self.0.get(ContextKind::InvalidArg) else { return None };
        let (unknown, _) = given.split_once('=').unwrap_or((given, ""));
        let is_option = self.0.kind() == ErrorKind::UnknownArgument && unknown.starts_with('-');
        meant(unknown).filter(|_| is_option).map(|option| (unknown, option))
    }

    /// The variable of an option that was given nothing: it may have been set to that.
    fn variable_without_value(&self) -> Option<String> {
        let [Some(ContextValue::String(option)), Some(ContextValue::String(value))] =
            [ContextKind::InvalidArg, ContextKind::InvalidValue].map(|kind| self.0.get(kind))
        else {
            return None;
        };
        let mut command = CommandLine::command();
        // Before that its options cannot be written.
        command.build();
        let option = command.get_arguments().find(|known| value.is_empty() && known.to_string() == *option)?;
        Some(option.get_env()?.to_string_lossy().into_owned())
    }

    /// Whether what was typed where an option or a verb is expected looks like the value of one.
    fn is_word_without_option(&self) -> bool {
        match self.0.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(word)) if self.0.kind() == ErrorKind::UnknownArgument => !word.starts_with('-'),
            _ => matches!(self.0.kind(), ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict),
        }
    }

    /// Says what there is to say, and how the process ends.
    pub fn answer(&self) -> Exit {
        if matches!(self.0.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // A closed standard output is the reader's choice and no failure of ours.
            drop(self.0.print());
            return Exit::Finished;
        }
        log::complain(&self.to_string());
        Exit::Usage
    }
}
