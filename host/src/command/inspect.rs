//! `inspect`: prints a plugin's exports, imports and limits for people, in a fixed order.

use crate::{
    command,
    component::{Access, Memories, Survey},
    config::Looking,
    guest::mebibytes,
    record::{exit::Exit, log},
};
use std::fmt::Write;

/// Describes the file. Exits with the code of a host that is started with it.
pub(crate) fn run(looking: &Looking) -> Exit {
    let survey = Survey::of(
        &looking.plugin,
        looking.plugin_kind,
        looking.cache_dir.as_deref(),
        looking.wasi_0_3,
        looking.component_layer,
        looking.guest_memory,
    );
    match survey {
        Ok(survey) => {
            let said = command::say(&page(looking, &survey));
            if said == Exit::Finished && survey.refusal.is_some() { Exit::Usage } else { said }
        }
        Err(problem) => {
            log::complain(&format!("inspect {}: {problem}", looking.plugin.display()));
            Exit::Usage
        }
    }
}

fn page(looking: &Looking, survey: &Survey) -> String {
    let mut page = format!("{}\n", looking.plugin.display());
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        writeln!(page, "  {name:<10} {value}").ok();
    };
    line("kind", &survey.kind);
    match &survey.refusal {
        None => line("served", "yes"),
        Some(refusal) => line("served", &format!("no: it {refusal}")),
    }
    if let Some(warning) = survey.warning {
        line("warning", warning);
    }
    line("size", &format!("{} bytes", survey.size));
    line("sha256", &survey.digest.to_string());
    if let Some(concurrent) = survey.concurrent {
        line("engine", if concurrent { "with concurrency, as WASI 0.3 needs it" } else { "plain" });
        match &survey.needs_layer {
            None => line("layer", "none: its core module is served directly"),
            Some(why) => line("layer", &format!("the engine's component layer: {why}")),
        }
        line(
            "compiled",
            &match &survey.compiled {
                Some(entry) => entry.display().to_string(),
                None if looking.cache_dir.is_none() => "no: there is no cache".to_owned(),
                None => "not yet: `compile` does it ahead of time, else the first start does".to_owned(),
            },
        );
    }
    line("memory", &memories(survey.memories, looking.guest_memory));
    let packages = packages(survey);
    if !packages.is_empty() {
        line("packages", &packages.join(", "));
    }
    if !survey.producers.is_empty() {
        let made_with: Vec<String> =
            survey.producers.iter().map(|(tool, version)| format!("{tool} {version}")).collect();
        line("made with", made_with.join(", ").trim_end());
    }
    list(&mut page, "exports", survey.exports.iter().map(|name| (name.as_str(), String::new())));
    list(&mut page, "imports", survey.imports.iter().map(|import| (import.name.as_str(), answer(import.access))));
    page
}

fn list<'a>(page: &mut String, title: &str, entries: impl Iterator<Item = (&'a str, String)> + Clone) {
    let width = entries.clone().map(|(name, _)| name.chars().count()).max();
    writeln!(page, "{title}{}", if width.is_none() { " nothing" } else { "" }).ok();
    for (name, note) in entries {
        let width = width.unwrap_or_default();
        writeln!(page, "{}", format!("  {name:<width$}  {note}").trim_end()).ok();
    }
}

fn answer(access: Access) -> String {
    match access {
        Access::Given => "given".to_owned(),
        Access::DeniedWithout(option) => format!("denied without {option}"),
        Access::EmptyWithout(options) => format!("empty without {options}"),
        Access::Denied => "denied".to_owned(),
        Access::Missing => "missing: this host does not have it".to_owned(),
    }
}

fn memories(memories: Memories, given: usize) -> String {
    let Memories { count, initial, maximum } = memories;
    let maximum = match maximum {
        _ if count == 0 => return "none".to_owned(),
        None => "no limit of its own".to_owned(),
        Some(maximum) => format!("at most {}", mebibytes(maximum)),
    };
    let what = if count == 1 { "1 memory".to_owned() } else { format!("{count} memories, together") };
    format!("{what}: {} at the start, {maximum}; --guest-memory gives {}", mebibytes(initial), mebibytes(given as u64))
}

/// The packages of exports and imports, each with its version, once.
fn packages(survey: &Survey) -> Vec<String> {
    let names = survey.exports.iter().chain(survey.imports.iter().map(|import| &import.name));
    let mut packages: Vec<String> = names
        .filter_map(|name| {
            let (package, interface) = name.split_once('/')?;
            let (_, version) = interface.split_once('@')?;
            package.contains(':').then(|| format!("{package}@{version}"))
        })
        .collect();
    packages.sort();
    packages.dedup();
    packages
}
