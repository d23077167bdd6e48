//! `new`: its project builds, passes its tests and is served outside this repository. Its plugins
//! also show the log records of a handler that fails.

use crate::harness::{Setup, directory, wait_for};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The exit code of a build that lacks a tool or a registry, which is not the project's fault.
pub const UNAVAILABLE: i32 = 69;

/// A project in a directory of its own.
struct Project {
    path: PathBuf,
    name: &'static str,
    _directory: tempfile::TempDir,
}

impl Project {
    fn new(language: &str, name: &'static str) -> Self {
        let directory = directory();
        let output = new(directory.path(), &["--lang", language, name]);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("./build"), "{output:?}");
        Self { path: directory.path().join(name), name, _directory: directory }
    }

    fn run(&self, command: &[&str]) -> Output {
        Command::new(command[0]).args(&command[1..]).current_dir(&self.path).output().unwrap()
    }

    fn succeeds(&self, command: &[&str]) {
        succeeded(command, &self.run(command));
    }

    /// Builds it, where its tools are installed or the registry answers.
    fn builds(&self) -> bool {
        let output = self.run(&["./build"]);
        if output.status.code() == Some(UNAVAILABLE) {
            crate::harness::skip("the language's registry did not answer");
            return false;
        }
        succeeded(&["./build"], &output);
        true
    }

    fn plugin(&self) -> PathBuf {
        self.path.join(format!("{}.wasm", self.name))
    }

    fn replace(&self, file: &str, old: &str, new: &str) {
        let path = self.path.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{old:?} in {file}");
        fs::write(path, text.replacen(old, new, 1)).unwrap();
    }

    /// Serves the plugin that it has built, and asks it.
    fn is_served(&self) {
        let host = Setup::serving_file(&self.plugin()).start();
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
        assert_eq!(host.ask(""), b"Hello world!\n");
    }
}

fn succeeded(command: &[&str], output: &Output) {
    let said = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{}", said(&output.stdout), said(&output.stderr));
}

fn new(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uninterruptible-host"))
        .arg("new")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn refused(directory: &Path, arguments: &[&str], says: &str) {
    let output = new(directory, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(said.lines().count() == 1 && said.contains(says), "{said}");
}

/// Why a test that downloads a language's tools is skipped.
pub const NEEDS_FETCH: &str = "it downloads the language's tools: set PROJECTS_MAY_FETCH to allow that";

/// Whether the test is skipped: a tool is missing, or it downloads a lot and the run does not allow
/// that.
fn skipped(tools: &[&str], fetches: bool) -> bool {
    let has = |tool: &&&str| {
        Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success()
    };
    if let Some(tool) = tools.iter().find(|tool| !has(tool)) {
        crate::harness::skip(format!("{tool} is not installed"));
        return true;
    }
    let asked = env::var_os("PROJECTS_MAY_FETCH").is_some();
    if fetches && !asked {
        crate::harness::skip(NEEDS_FETCH);
    }
    fetches && !asked
}

#[test]
fn an_invalid_project_is_rejected_in_one_line() {
    let directory = directory();
    let place = directory.path();
    refused(place, &["--lang", "cobol", "hello"], "--lang \"cobol\": is not one of rust, c, js, python");
    refused(place, &["--lang", "c", "../hello"], "is not a valid project name");
    refused(place, &["--lang", "rust", "fn"], "choose another name");
    refused(place, &["--lang", "c"], "<NAME>");
    refused(place, &["hello"], "--lang");
    fs::create_dir(place.join("there")).unwrap();
    fs::write(place.join("file"), "mine").unwrap();
    refused(place, &["--lang", "c", "there"], "there exists already");
    refused(place, &["--lang", "c", "file"], "file exists already");
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "mine");
    assert_eq!(fs::read_dir(place.join("there")).unwrap().count(), 0);
}

#[test]
fn a_project_in_c_is_built_and_served() {
    if skipped(&["clang-22", "rustc"], false) {
        return;
    }
    let project = Project::new("c", "my-plugin");
    project.succeeds(&["./build"]);
    project.is_served();
}

#[test]
fn a_project_in_rust_is_tested_built_and_served() {
    if skipped(&["cargo", "rustc"], true) {
        return;
    }
    let project = Project::new("rust", "my-plugin");
    project.succeeds(&["cargo", "test"]);
    project.succeeds(&["./build"]);
    project.is_served();
    project.replace(
        "src/lib.rs",
        "let name = match",
        "assert!(line != b\"boom\\n\", \"as was asked\");\n    let name = match",
    );
    project.succeeds(&["./build"]);
    let host = Setup::serving_file(&project.plugin()).start();
    assert_eq!(host.ask("boom\n"), b"");
    let record = host.logged(&["connection failed", "reason=trap"]);
    // The message, and the handler's own function before those of the panic machinery.
    assert!(record.contains("panicked at src/lib.rs:") && record.contains("as was asked;"), "{record}");
    assert!(record.contains(", in my_plugin::"), "{record}");
}

#[test]
fn a_project_in_javascript_is_tested_built_and_served() {
    if skipped(&["node", "npm"], true) {
        return;
    }
    let project = Project::new("js", "my-plugin");
    project.succeeds(&["node", "--test"]);
    if project.builds() {
        project.is_served();
    }
}

#[test]
fn a_project_in_python_is_tested_built_and_served() {
    if skipped(&["python3"], false) {
        return;
    }
    let project = Project::new("python", "my-plugin");
    project.succeeds(&["python3", "test.py"]);
    if !skipped(&[], true) && project.builds() {
        project.is_served();
    }
}

#[test]
fn the_handler_in_javascript_passes_its_test() {
    if skipped(&["node"], false) {
        return;
    }
    Project::new("js", "my-plugin").succeeds(&["node", "--test"]);
}

#[test]
fn a_trap_is_logged_with_functions_and_lines() {
    if skipped(&["clang-22", "rustc"], false) {
        return;
    }
    let project = Project::new("c", "trapping");
    let boom = "    if (length > 0 && line[0] == '!') boom();\n    if (done) {";
    project.replace("handler.c", "    if (done) {", boom);
    let noted = "#include <stdio.h>\n#include <stdlib.h>\nstatic __attribute__((noinline)) void boom(void) {\n    \
                 fputs(\"about to fail\", stderr);\n    abort();\n}\n\n";
    project.replace("handler.c", "bool exports_", &format!("{noted}bool exports_"));
    let line = fs::read_to_string(project.path.join("handler.c")).unwrap();
    let line = 1 + line.lines().position(|line| line.contains("abort();")).unwrap();

    project.succeeds(&["./build"]);
    let host = Setup::serving_file(&project.plugin()).argument("--watch").start();
    assert_eq!(host.ask("!\n"), b"");
    let record = host.logged(&["connection failed", "reason=trap"]);
    assert!(record.contains("its last output: about to fail; ") && record.contains(", in boom < "), "{record}");
    assert!(!record.contains("handler.c"), "{record}");

    // Built with debug information, saved in place, and asked again.
    project.succeeds(&["env", "CFLAGS=-g", "./build"]);
    let place = format!(", in boom (handler.c:{line}) < ");
    wait_for(&format!("a record with {place:?}"), || {
        host.ask("!\n");
        host.log().contains(&place).then_some(())
    });
}
