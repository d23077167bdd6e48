//! docs/plugins.md: every command on the way from nothing to production, as it stands there, one after the other.

use crate::{
    harness::{Setup, directory, root},
    project::UNAVAILABLE,
};
use std::{env, fs, net::TcpListener, path::Path, process::Command};

/// The indented blocks below a heading, up to the next one of its rank.
fn commands(page: &str, heading: &str) -> Vec<String> {
    let mut lines = page.lines().skip_while(|line| *line != heading).skip(1).peekable();
    assert!(lines.peek().is_some(), "no {heading:?}");
    let section = lines.take_while(|line| !line.starts_with('#'));
    // What is shown, and not typed.
    let typed = section.filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with("WARN "));
    typed.map(str::to_owned).collect()
}

fn missing(tools: &[&'static str]) -> Option<&'static str> {
    let has =
        |tool: &str| Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success();
    tools.iter().copied().find(|tool| !has(tool))
}

/// A port that is free, though it may be taken before it is used.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The commands of a language, then those that are the same for all.
fn goes_all_the_way(language: &str, tools: &[&'static str], fetches: bool) {
    if let Some(tool) = missing(tools).or_else(|| missing(&["nc", "sha256sum"])) {
        eprintln!("skipped: {tool} is not installed");
        return;
    }
    if fetches && env::var_os("PROJECTS_MAY_FETCH").is_none() {
        eprintln!("skipped: its tools are fetched from the language's registry; set PROJECTS_MAY_FETCH to have them");
        return;
    }
    let page = fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let port = port();
    let mut script = String::from(
        "set -euo pipefail\n\
         serves() { for _ in $(seq 600); do (: </dev/tcp/127.0.0.1/PORT) 2>/dev/null && return; sleep 0.1; done; echo in vain; exit 9; }\n\
         trap 'kill $(jobs -p) $(cat host.pid) 2>/dev/null || :' EXIT\n",
    );
    for heading in [&format!("### {language}"), "### Serve it while you write it", "### Put it into production"] {
        let commands = commands(&page, heading);
        assert!(!commands.is_empty(), "{heading}");
        for command in commands {
            // That the packages are there is what was looked for first.
            if command.starts_with("apt-get ") {
                continue;
            }
            script.push_str(&command);
            // Whoever types has to wait for it as well.
            script.push_str(if command.ends_with(" &") { "\nfirst=$!\nserves\n" } else { "\n" });
        }
    }
    // The restart that was asked for last has its successor named.
    script.push_str("for _ in $(seq 600); do [ \"$(cat host.pid)\" != $first ] && break; sleep 0.1; done\n");
    script.push_str("[ \"$(cat host.pid)\" != $first ]\nprintf 'alice\\n' | nc -N 127.0.0.1 7000\n");
    let script = script.replace("7000", &port.to_string()).replace("PORT", &port.to_string());
    let directory = directory();
    let host = Path::new(env!("CARGO_BIN_EXE_uninterruptible-host")).parent().unwrap();
    let path = format!("{}:{}", host.display(), env::var("PATH").unwrap());
    let output = Command::new("timeout")
        .args(["1200", "bash", "-c", &script])
        .current_dir(directory.path())
        .env("PATH", path)
        .env("UNINTERRUPTIBLE_BIND", format!("tcp://127.0.0.1:{port}"))
        .env("UNINTERRUPTIBLE_ROLLBACK_WINDOW", "100ms")
        .env("UNINTERRUPTIBLE_CACHE_DIR", crate::harness::shared_cache())
        .output()
        .unwrap();
    if output.status.code() == Some(UNAVAILABLE) {
        eprintln!("skipped: its tools could not be fetched");
        return;
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{script}\n{out}\n{err}", output.status);
    for answer in ["Hello bob!", "Hello alice!", "served     yes"] {
        assert!(out.contains(answer), "{answer}\n{out}\n{err}");
    }
}

#[test]
fn a_handler_in_c_goes_from_nothing_to_production() {
    goes_all_the_way("C", &["clang-22", "rustc"], false);
}

#[test]
fn a_handler_in_rust_goes_from_nothing_to_production() {
    goes_all_the_way("Rust", &["cargo", "rustc"], true);
}

#[test]
fn a_handler_in_javascript_goes_from_nothing_to_production() {
    goes_all_the_way("JavaScript", &["node", "npm"], true);
}

#[test]
fn a_handler_in_python_goes_from_nothing_to_production() {
    goes_all_the_way("Python", &["python3"], true);
}

/// The program that the page shows, built as it says there.
#[test]
fn the_program_of_the_documentation_serves() {
    let page = fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let source = commands(&page, "## Programs that read standard input").join("\n");
    let build = source.lines().next().unwrap().split_once("; ").unwrap().1;
    let target = build.split_once("--target ").unwrap().1;
    let libraries = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    let libraries = libraries.map(|output| String::from_utf8(output.stdout).unwrap()).unwrap_or_default();
    if !Path::new(libraries.trim()).is_dir() {
        eprintln!("skipped: this toolchain has no {target}");
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
