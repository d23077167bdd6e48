//! Why a command line was rejected, in one line.

use super::{CommandLine, spellings::meant};
use crate::record::{exit::Exit, log, secret};
use clap::{
    CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::fmt;

/// The command line cannot be served with: it asks for help, or it does not parse.
#[derive(Debug)]
pub struct Refused(pub(super) clap::Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report();
        // The parser quotes unknown words.
        f.write_str(if secret::is_content(&report) {
            "an argument, or the variable of an option, looks like the content of a file and is not shown; give the file's path; see --help"
        } else {
            &report
        })
    }
}

impl Refused {
    /// The parser's report is a paragraph. Its first line and its tip, if any, are enough for an
    /// operator.
    fn report(&self) -> String {
        if let Some((unknown, option)) = self.meant() {
            return format!("there is no option {unknown}; use --{option}");
        }
        let report = self.0.render().to_string();
        let mut lines = report.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut report = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        // The next line names the missing value.
        if report.ends_with(':') {
            report.push(' ');
            report.push_str(lines.next().unwrap_or_default());
        }
        if let Some(variable) = self.variable_without_value() {
            report.push_str(", neither here nor by ");
            report.push_str(&variable);
        }
        let rest: Vec<_> = lines.collect();
        let found = |what| rest.iter().find_map(|line: &&str| line.strip_prefix(what));
        report.push_str(&match (found("tip: "), found("[possible values: ")) {
            (Some(tip), _) => format!("; {tip}"),
            (None, Some(values)) => format!("; it takes {}", values.trim_end_matches(']').replace(", ", " or ")),
            (None, None) if self.is_word_without_option() => {
                "; a value follows its option, as in --plugin hello.wasm or --anchor=always: see --help".to_owned()
            }
            (None, None) => "; see --help".to_owned(),
        });
        report
    }

    /// An option by another program's name, and its name here.
    fn meant(&self) -> Option<(&str, &'static str)> {
        let Some(ContextValue::String(given)) = self.0.get(ContextKind::InvalidArg) else { return None };
        let (unknown, _) = given.split_once('=').unwrap_or((given, ""));
        let is_option = self.0.kind() == ErrorKind::UnknownArgument && unknown.starts_with('-');
        meant(unknown).filter(|_| is_option).map(|option| (unknown, option))
    }

    /// The variable of an option without a value: it may be set to an empty string.
    fn variable_without_value(&self) -> Option<String> {
        let [Some(ContextValue::String(option)), Some(ContextValue::String(value))] =
            [ContextKind::InvalidArg, ContextKind::InvalidValue].map(|kind| self.0.get(kind))
        else {
            return None;
        };
        let mut command = CommandLine::command();
        // The command has to be built before its options can be printed.
        command.build();
        let option = command.get_arguments().find(|known| value.is_empty() && known.to_string() == *option)?;
        Some(option.get_env()?.to_string_lossy().into_owned())
    }

    /// Whether a word in the place of an option or subcommand looks like the value of one.
    fn is_word_without_option(&self) -> bool {
        match self.0.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(word)) if self.0.kind() == ErrorKind::UnknownArgument => !word.starts_with('-'),
            _ => matches!(self.0.kind(), ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict),
        }
    }

    /// Prints the message. Returns the exit code.
    pub fn answer(&self) -> Exit {
        if matches!(self.0.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // Only the reader can have closed standard output, which is not a failure of this
            // program.
            drop(self.0.print());
            return Exit::Finished;
        }
        log::complain(&self.to_string());
        Exit::Usage
    }
}
