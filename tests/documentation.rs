//! Runs the commands of the documents in their order: README.md, and docs/getting-started.md from
//! an empty directory to production, in each language.

use crate::{
    harness::{Setup, directory, own_addresses, root},
    project::UNAVAILABLE,
};
use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

const GETTING_STARTED: &str = "docs/getting-started.md";

/// Waits for a listener, as a reader would.
const SERVES: &str = "serves() { for _ in $(seq 600); do (: </dev/tcp/127.0.0.1/$1) 2>/dev/null && return; sleep 0.1; done; \
                      echo in vain; exit 9; }\n";

/// The indented blocks of a document below a heading, up to the next heading.
fn commands(page: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let mut lines = text.lines().skip_while(|line| *line != heading).skip(1).peekable();
    assert!(lines.peek().is_some(), "{page}: no {heading:?}");
    let section = lines.take_while(|line| !line.starts_with('#'));
    // Output that the document shows, and commands that only a reader should type.
    let typed = section.filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with("WARN "));
    typed.map(str::to_owned).collect()
}

fn missing(tools: &[&'static str]) -> Option<&'static str> {
    let has =
        |tool: &str| Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success();
    tools.iter().copied().find(|tool| !has(tool))
}

/// The script with addresses of the test's own, since the documents' commands name fixed ports.
fn at_own_address(script: &str) -> (String, String) {
    let [first, second] = own_addresses();
    let script = script.replace("127.0.0.1", &first.ip().to_string());
    // By way of placeholders, as one port may contain the digits of another.
    let script = script.replace("7000", "{first}").replace("7001", "{second}");
    let script = script.replace("{first}", &first.port().to_string()).replace("{second}", &second.port().to_string());
    (script, format!("tcp://{first}"))
}

/// Runs a script with the host on its path.
fn typed(script: &str, directory: &Path, environment: &[(&str, &str)]) -> Output {
    let host = Path::new(env!("CARGO_BIN_EXE_uninterruptible-host")).parent().unwrap();
    let path = format!("{}:{}", host.display(), env::var("PATH").unwrap());
    Command::new("timeout")
        .args(["1200", "bash", "-c", script])
        .current_dir(directory)
        .env("PATH", path)
        .env("UNINTERRUPTIBLE_CACHE_DIR", crate::harness::shared_cache())
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// The commands of one language, then those that all languages share.
fn goes_all_the_way(language: (&str, &str), tools: &[&'static str], fetches: bool) {
    if let Some(tool) = missing(tools).or_else(|| missing(&["nc", "sha256sum"])) {
        crate::harness::skip(format!("{tool} is not installed"));
        return;
    }
    if fetches && env::var_os("PROJECTS_MAY_FETCH").is_none() {
        crate::harness::skip(crate::project::NEEDS_FETCH);
        return;
    }
    let mut script = format!(
        "set -euo pipefail\n{SERVES}\
         trap 'kill $(jobs -p) $(cat host.pid) 2>/dev/null || :' EXIT\n",
    );
    let headings = [
        language,
        (GETTING_STARTED, "## Serve it while you write it"),
        (GETTING_STARTED, "## Put it into production"),
        (GETTING_STARTED, "## Roll it back"),
    ];
    for (page, heading) in headings {
        let commands = commands(page, heading);
        assert!(!commands.is_empty(), "{page}: {heading}");
        for command in commands {
            // The test has made sure before that the packages are installed.
            if command.starts_with("apt-get ") {
                continue;
            }
            script.push_str(&command);
            script.push('\n');
            if command.ends_with(" &") {
                let port = if command.contains("7001") { "7001" } else { "7000" };
                script.push_str(&format!("last=$!\nserves {port}\n"));
            }
        }
        if heading == "## Put it into production" {
            // The record of the last restart names its successor.
            script.push_str("for _ in $(seq 600); do [ \"$(cat host.pid)\" != $last ] && break; sleep 0.1; done\n");
            script.push_str("[ \"$(cat host.pid)\" != $last ]\nprintf 'alice\\n' | nc -N 127.0.0.1 7000\n");
            script.push_str("unset UNINTERRUPTIBLE_ROLLBACK_WINDOW\n");
        }
    }
    let (script, bind) = at_own_address(&script);
    let directory = directory();
    let environment = [("UNINTERRUPTIBLE_BIND", bind.as_str()), ("UNINTERRUPTIBLE_ROLLBACK_WINDOW", "100ms")];
    let output = typed(&script, directory.path(), &environment);
    if output.status.code() == Some(UNAVAILABLE) {
        crate::harness::skip("the language's registry did not answer");
        return;
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{script}\n{out}\n{err}", output.status);
    let answers = [
        "Hello bob!",
        "Hello alice!",
        "served     yes",
        "generation 2 serves",
        "rolled back: generation 1 serves again",
    ];
    for answer in answers {
        assert!(out.contains(answer), "{answer}\n{out}\n{err}");
    }
}

#[test]
fn a_handler_in_c_goes_from_nothing_to_production() {
    goes_all_the_way(("docs/plugins/languages.md", "### C"), &["clang-22", "rustc"], false);
}

#[test]
fn a_handler_in_rust_goes_from_nothing_to_production() {
    goes_all_the_way((GETTING_STARTED, "## Write a plugin"), &["cargo", "rustc"], true);
}

#[test]
fn a_handler_in_javascript_goes_from_nothing_to_production() {
    goes_all_the_way(("docs/plugins/languages.md", "### JavaScript"), &["node", "npm"], true);
}

#[test]
fn a_handler_in_python_goes_from_nothing_to_production() {
    goes_all_the_way(("docs/plugins/languages.md", "### Python"), &["python3"], true);
}

/// The program of the page, built by the page's command.
#[test]
fn the_program_of_the_documentation_serves() {
    let source = commands("docs/plugins/programs.md", "## An example").join("\n");
    let build = source.lines().next().unwrap().split_once("; ").unwrap().1;
    let target = build.split_once("--target ").unwrap().1;
    let libraries = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    let libraries = libraries.map(|output| String::from_utf8(output.stdout).unwrap()).unwrap_or_default();
    if !Path::new(libraries.trim()).is_dir() {
        crate::harness::skip(format!("this toolchain lacks {target}"));
        return;
    }
    let directory = directory();
    fs::create_dir(directory.path().join("src")).unwrap();
    fs::write(directory.path().join("src/main.rs"), &source).unwrap();
    let manifest = "[package]\nname = \"greeter\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(directory.path().join("Cargo.toml"), manifest).unwrap();
    let output = Command::new("bash")
        .args(["-c", build])
        .current_dir(directory.path())
        .env("CARGO_TARGET_DIR", directory.path().join("target"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{build}: {}", String::from_utf8_lossy(&output.stderr));
    let host = Setup::serving_file(&directory.path().join(format!("target/{target}/release/greeter.wasm"))).start();
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
}

/// Copies a folder of sources.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// No other test builds the host as a reader does, which takes minutes.
#[test]
fn the_quick_start_has_a_profile_of_packages_that_exist() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (manifest, locked) = (read("Cargo.toml"), read("Cargo.lock"));
    assert!(commands("README.md", "## Run it")[0].contains(" --profile quick "), "the README builds something else");
    let (_, profile) = manifest.split_once("\n[profile.quick]\n").expect("the profile");
    let (_, packages) = profile.split_once("[profile.quick.package]\n").expect("its packages");
    for line in packages.lines().take_while(|line| !line.is_empty()) {
        let (package, _) = line.split_once(".opt-level = ").expect(line);
        assert!(locked.contains(&format!("\nname = \"{package}\"\n")), "cargo only warns that {package} is not used");
    }
}

/// The README's commands, in a copy of what they build. The host is the one under test.
#[test]
fn the_readme_serves_and_upgrades_under_load() {
    let run = commands("README.md", "## Run it");
    let [run, asked, ..] = &run[..] else { panic!("{run:?}") };
    let (build, options) = run.split_once(" && ").unwrap();
    let (_, options) = options.split_once(" -- ").expect("the host's options follow cargo's");
    let upgrade = commands("README.md", "## Upgrade it under load");
    let [load, change @ .., signal] = &upgrade[..] else { panic!("{upgrade:?}") };
    assert!(load.ends_with(" &") && signal.starts_with("kill -USR1 "), "{upgrade:?}");
    assert!(change.iter().any(|command| command == build), "{build:?} builds the new version too: {upgrade:?}");

    let directory = directory();
    for folder in ["plugins", "guest-sdk", "wit", "host"] {
        copy(&root().join(folder), &directory.path().join(folder));
    }
    fs::copy(root().join("Cargo.toml"), directory.path().join("Cargo.toml")).unwrap();
    let asked = asked.strip_prefix("$ ").unwrap();
    let script = format!(
        "set -euo pipefail\n{SERVES}\
         trap 'kill $(jobs -p) $(cat /tmp/host.pid) 2>/dev/null || :' EXIT\n\
         {build}\nuninterruptible-host {options} &\nserves 7000\n{asked}\n\
         {{ {} wait; }} >load &\n{}\n{signal}\n\
         for _ in $(seq 600); do {asked} | grep -q ^Welcome && break; sleep 0.1; done\n{asked}\n\
         kill \"$(cat /tmp/host.pid)\"\nwait\ncat load\n",
        load,
        change.join("\n"),
    );
    let pidfile = directory.path().join("host.pid");
    let (script, bind) = at_own_address(&script);
    let script = script.replace("/tmp/host.pid", pidfile.to_str().unwrap());
    let target = root().join("target");
    let environment = [("UNINTERRUPTIBLE_BIND", bind.as_str()), ("CARGO_TARGET_DIR", target.to_str().unwrap())];
    let output = typed(&script, directory.path(), &environment);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{script}\n{out}\n{err}", output.status);
    let answers: Vec<_> = out.lines().filter(|line| line.ends_with("bob!")).map(str::trim).collect();
    let [first, last, before, after] = answers[..] else { panic!("{out}\n{err}") };
    assert_eq!((first, last), ("Hello bob!", "Welcome bob!"), "{out}\n{err}");
    assert!(before.ends_with(" Hello bob!") && after.ends_with(" Welcome bob!"), "{out}\n{err}");
}
