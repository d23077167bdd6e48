//! Runs folders of programs as guests of a real host, each against its expected result, and prints
//! a table.
//!
//! ```text
//! cargo test -p uninterruptible-host --test conformance -- [FOLDER...] [NAME...]
//! ```
//!
//! A folder holds `NAME.wasm` or `NAME.wat`, and beside each a `NAME.json` in the form of the
//! public WASI test suites: `args`, `env`, `root` (the directory at `/`), `dirs` (directories by
//! their names), `stdin`, `stdout` and `exit_code`, or the same as `operations`. Without a JSON
//! file a program must exit with 0. Directories are copied first, so that the folder stays
//! unchanged; a missing one is empty. Without folders the project's own programs run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::let_underscore_must_use,
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "a test fails by panicking; of what the other tests share this needs a part"
)]

mod certificates;
mod connections;
mod harness;
mod secure;

use harness::{Host, Setup, directory, root, shared_cache, wait_for};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::Shutdown,
    path::{Path, PathBuf},
    process::ExitCode,
};

fn main() -> ExitCode {
    // `cargo test` passes the same words to all test programs. Options of the usual harness have no
    // effect here. A word that is not a folder selects tests by name, as it does there.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let (mut folders, filters): (Vec<&Path>, Vec<&Path>) = words.iter().map(Path::new).partition(|word| word.is_dir());
    let own = root().join("tests/programs/wasi-0.1");
    if folders.is_empty() {
        folders.push(&own);
    }
    let selected = |path: &PathBuf| {
        filters.is_empty() || filters.iter().any(|filter| name(path).contains(&*filter.to_string_lossy()))
    };
    let programs: Vec<PathBuf> = folders.iter().flat_map(|folder| programs(folder)).filter(selected).collect();
    let width = programs.iter().map(|path| name(path).len()).max().unwrap_or_default();
    let mut counts = BTreeMap::from([("passed", 0), ("failed", 0), ("skipped", 0)]);
    for path in &programs {
        let (word, why) = match run(path) {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Failed(why) => ("failed", why),
            Outcome::Skipped(why) => ("skipped", why),
        };
        *counts.entry(word).or_default() += 1;
        println!("{}", format!("{:width$}  {word:7}  {why}", name(path)).trim_end());
    }
    println!("\n{} passed, {} failed, {} skipped", counts["passed"], counts["failed"], counts["skipped"]);
    if words.is_empty() {
        print_skips();
    }
    if programs.is_empty() && filters.is_empty() || counts["failed"] > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// The tests that did not run in the last run of the black-box tests. This is the last test program
/// of `cargo test`, so that the list stands at the end.
fn print_skips() {
    let list = fs::read_to_string(harness::run::list_of_skips()).unwrap_or_default();
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    println!("\n{} black-box tests did not run{}", lines.len(), if lines.is_empty() { "" } else { ":" });
    lines.iter().for_each(|line| println!("  {line}"));
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

fn programs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let is_program =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wasm" || extension == "wat");
    let mut programs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(is_program).collect();
    programs.sort();
    programs
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A program's input and its expected result.
#[derive(Default)]
struct Expectation {
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// Its directories, by the path in the guest.
    directories: Vec<(PathBuf, String)>,
    stdin: String,
    stdout: Option<String>,
    exit_code: i64,
}

impl Expectation {
    /// `Err` names the part that this host cannot express.
    fn of(program: &Path) -> Result<Self, String> {
        let Ok(text) = fs::read_to_string(program.with_extension("json")) else { return Ok(Self::default()) };
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("its expectation: {error}"))?;
        let mut expectation = Self::default();
        if value["proposals"].as_array().is_some_and(|proposals| !proposals.is_empty()) {
            return Err(format!("needs {}", value["proposals"]));
        }
        expectation.read(program, &value)?;
        for operation in value["operations"].as_array().into_iter().flatten() {
            match operation["type"].as_str() {
                Some("run" | "wait") => expectation.read(program, operation)?,
                Some("read") if operation["id"].as_str().unwrap_or("stdout") == "stdout" => {
                    expectation.stdout = Some(operation["payload"].as_str().unwrap_or_default().to_owned());
                }
                _ => return Err(format!("has the operation {}", operation["type"])),
            }
        }
        Ok(expectation)
    }

    fn read(&mut self, program: &Path, value: &Value) -> Result<(), String> {
        let folder = program.parent().unwrap_or(program);
        let words = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("not a string: {value}"));
        for word in words(&value["args"]) {
            self.args.push(text(&word)?);
        }
        for (name, variable) in value["env"].as_object().into_iter().flatten() {
            self.env.push((name.clone(), text(variable)?));
        }
        if let Some(root) = value["root"].as_str() {
            self.directories.push((folder.join(root), "/".to_owned()));
        }
        for dir in words(&value["dirs"]) {
            let dir = text(&dir)?;
            self.directories.push((folder.join(&dir), format!("/{dir}")));
        }
        if let Some(stdin) = value["stdin"].as_str() {
            stdin.clone_into(&mut self.stdin);
        }
        if let Some(stdout) = value["stdout"].as_str() {
            self.stdout = Some(stdout.to_owned());
        }
        if let Some(code) = value["exit_code"].as_i64() {
            self.exit_code = code;
        }
        Ok(())
    }
}

fn run(program: &Path) -> Outcome {
    let expectation = match Expectation::of(program) {
        Ok(expectation) => expectation,
        Err(why) => return Outcome::Skipped(why),
    };
    let scratch = directory();
    // Text is compiled to a module first. The name stays, since it is the program's first argument.
    let plugin = scratch.path().join(name(program)).with_extension("wasm");
    match wat::parse_file(program) {
        Ok(module) => fs::write(&plugin, module).unwrap(),
        Err(error) => return Outcome::Failed(error.to_string()),
    }
    let mut setup = Setup::serving_file(&plugin);
    for word in &expectation.args {
        setup = setup.option("--guest-arg", word);
    }
    for (name, value) in &expectation.env {
        setup = setup.option("--guest-env", format!("{name}={value}"));
    }
    for (number, (from, at)) in expectation.directories.iter().enumerate() {
        let copy = scratch.path().join(number.to_string());
        copy_directory(from, &copy);
        setup = setup.option("--guest-dir", format!("{}::{at}:rw", copy.display()));
    }
    let (code, _, err) = check(&plugin);
    if code != 0 {
        return Outcome::Failed(err.trim_end().to_owned());
    }
    let host = setup.start();
    let mut stream = host.connect();
    stream.write_all(expectation.stdin.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let stdout = harness::read_to_end(&mut stream);
    let status = status(&host);
    let stdout = String::from_utf8_lossy(&stdout);
    match expectation.stdout {
        _ if status != Ok(expectation.exit_code) => {
            Outcome::Failed(status.map_or_else(|why| why, |status| format!("exited with status {status}")))
        }
        Some(expected) if stdout != expected => Outcome::Failed(format!("wrote {stdout:?}, not {expected:?}")),
        _ => Outcome::Passed,
    }
}

/// Whether the host can serve it at all.
fn check(plugin: &Path) -> (i32, String, String) {
    Setup::bare().argument("check").option("--plugin", plugin).option("--cache-dir", shared_cache()).run()
}

/// The end of the program, as its log record has it.
fn status(host: &Host) -> Result<i64, String> {
    let record = wait_for("the program's record", || {
        let log = host.log();
        log.lines()
            .find(|line| line.contains("connection finished") || line.contains("connection failed"))
            .map(str::to_owned)
    });
    if record.contains("connection finished") {
        return Ok(0);
    }
    let (_, said) = record.split_once("the guest exited with status ").unwrap_or_default();
    let status =
        said.split(|character: char| !character.is_ascii_digit()).next().and_then(|status| status.parse().ok());
    status.ok_or_else(|| record.split_once("reason=").map_or(record.clone(), |(_, reason)| reason.to_owned()))
}

/// Removes what an earlier run has left.
fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if path.extension().is_some_and(|extension| extension == "cleanup") {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
