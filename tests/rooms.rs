//! The order of the rooms of `host/src`: each uses those above it in the table of ARCHITECTURE.md,
//! and no other.

use crate::sources;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The rooms, from the kernel up. A room may use itself and those before it.
const ROOMS: [&str; 12] = [
    "system",
    "record",
    "net",
    "wire",
    "component",
    "guest",
    "connection",
    "handoff",
    "admin",
    "config",
    "lifecycle",
    "command",
];

/// The longest file that needs no reason for its length, in lines.
const LONGEST: usize = 400;

/// The files that are longer, and why.
const LONG: [(&str, &str); 1] =
    [("config/cli/options.rs", "one option after another, in the order of --help, and nothing else")];

fn source() -> PathBuf {
    root().join("host/src")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every file below a directory, by its path from there.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path.strip_prefix(directory).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// A file without its comments. A string with two slashes loses its rest, which has no room's name.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first names of all paths from the root of the crate: `guest` and `wire` of `use
/// crate::{guest::Plugin, wire}`. In a module at this depth that many `super` lead to the root.
fn used(code: &str, depth: usize) -> BTreeSet<String> {
    let to_root = vec!["super::"; depth].concat();
    let mut found = BTreeSet::new();
    for prefix in ["crate::", &to_root] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => found.extend(branches(group)),
                None => found.extend(name(rest)),
            }
        }
    }
    found
}

/// The name at the beginning of a path.
fn name(path: &str) -> Option<String> {
    let path = path.trim_start();
    let end = path.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

/// The names at the beginning of each branch of a group, after its opening brace.
fn branches(group: &str) -> Vec<String> {
    let mut names: Vec<String> = name(group).into_iter().collect();
    let mut depth = 1;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.extend(name(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::{\n    guest::{Plugin, io::Facts},\n    wire,\n};\nuse crate::net::Key;\nfn f() { super::super::admin::g(crate::config::H) }";
    let found: Vec<_> = used(code, 2).into_iter().collect();
    assert_eq!(found, ["admin", "config", "guest", "net", "wire"]);
}

#[test]
fn rooms_use_only_rooms_above_them() {
    let mut backward = Vec::new();
    for file in files(&source()) {
        let parts: Vec<_> = file.iter().map(|part| part.to_str().unwrap()).collect();
        let Some(rank) = ROOMS.iter().position(|room| *room == parts[0]) else { continue };
        let code = code(&fs::read_to_string(source().join(&file)).unwrap());
        // A `mod.rs` is the module of its directory.
        let depth = parts.len() - usize::from(parts.last() == Some(&"mod.rs"));
        for name in used(&code, depth) {
            match ROOMS.iter().position(|room| *room == name) {
                Some(used) if used > rank => backward.push(format!("{} uses {name}", file.display())),
                _ => {}
            }
        }
    }
    assert!(backward.is_empty(), "these imports run against the order of the rooms: {backward:#?}");
}

#[test]
fn every_file_is_in_a_room() {
    let outside: Vec<_> =
        files(&source()).into_iter().filter(|file| !ROOMS.iter().any(|room| file.starts_with(room))).collect();
    assert_eq!(outside, [Path::new("lib.rs"), Path::new("main.rs")]);
}

#[test]
fn architecture_shows_the_rooms_in_their_order() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("/` |")).map(|(room, _)| room).collect();
    assert_eq!(rows, ROOMS);
    let drawing =
        page.split("```text").nth(1).and_then(|rest| rest.split("```").next()).expect("a drawing of the rooms");
    for room in ROOMS {
        assert!(drawing.contains(room), "{room} is not in the drawing");
    }
}

#[test]
fn every_long_file_has_a_reason() {
    let long: Vec<_> = files(&source())
        .into_iter()
        .filter(|file| fs::read_to_string(source().join(file)).unwrap().lines().count() > LONGEST)
        .collect();
    let tests = sources::tests().into_iter().filter(|(_, text)| text.lines().count() > LONGEST).map(|(path, _)| path);
    let long: Vec<_> = long.into_iter().chain(tests).collect();
    let known: Vec<_> = LONG.iter().map(|(file, _)| PathBuf::from(file)).collect();
    assert_eq!(long, known, "split a file of more than {LONGEST} lines, or say why it has to be one");
}
