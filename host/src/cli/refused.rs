//! Why a command line cannot be served with, in one line.

use super::{CommandLine, spellings::meant};
use crate::{exit::Exit, log, secret};
use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::fmt;

/// The command line was not one to serve with: help was asked for, or it does not parse.
#[derive(Debug)]
pub struct Refused(pub(super) clap::Error);

impl fmt::Display for Refused {
    /// The parser's report is a paragraph; its first line and its tip, where it has one, are what an operator needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(told) = self.told_otherwise() {
            return f.write_str(&told);
        }
        let report = self.0.render().to_string();
        let mut lines = report.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
        write!(f, "{first}")?;
        // What is missing stands on the next.
        if first.ends_with(':') {
            write!(f, " {}", lines.next().unwrap_or_default())?;
        }
        if let Some(variable) = self.variable_without_value() {
            write!(f, ", neither here nor by {variable}")?;
        }
        let rest: Vec<_> = lines.collect();
        let told = |what| rest.iter().find_map(|line: &&str| line.strip_prefix(what));
        match (told("tip: "), told("[possible values: ")) {
            (Some(tip), _) => write!(f, "; {tip}"),
            (None, Some(values)) => write!(f, "; it takes {}", values.trim_end_matches(']').replace(", ", " or ")),
            (None, None) if self.is_word_without_option() => {
                write!(
                    f,
                    "; a value stands beside its option, as in --plugin hello.wasm or --anchor=always: see --help"
                )
            }
            (None, None) => write!(f, "; see --help"),
        }
    }
}

impl Refused {
    /// What the parser's report would not say, or should not: it quotes what it does not know.
    fn told_otherwise(&self) -> Option<String> {
        let given = [ContextKind::InvalidValue, ContextKind::InvalidArg].map(|kind| match self.0.get(kind) {
            Some(ContextValue::String(given)) => given.as_str(),
            _ => "",
        });
        if given.iter().any(|given| secret::is_content(given)) {
            return Some(format!(
                "a word on the command line, or the variable of an option, is content of a file where its path belongs{}; see --help",
                if given[1].starts_with("--") && !secret::is_content(given[1]) {
                    format!(" ({})", given[1])
                } else {
                    String::new()
                }
            ));
        }
        let (unknown, _) = given[1].split_once('=').unwrap_or((given[1], ""));
        let option =
            meant(unknown).filter(|_| self.0.kind() == ErrorKind::UnknownArgument && unknown.starts_with('-'))?;
        Some(format!("there is no option {unknown}; here it is --{option}"))
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
