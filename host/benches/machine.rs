//! The machine and the build that the numbers come from. Without them the numbers mean nothing.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::SystemTime;

use crate::options::root;

/// Names and values, for the head of the report. A value that cannot be read is "unknown".
pub(crate) fn facts(cores: &str) -> Vec<(&'static str, String)> {
    let count = available_parallelism().map_or_else(|_| "unknown".to_owned(), |count| count.to_string());
    vec![
        ("Date", humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
        ("Commit", commit()),
        ("CPU", cpu_model()),
        ("Cores", format!("{count}: {cores}")),
        ("Kernel", output("uname", &["-sr"])),
        ("Memory mappings of a process", setting("/proc/sys/vm/max_map_count")),
        ("Compiler", output("rustc", &["--version"])),
        ("Profile", if cfg!(debug_assertions) { "debug: do not quote these numbers" } else { "release" }.to_owned()),
        ("Load average at the start", load_average()),
    ]
}

fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    // The report itself is a tracked file. A change of it is not a change of the source.
    match output("git", &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]).as_str() {
        "" => commit,
        _ => format!("{commit}, with uncommitted changes"),
    }
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    // Not every architecture has a model's name there.
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

/// A kernel's setting. The largest numbers of connections need more than its default.
fn setting(path: &str) -> String {
    let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |value| format!("{} ({name})", value.trim()))
}

/// Of the last minute: shows whether the machine was busy with something else.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).current_dir(root()).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
