//! The form of the documents: links lead to a target, lines and tables fit a terminal, words are
//! the field's, and quotations of the host match its source.

use crate::harness::root;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

/// Reports of the benchmarks. `host/benches` generates their text, and their length depends on the
/// measurements.
const GENERATED: [&str; 2] = ["docs/internals/performance.md", "docs/internals/restarts.md"];

const LONGEST_DOCUMENT: usize = 300;
const LONGEST_README: usize = 80;
const WIDEST_LINE: usize = 100;
const WIDEST_CELL: usize = 120;

/// Words, in lower case, that server operators do not use, each with a replacement.
const BANNED: [(&str, &str); 14] = [
    ("whoever", "name the actor"),
    ("whomever", "name the actor"),
    ("whom", "name the actor"),
    ("nobody", "no process, no client, no user"),
    ("somebody", "a process, a client, a user"),
    ("anew", "again, or the verb of the field: reload, reopen, retry"),
    ("by and by", "will retry"),
    ("told are", "the table shows"),
    ("told is", "the table shows"),
    ("told were", "the table shows"),
    ("is no", "is not a"),
    ("was no", "was not a"),
    ("are no", "are not"),
    ("were no", "were not"),
];

/// A document without its code: the number and the text of each line that has text left.
struct Document {
    path: String,
    text: String,
}

impl Document {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.strip_prefix(root()).unwrap().display().to_string(), text }
    }

    /// Its lines outside of blocks of code.
    fn lines(&self) -> Vec<(usize, &str)> {
        let mut fenced = false;
        let mut lines = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            if line.starts_with("```") {
                fenced = !fenced;
            } else if !fenced && !line.starts_with("    ") {
                lines.push((index + 1, line));
            }
        }
        assert!(!fenced, "{}: a block of code does not end", self.path);
        lines
    }

    /// The names that links to its headings have.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.lines().into_iter().filter_map(|(_, line)| Some(line.strip_prefix('#')?.trim_matches('#')));
        let names = headings.map(|heading| {
            let heading = heading.trim().to_lowercase().replace(' ', "-");
            heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
        });
        names.collect()
    }

    /// The targets of its links.
    fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.lines() {
            for rest in prose(line).split("](").skip(1) {
                links.push((number, rest.split(')').next().unwrap().to_owned()));
            }
        }
        links
    }

    fn is_generated(&self) -> bool {
        GENERATED.contains(&self.path.as_str())
    }
}

/// A line without its code.
fn prose(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn below(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            // What the tools of other languages leave in the examples.
            if !["node_modules", "vendor", "deps"].contains(&name.as_str()) && !name.starts_with('.') {
                found.extend(below(&format!("{folder}/{name}"), ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The documents that these tests check.
fn documents() -> Vec<Document> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name));
    let rest = [below("docs", ".md"), below("examples", "README.md")].concat();
    top.into_iter().chain(rest).map(|path| Document::read(&path)).collect()
}

/// Fails with all findings at once, since one seldom comes alone.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Where a link leads, from the root; none where it leaves the repository.
fn resolved(from: &str, target: &str) -> Option<PathBuf> {
    let mut path = Path::new(from).parent().unwrap().to_owned();
    for step in Path::new(target).components() {
        match step {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => path.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let others = [vec![root().join("CHANGELOG.md")], below("plugins", "README.md")].concat();
    let all: Vec<_> = documents().into_iter().chain(others.iter().map(|path| Document::read(path))).collect();
    let mut anchors = BTreeMap::new();
    let mut findings = Vec::new();
    for document in &all {
        for (number, link) in document.links() {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = match file {
                "" => Some(PathBuf::from(&document.path)),
                file => resolved(&document.path, file),
            };
            let Some(path) = path.map(|path| root().join(path)).filter(|path| path.exists()) else {
                findings.push(format!("{}:{number}: {link}: no such file", document.path));
                continue;
            };
            if !anchor.is_empty() {
                let known = anchors.entry(path.clone()).or_insert_with(|| Document::read(&path).anchors());
                if !known.contains(anchor) {
                    findings.push(format!("{}:{number}: {link}: no such heading", document.path));
                }
            }
        }
    }
    none(findings);
}

/// A path in the text, such as `docs/restart.md`, is a link for people that read in a terminal.
#[test]
fn every_named_document_exists() {
    let mut findings = Vec::new();
    let sources = [below("examples", "README.md"), below("plugins", "README.md"), below("docs", ".service")].concat();
    for document in documents().into_iter().chain(sources.iter().map(|path| Document::read(path))) {
        for (index, line) in document.text.lines().enumerate() {
            for rest in line.split("docs/").skip(1) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || "-_./".contains(*c)).collect();
                let name = name.trim_end_matches('.');
                if name.ends_with(".md") && !root().join("docs").join(name).exists() {
                    findings.push(format!("{}:{}: docs/{name}", document.path, index + 1));
                }
            }
        }
    }
    none(findings);
}

#[test]
fn documents_are_short() {
    let mut findings = Vec::new();
    for document in documents().iter().filter(|document| !document.is_generated()) {
        let most = if document.path == "README.md" { LONGEST_README } else { LONGEST_DOCUMENT };
        let lines = document.text.lines().count();
        if lines >= most {
            findings.push(format!("{}: {lines} lines; at most {}", document.path, most - 1));
        }
        let mut heading = document.text.lines().skip(1).filter(|line| !line.is_empty() && !line.starts_with("<!--"));
        let opening = heading.next().unwrap_or_default();
        if document.path.starts_with("docs/") && (opening.starts_with('#') || opening.starts_with('|')) {
            findings.push(format!("{}: does not open with what it answers", document.path));
        }
    }
    none(findings);
}

#[test]
fn lines_and_tables_fit_a_terminal() {
    let mut findings = Vec::new();
    for document in documents() {
        let lines = document.lines();
        for (index, (number, line)) in lines.iter().copied().enumerate() {
            let found = |what: String| format!("{}:{number}: {what}", document.path);
            if let Some(row) = line.strip_prefix('|') {
                let begins = index == 0 || !lines[index - 1].1.starts_with('|');
                if begins && !lines.get(index + 1).is_some_and(|(_, line)| line.starts_with("|--")) {
                    findings.push(found("a table without its head".to_owned()));
                }
                let Some(row) = row.strip_suffix('|') else {
                    findings.push(found("the row does not end with a pipe".to_owned()));
                    continue;
                };
                let cells = row.split('|').map(|cell| cell.trim().chars().count());
                if let Some(wide) = cells.max().filter(|wide| *wide >= WIDEST_CELL) {
                    findings.push(found(format!("a cell of {wide} characters")));
                }
                continue;
            }
            let width = line.chars().count();
            // A link or a path cannot be broken.
            let longest = line.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
            if width > WIDEST_LINE && longest < WIDEST_LINE - 10 && !document.is_generated() {
                findings.push(found(format!("{width} columns")));
            }
        }
    }
    none(findings);
}

/// Whether a word or a phrase is in a line, by itself.
fn has(line: &str, phrase: &str) -> bool {
    line.match_indices(phrase).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + phrase.len()..]);
        let alone = !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
        // "There is no way back" is common usage, and so is "it is no longer there".
        let usual = before.trim_end().ends_with("there") || after.trim_start().starts_with("longer");
        alone && !(phrase.ends_with(" no") && usual)
    })
}

/// Whether a sentence begins with a clause in place of a noun: "Who is refused gets an end", "What
/// was read is served".
fn begins_with_a_clause(line: &str) -> bool {
    let sentences = line.trim_start_matches(['*', '-', ' ']).split_inclusive(['.', ':', '?']);
    sentences.map(str::trim_start).any(|sentence| {
        let clause = ["Who ", "What ", "Told ", "Said "].iter().any(|word| sentence.starts_with(word));
        clause && !sentence.ends_with('?')
    })
}

#[test]
fn words_are_those_of_the_field() {
    let mut findings = Vec::new();
    let check = |place: String, line: &str, findings: &mut Vec<String>| {
        let lower = line.to_lowercase();
        for (phrase, instead) in BANNED {
            if has(&lower, phrase) {
                findings.push(format!("{place}: {phrase:?}; say {instead}: {line}"));
            }
        }
        if begins_with_a_clause(line) {
            findings.push(format!("{place}: name the subject: {line}"));
        }
    };
    for document in documents().iter().filter(|document| !document.is_generated()) {
        for (number, line) in document.lines() {
            if line.starts_with('|') || line.starts_with('#') {
                // The heads of tables and sections are names.
                continue;
            }
            check(format!("{}:{number}", document.path), &prose(line), &mut findings);
        }
        for (number, line) in document.lines() {
            if line.starts_with('|') {
                let lower = prose(line).to_lowercase();
                for (phrase, instead) in BANNED.iter().filter(|(phrase, _)| has(&lower, phrase)) {
                    findings.push(format!("{}:{number}: {phrase:?}; say {instead}: {line}", document.path));
                }
            }
        }
    }
    for path in below("wit", ".wit") {
        let document = Document::read(&path);
        for (index, line) in document.text.lines().enumerate() {
            if let Some(comment) = line.trim_start().strip_prefix("///") {
                check(format!("{}:{}", document.path, index + 1), &prose(comment.trim()), &mut findings);
            }
        }
    }
    none(findings);
}

/// All of the host's source, with each run of spaces as one, since string literals continue over
/// several lines.
fn source() -> String {
    let texts = below("host/src", ".rs").into_iter().map(|path| fs::read_to_string(path).unwrap());
    let joined: String = texts.collect();
    joined.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Operators search docs/troubleshooting.md for the words of a log record, so it must quote them
/// exactly.
#[test]
fn explained_messages_match_the_hosts() {
    let (document, source) = (Document::read(&root().join("docs/troubleshooting.md")), source());
    let mut findings = Vec::new();
    let mut found = 0;
    for (number, line) in document.lines().into_iter().filter(|(_, line)| line.starts_with("| `")) {
        let message = line.split('|').nth(1).unwrap();
        for quoted in message.split('`').skip(1).step_by(2) {
            // The parts between the values, without the names of fields.
            for part in quoted.split('…').flat_map(|part| part.rsplit('=').next()) {
                let part = part.trim_matches([' ', ':', ',', ';']);
                found += usize::from(part.len() > 3);
                if part.len() > 3 && !source.contains(part) {
                    findings.push(format!("{}:{number}: the host does not say {part:?}", document.path));
                }
            }
        }
    }
    assert!(found > 30, "{found}");
    none(findings);
}

/// The reference has every option, and no other.
#[test]
fn the_reference_has_every_option() {
    let help = Command::new(env!("CARGO_BIN_EXE_uninterruptible-host")).arg("--help").output().unwrap();
    let options = |text: &str| -> BTreeSet<String> {
        let names = text
            .split("--")
            .skip(1)
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>());
        names.filter(|name| name.len() > 1 && !["help", "version"].contains(&name.as_str())).collect()
    };
    let known = options(&String::from_utf8(help.stdout).unwrap());
    let document = Document::read(&root().join("docs/configuration.md"));
    let rows: String =
        document.lines().into_iter().map(|(_, line)| line).filter(|line| line.starts_with("* `--")).collect();
    let documented = options(&rows);
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
    let unknown: Vec<_> = documented.difference(&known).collect();
    assert!(unknown.is_empty(), "in docs/configuration.md, and not an option: {unknown:?}");
}
