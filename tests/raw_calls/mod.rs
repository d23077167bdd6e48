//! The two ways to serve a handler, by its component and by its core module alone, do the same: guests that call their imports
//! with arbitrary arguments see the same results, and their peers and the log see the same ends.
//!
//! `CASES=100000 cargo test --workspace --test black-box -- raw_calls::random` runs more, and `TRAPS=1` prints how the two
//! describe their traps.

mod directed;
mod edges;
mod guest;
mod hosts;
mod imports;
mod script;

use self::{
    guest::{code, component},
    hosts::{Outcome, Over, outcomes},
    imports::{Import, imports},
    script::{Operation, Script, Value, Writer},
};
use crate::harness::{Setup, directory, seed};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    thread,
};

/// The options of the two hosts.
const WAYS: [&[&str]; 2] = [&["--component-layer", "keep"], &[]];

/// Scripts for one start of the hosts.
const GROUP: u64 = 4000;

/// Everything that the tests need.
struct Bench {
    imports: Vec<Import>,
    plugin: PathBuf,
    ways: [&'static [&'static str]; 2],
    /// More options of both.
    options: &'static [&'static str],
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new(ways: [&'static [&'static str]; 2]) -> Self {
        let (imports, directory) = (imports(), directory());
        let plugin = directory.path().join("raw-calls.wasm");
        fs::write(&plugin, component(&imports)).unwrap();
        Self { imports, plugin, ways, options: &[], _directory: directory }
    }

    /// What comes of the scripts on either host.
    fn run(&self, over: Over, scripts: &[Script]) -> Vec<[Outcome; 2]> {
        let plugin: &Path = &self.plugin;
        let [first, second] = thread::scope(|scope| {
            let running = self.ways.map(|way| {
                let options = [way, self.options].concat();
                scope.spawn(move || outcomes(plugin, &options, over, scripts))
            });
            running.map(|outcomes| outcomes.join().expect("outcomes"))
        });
        first.into_iter().zip(second).map(|(first, second)| [first, second]).collect()
    }

    /// The shortest script that still shows the difference, with what comes of it.
    fn shortened(&self, over: Over, script: &Script) -> (Script, [Outcome; 2]) {
        let mut shortest = (script.clone(), self.run(over, std::slice::from_ref(script)).remove(0));
        loop {
            let without = |index: usize| {
                let mut script = shortest.0.clone();
                script.operations.remove(index);
                script
            };
            let scripts: Vec<_> = (0..shortest.0.operations.len()).map(without).collect();
            let outcomes = self.run(over, &scripts);
            match scripts.into_iter().zip(outcomes).find(|(_, [first, second])| !first.is_like(second)) {
                Some(shorter) => shortest = shorter,
                None => return shortest,
            }
        }
    }

    /// The code of an import.
    fn code(&self, interface: &str, name: &str) -> u8 {
        u8::try_from(code(&self.imports, interface, name)).unwrap()
    }

    fn call(&self, interface: &str, name: &str, arguments: &[Value]) -> Operation {
        Operation::new(self.code(interface, name), arguments)
    }

    /// For people: the script, and both outcomes around the place where they part.
    fn described(&self, script: &Script, [first, second]: &[Outcome; 2]) -> String {
        let parts = first.bytes.iter().zip(&second.bytes).take_while(|(first, second)| first == second).count();
        let shown = |outcome: &Outcome| {
            let from = parts.saturating_sub(96).min(outcome.bytes.len());
            let to = outcome.bytes.len().min(parts + 96);
            let rows: String = outcome.bytes[from..to].chunks(32).map(|row| format!("\n      {}", hex(row))).collect();
            let Outcome { bytes, end, reason, error } = outcome;
            format!("  {} bytes, {end}, reason={reason:?}, error={error:?}; bytes {from} to {to}:{rows}\n", bytes.len())
        };
        format!("{}the bytes are alike up to {parts}\n{}{}", script.shown(&self.imports), shown(first), shown(second))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How the two describe the traps, with how often and a seed.
type Wordings = BTreeMap<[String; 2], (u64, String)>;

fn print(wordings: &Wordings) {
    if env::var_os("TRAPS").is_some() {
        for ([first, second], (count, example)) in wordings {
            let second = if first == second { "the same" } else { second };
            eprintln!("{count} times, as in {example}:\n  {first}\n  {second}");
        }
    }
}

fn note(wordings: &mut Wordings, example: String, [first, second]: &[Outcome; 2]) {
    if first.has_trapped() {
        wordings.entry([first.error.clone(), second.error.clone()]).or_insert((0, example)).0 += 1;
    }
}

/// A script that does not do the same on both hosts.
struct Difference {
    over: Over,
    seed: u64,
    script: Script,
    outcomes: [Outcome; 2],
}

impl Difference {
    /// Fails with all that is known of it.
    fn fail(self, bench: &Bench) -> ! {
        let Self { over, seed, script, outcomes } = self;
        let (short, again) = bench.shortened(over, &script);
        let (whole, short) = (bench.described(&script, &outcomes), bench.described(&short, &again));
        panic!("{over:?}: SEED={seed} CASES=1 differs\n{whole}shortened:\n{short}");
    }
}

/// Runs so many random scripts. Says which differ first, if any does.
fn random(bench: &Bench, over: Over, seed: u64, cases: u64, wordings: &mut Wordings) -> Option<Difference> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut done = 0;
    while done < cases {
        let group = done..cases.min(done + GROUP);
        done = group.end;
        let scripts: Vec<_> = group
            .clone()
            .map(|case| {
                let script = Writer::script(&bench.imports, seed.wrapping_add(case));
                // A reset reaches a host when it likes.
                Script { is_abandoned: script.is_abandoned && over == Over::Unix, ..script }
            })
            .collect();
        for ((script, outcomes), case) in scripts.iter().zip(bench.run(over, &scripts)).zip(group) {
            let seed = seed.wrapping_add(case);
            if !outcomes[0].is_like(&outcomes[1]) {
                return Some(Difference { over, seed, script: script.clone(), outcomes });
            }
            note(wordings, format!("SEED={seed}"), &outcomes);
            *reasons.entry(outcomes[0].reason.clone()).or_default() += 1;
        }
        if cases > GROUP {
            eprintln!("{done} cases over {over:?} are alike; reasons: {reasons:?}");
        }
    }
    None
}

fn cases(usual: u64) -> u64 {
    env::var("CASES").map_or(usual, |cases| cases.parse().expect("CASES is a number"))
}

#[test]
fn random_scripts_do_the_same() {
    let (bench, seed, mut wordings) = (Bench::new(WAYS), seed(), Wordings::new());
    let differs = random(&bench, Over::Unix, seed, cases(400), &mut wordings)
        .or_else(|| random(&bench, Over::Tcp, seed, cases(400).min(100), &mut wordings));
    print(&wordings);
    if let Some(differs) = differs {
        differs.fail(&bench);
    }
}

#[test]
fn random_scripts_with_few_resources_do_the_same() {
    let (mut bench, seed, mut wordings) = (Bench::new(WAYS), seed(), Wordings::new());
    bench.options = &["--guest-resources", "6"];
    let differs = random(&bench, Over::Unix, seed, cases(200), &mut wordings);
    print(&wordings);
    if let Some(differs) = differs {
        differs.fail(&bench);
    }
}

/// The tests above can fail: hosts that give a guest other arguments, or fewer resources, are found to differ.
#[test]
fn hosts_that_differ_are_found() {
    let ways: [&'static [&'static str]; 2] = [&["--guest-arg", "two"], &["--guest-resources", "6"]];
    for way in ways {
        let bench = Bench::new([&[], way]);
        let differs = random(&bench, Over::Unix, 1, 400, &mut Wordings::new());
        assert!(differs.is_some(), "{way:?} makes no difference");
    }
}

/// Otherwise the tests here would compare a host with itself.
#[test]
fn the_guest_goes_without_its_component_layer() {
    let bench = Bench::new(WAYS);
    let (code, out, err) = Setup::bare().argument("inspect").argument(&bench.plugin).run();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("its core module is served directly"), "{out}");
}
