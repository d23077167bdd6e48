//! The reference of options, the man pages and the completions are generated from the command
//! line's own definition, and are up to date. After a change of an option: `GENERATE=1 cargo test
//! --workspace --test black-box generated`.

use crate::harness::root;
use clap::{Arg, Command};
use clap_complete::Shell;
use std::{env, fs};
use uninterruptible_host::config::cli;

const NAME: &str = "uninterruptible-host";

/// Columns of a line in Markdown.
const WIDTH: usize = 100;

/// Writes the file, or fails if its content differs.
fn is_generated(path: &str, content: &str) {
    let file = root().join(path);
    if env::var_os("GENERATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    } else {
        let found = fs::read_to_string(file).unwrap_or_default();
        assert!(
            found == content,
            "{path} is out of date: run GENERATE=1 cargo test --workspace --test black-box generated"
        );
    }
}

fn definition() -> Command {
    let mut command = cli::definition().name(NAME).bin_name(NAME);
    command.build();
    command
}

#[test]
fn the_reference_of_options_is_up_to_date() {
    let path = "docs/configuration.md";
    let page = fs::read_to_string(root().join(path)).unwrap();
    let command = definition();
    let mut headings: Vec<&str> = command.get_arguments().filter_map(Arg::get_help_heading).collect();
    headings.sort_unstable();
    headings.dedup();
    let mut generated = String::new();
    let mut rest = &*page;
    while let Some((before, after)) = rest.split_once("<!-- options: ") {
        let (heading, after) = after.split_once(" -->\n").expect("a heading");
        let (_, after) = after.split_once("<!-- end -->").expect("an end");
        let place = headings.iter().position(|known| *known == heading);
        headings
            .remove(place.unwrap_or_else(|| panic!("no option has the heading {heading:?}, or the page has it twice")));
        generated.push_str(&format!("{before}<!-- options: {heading} -->\n\n"));
        command.get_arguments().filter(|option| option.get_help_heading() == Some(heading)).for_each(|option| {
            generated.push_str(&item(option));
        });
        generated.push_str("\n<!-- end -->");
        rest = after;
    }
    generated.push_str(rest);
    assert!(headings.is_empty(), "{path} lacks a section for the options {headings:?}");
    is_generated(path, &generated);
}

/// One option, as an item of a list: its name and value, its help, its default, its variable.
fn item(option: &Arg) -> String {
    let name = option.get_long().unwrap();
    let value: String = option.get_value_names().into_iter().flatten().map(|value| format!(" {value}")).collect();
    let value = if option.get_num_args().is_some_and(|count| count.takes_values()) { value } else { String::new() };
    let help = option.get_long_help().or(option.get_help()).unwrap().to_string();
    let stop = if help.ends_with(['.', ']']) { "" } else { "." };
    let mut text = format!("`--{name}{value}`: {help}{stop}");
    let defaults: Vec<_> = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() && !help.contains("[default: ") {
        text.push_str(&format!(" Default: `{}`.", defaults.join(" ")));
    }
    if let Some(variable) = option.get_env() {
        text.push_str(&format!(" Environment: `{}`.", variable.to_string_lossy()));
    }
    wrapped(&text)
}

fn wrapped(text: &str) -> String {
    let mut lines = vec!["*".to_owned()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("  {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_man_pages_are_up_to_date() {
    let command = definition().disable_help_subcommand(true);
    let page = |command: Command, name: &str| {
        let mut bytes = Vec::new();
        clap_mangen::Man::new(command).title(name).render(&mut bytes).unwrap();
        is_generated(&format!("docs/man/{name}.1"), &String::from_utf8(bytes).unwrap());
    };
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let name = format!("{NAME}-{}", subcommand.get_name());
        page(subcommand.clone(), &name);
    }
    page(command, NAME);
}

#[test]
fn the_completions_are_up_to_date() {
    for (shell, file) in
        [(Shell::Bash, NAME.to_owned()), (Shell::Fish, format!("{NAME}.fish")), (Shell::Zsh, format!("_{NAME}"))]
    {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut cli::definition(), NAME, &mut bytes);
        is_generated(&format!("docs/completions/{file}"), &String::from_utf8(bytes).unwrap());
    }
}
