//! What all tests of a run share: the list of skipped tests, seeds, and the command that repeats a
//! failing test.

use std::{
    cell::Cell,
    fmt::Display,
    fs,
    io::Write,
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

pub fn root() -> PathBuf {
    begin();
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The list of the skipped tests, one line each. Each run of the black-box tests starts a new one.
pub fn list_of_skips() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped")
}

/// Lists the test as skipped, with the reason. Such a line makes `SKIPS=fail .ci/run` fail.
pub fn skip(reason: impl Display) {
    list("skipped", &reason);
}

/// Lists the test as impossible here: the kernel, a limit or a user forbids it, and no package
/// would help. `.ci/run` lists these lines and does not fail.
pub fn cannot(reason: impl Display) {
    list("impossible here", &reason);
}

/// Whether the program is missing. If so, lists the test as skipped.
#[must_use]
pub fn skip_unless(program: &str) -> bool {
    // Debian has servers in directories that only root has in its path.
    let find = "PATH=$PATH:/usr/sbin:/sbin command -v \"$0\"";
    let missing = !Command::new("sh").args(["-c", find, program]).output().unwrap().status.success();
    if missing {
        skip(format!("{program} is not installed"));
    }
    missing
}

fn list(how: &str, reason: &impl Display) {
    begin();
    let reason = reason.to_string().replace('\n', " ");
    let line = format!("{how}: {}: {reason}\n", test_name().as_deref().unwrap_or("a test"));
    eprint!("{line}");
    // A single write, as tests append to it in parallel.
    let mut list = fs::OpenOptions::new().create(true).append(true).open(list_of_skips()).unwrap();
    list.write_all(line.as_bytes()).unwrap();
}

/// The name of the test that this thread runs. Other threads have none; the main thread, which runs
/// the tests under `--test-threads=1`, has none either.
fn test_name() -> Option<String> {
    thread::current().name().filter(|name| name.contains("::")).map(str::to_owned)
}

/// The seed for a test's random choices: the variable `SEED`, or a new one. A failure prints it.
pub fn seed() -> u64 {
    begin();
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let new = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos() ^ std::process::id();
    let seed = given.unwrap_or_else(|| u64::from(new()));
    SEED.set(Some(seed));
    seed
}

thread_local! {
    /// The seed of this thread's test.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Prepares the process once, before the first test uses it: a failing test prints the command that
/// repeats it.
pub(super) fn begin() {
    static BEGIN: Once = Once::new();
    // A panicking thread may not set a hook. It has called this before, or does not belong to a
    // test.
    if env!("CARGO_CRATE_NAME") != "black_box" || thread::panicking() {
        return;
    }
    BEGIN.call_once(|| {
        fs::remove_file(list_of_skips()).ok();
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            usual(panic);
            if let Some(name) = test_name() {
                let seed = SEED.get().map(|seed| format!("SEED={seed} ")).unwrap_or_default();
                eprintln!("to repeat: {seed}cargo test --workspace --test black-box -- --exact {name}");
            }
        }));
    });
}
