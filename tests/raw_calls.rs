//! The two ways to serve a handler, by its component and by its core module alone, do the same: guests that call their imports
//! with arbitrary arguments see the same results, and their peers and the log see the same ends.
//!
//! `CASES=100000 cargo test --workspace --test black-box -- raw_calls::random` runs more, and `TRAPS=1` prints how the two
//! describe their traps.

mod guest;
mod hosts;
mod imports;
mod script;

use self::{
    guest::{code, component},
    hosts::{Identities, Outcome, Over, outcomes, secure_outcomes},
    imports::{Argument, Import, Place, imports},
    script::{
        CONNECTION, DATA, ERROR, FAULT, FAULT_OF_POST_RETURN, FAULTS, FAULTS_OF_POST_RETURN, FILL, FREE, GROW, HANDLES,
        INPUT, LEAVE, OUTPUT, OVERFLOW, Operation, RETURN, STORE, Script, TRAP, Value, Writer,
    },
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

/// A script of a test, with its name and what the guest's end is to be.
struct Case {
    name: String,
    script: Script,
    reason: &'static str,
}

/// Runs them on both hosts, and checks the reasons too: a guest that ends otherwise than its script means proves nothing.
fn check(bench: &Bench, cases: &[Case]) {
    let (mut wordings, mut differ) = (Wordings::new(), Vec::new());
    let scripts: Vec<_> = cases.iter().map(|case| case.script.clone()).collect();
    for (case, outcomes) in cases.iter().zip(bench.run(Over::Unix, &scripts)) {
        let described = || format!("{}:\n{}", case.name, bench.described(&case.script, &outcomes));
        if !outcomes[0].is_like(&outcomes[1]) {
            differ.push(described());
            continue;
        }
        assert_eq!(outcomes[0].reason, case.reason, "{}", described());
        note(&mut wordings, case.name.clone(), &outcomes);
    }
    print(&wordings);
    assert!(differ.is_empty(), "{} cases differ:\n{}", differ.len(), differ.join("\n"));
}

fn case(name: impl Into<String>, operations: &[Operation], reason: &'static str) -> Case {
    let script = Script { operations: operations.to_vec(), payload: b"0123456789".repeat(10), ..Script::default() };
    Case { name: name.into(), script, reason }
}

/// Keeps the handle that an operation gives.
fn keep(register: u8, place: Place, operation: Operation) -> Operation {
    Operation { keeps: Some((register, place)), ..operation }
}

/// Where the usual arguments of an import's handles come from: the parameters of the handler, or operations that make them.
fn usual(bench: &Bench, import: &Import) -> (Vec<Operation>, Vec<Value>) {
    use imports::Resource::{Connection, Error, Input, Output, Pollable, TerminalInput, TerminalOutput};
    let mut before = Vec::new();
    let mut arguments = Vec::new();
    for argument in &import.arguments {
        match argument {
            Argument::Handle(Connection) => arguments.push(Value::Register(CONNECTION)),
            Argument::Handle(Input) => arguments.push(Value::Register(INPUT)),
            Argument::Handle(Output) => arguments.push(Value::Register(OUTPUT)),
            Argument::Handle(Pollable) => {
                let made = bench.call("streams", "input-stream.subscribe", &[Value::Register(INPUT)]);
                before.push(keep(FREE, Place::Result, made));
                arguments.push(Value::Register(FREE));
            }
            // Of an entry whose peer is gone.
            Argument::Handle(Error) => arguments.push(Value::Register(ERROR)),
            // No stream of a guest is a terminal.
            Argument::Handle(TerminalInput | TerminalOutput) => arguments.push(Value::Is(1)),
            Argument::Length => arguments.push(Value::Is(10)),
            Argument::Bytes => {
                before.push(Operation::new(FILL, &[DATA.into(), 0x61.into(), 100.into()]));
                arguments.extend([Value::Is(DATA), Value::Is(100)]);
            }
            Argument::Pollables => {
                let made = bench.call("streams", "input-stream.subscribe", &[Value::Register(INPUT)]);
                before.push(keep(FREE, Place::Result, made));
                before.push(Operation::new(STORE, &[HANDLES.into(), Value::Register(FREE)]));
                arguments.extend([Value::Is(HANDLES), Value::Is(1)]);
            }
            Argument::Time => arguments.push(Value::Is(0)),
            Argument::Status => arguments.push(Value::Is(0)),
            Argument::Return => arguments.push(Value::Is(RETURN)),
        }
    }
    if import.name.ends_with("output-stream.write") {
        before.push(bench.call("streams", ".check-write", &[Value::Register(OUTPUT), RETURN.into()]));
    }
    (before, arguments)
}

#[test]
fn each_import_does_the_same_in_its_usual_use() {
    let bench = Bench::new(WAYS);
    let mut cases = Vec::new();
    for (code, import) in bench.imports.iter().enumerate() {
        let (mut operations, arguments) = usual(&bench, import);
        let call = Operation::new(u8::try_from(code).unwrap(), &arguments);
        // Twice, since the first call may be the one that makes something.
        operations.push(call);
        if !import.name.starts_with("[resource-drop]") && !import.name.ends_with("output-stream.write") {
            operations.push(call);
        }
        let takes = |resource| import.arguments.contains(&Argument::Handle(resource));
        let mut case = case(format!("{} {}", import.interface, import.name), &operations, "");
        if takes(imports::Resource::Error) {
            case.script.is_abandoned = true;
            // The first entry fails.
            case.script.operations.insert(0, Operation::new(STORE, &[DATA.into(), 0.into()]));
            case.script.ends_with_digest = true;
            case.reason = "peer-reset";
        } else if takes(imports::Resource::TerminalInput) || takes(imports::Resource::TerminalOutput) {
            case.reason = "trap";
        } else if import.name == "[resource-drop]output-stream" {
            // The guest ends with the digest that it can no longer send.
            case.reason = "error";
        }
        cases.push(case);
    }
    check(&bench, &cases);
}

#[test]
fn facts_about_tls_are_the_same() {
    let bench = Bench::new(WAYS);
    let facts = bench.imports.iter().filter(|import| import.name.starts_with("[method]connection."));
    let mut scripts = Vec::new();
    for import in facts {
        let (before, arguments) = usual(&bench, import);
        let call = bench.call(import.interface, import.name, &arguments);
        for fault in 0..=FAULTS {
            let mut operations = before.clone();
            operations.extend([Operation::new(FAULT, &[fault.into()]), call, call]);
            scripts.push(Script { operations, ..Script::default() });
        }
    }
    let identities = Identities::new();
    let [first, second] = bench.ways.map(|way| secure_outcomes(&bench.plugin, way, &identities, &scripts));
    for fact in ["acme/1", "TLSv1.3", "localhost"] {
        let shown = |outcome: &Outcome| outcome.bytes.windows(fact.len()).any(|bytes| bytes == fact.as_bytes());
        assert!(first.iter().any(shown), "no guest sees {fact}");
    }
    for (script, outcomes) in scripts.iter().zip(first.into_iter().zip(second)) {
        let outcomes: [Outcome; 2] = outcomes.into();
        assert!(outcomes[0].is_like(&outcomes[1]), "{}", bench.described(script, &outcomes));
        if script.operations[0].arguments[0] == Value::Is(0) {
            assert_eq!(outcomes[0].reason, "", "{}", bench.described(script, &outcomes));
        }
    }
}

#[test]
fn each_wrong_argument_traps_the_same() {
    let bench = Bench::new(WAYS);
    let mut cases = Vec::new();
    for (code, import) in bench.imports.iter().enumerate() {
        let code = u8::try_from(code).unwrap();
        let (before, arguments) = usual(&bench, import);
        let types: Vec<_> =
            import.arguments.iter().flat_map(|argument| argument.types().iter().map(move |_| *argument)).collect();
        let wrong = |cases: &mut Vec<Case>, name: String, index: usize, value: Value| {
            let mut arguments = arguments.clone();
            arguments[index] = value;
            let mut operations = before.clone();
            operations.push(Operation::new(code, &arguments));
            cases.push(case(format!("{} {}: {name}", import.interface, import.name), &operations, "trap"));
        };
        for (index, argument) in types.iter().enumerate() {
            match argument {
                Argument::Handle(resource) => {
                    for unknown in [0, 100, 0x0fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
                        wrong(&mut cases, format!("unknown handle {unknown:#x} ({index})"), index, unknown.into());
                    }
                    let other = if *resource == imports::Resource::Connection { INPUT } else { CONNECTION };
                    wrong(&mut cases, format!("handle of another type ({index})"), index, Value::Register(other));
                    if import.name.ends_with("splice") {
                        // Nothing is to be moved, and the source need not be looked at.
                        let arguments = if index == 0 {
                            [Value::Register(INPUT), Value::Register(INPUT), 0.into(), RETURN.into()]
                        } else {
                            [Value::Register(OUTPUT), Value::Register(OUTPUT), 0.into(), RETURN.into()]
                        };
                        let call = Operation::new(code, &arguments);
                        cases.push(case(format!("{}: nothing, wrong stream ({index})", import.name), &[call], "trap"));
                    }
                }
                Argument::Return => {
                    for at in
                        [Value::End(0), Value::End(-1), Value::End(8), Value::Is(RETURN + 1), Value::Is(0xffff_fff8)]
                    {
                        wrong(&mut cases, format!("return area at {at:?}"), index, at);
                    }
                }
                Argument::Status => wrong(&mut cases, "status 2".to_owned(), index, Value::Is(2)),
                Argument::Bytes | Argument::Pollables
                    if index + 1 < types.len() && types.get(index + 1) == Some(argument) =>
                {
                    for at in [Value::End(0), Value::End(-1), Value::Is(0xffff_ffff)] {
                        wrong(&mut cases, format!("list at {at:?}"), index, at);
                    }
                    for length in [1 << 20, 0x7fff_ffff, 0xffff_ffff] {
                        wrong(&mut cases, format!("list of {length:#x}"), index + 1, Value::Is(length));
                    }
                    if *argument == Argument::Pollables {
                        wrong(&mut cases, "unaligned list".to_owned(), index, Value::Is(HANDLES + 1));
                        wrong(&mut cases, "empty list".to_owned(), index + 1, Value::Is(0));
                        wrong(&mut cases, "list with an unknown handle".to_owned(), index + 1, Value::Is(2));
                    }
                }
                _ => {}
            }
        }
    }
    // A status that is not one: some engines take any number but 0 for a failure.
    cases.retain(|case| !case.name.contains("status 2"));
    check(&bench, &cases);
}

#[test]
fn handles_that_were_dropped_and_streams_with_pollables_trap_the_same() {
    let bench = Bench::new(WAYS);
    let mut cases = Vec::new();
    let register = Value::Register;
    for (interface, drops, handle) in [
        ("streams", "drop]input-stream", INPUT),
        ("streams", "drop]output-stream", OUTPUT),
        ("types", "drop]connection", CONNECTION),
        ("poll", "drop]pollable", FREE),
    ] {
        let made = keep(FREE, Place::Result, bench.call("drain", "subscribe", &[]));
        let dropped = bench.call(interface, drops, &[register(handle)]);
        cases.push(case(format!("{drops} twice"), &[made, dropped, dropped], "trap"));
        for import in bench.imports.iter().filter(|import| !import.name.starts_with("[resource-drop]")) {
            let (before, arguments) = usual(&bench, import);
            if before.is_empty() && arguments.first() == Some(&register(handle)) {
                let call = bench.call(import.interface, import.name, &arguments);
                cases.push(case(format!("{} after {drops}", import.name), &[made, dropped, call], "trap"));
            }
        }
    }
    for (stream, subscribes, drops) in [
        (INPUT, "input-stream.subscribe", "drop]input-stream"),
        (OUTPUT, "output-stream.subscribe", "drop]output-stream"),
    ] {
        let subscribed = keep(FREE, Place::Result, bench.call("streams", subscribes, &[register(stream)]));
        let dropped = bench.call("streams", drops, &[register(stream)]);
        cases.push(case(format!("{drops} with a pollable"), &[subscribed, dropped], "trap"));
        let drops_pollable = bench.call("poll", "drop]pollable", &[register(FREE)]);
        let reason = if stream == OUTPUT { "error" } else { "" };
        cases.push(case(format!("{drops} after its pollable"), &[subscribed, drops_pollable, dropped], reason));
    }
    // A handle's number is used again.
    let made = keep(FREE, Place::Result, bench.call("drain", "subscribe", &[]));
    let dropped = bench.call("poll", "drop]pollable", &[register(FREE)]);
    let other = keep(FREE + 1, Place::Result, bench.call("stdout", "get-stdout", &[]));
    let flushed = bench.call("streams", "output-stream.blocking-flush", &[register(FREE), RETURN.into()]);
    cases.push(case("a number that is used again", &[made, dropped, other, flushed], ""));
    // A pollable twice in a list; a timer that is not due, beside one that is.
    let poll = |count: i64| bench.call("poll", "poll", &[HANDLES.into(), count.into(), RETURN.into()]);
    let put = |index: i64, handle: u8| Operation::new(STORE, &[(HANDLES + 4 * index).into(), register(handle)]);
    let timer = |register, time: i64| {
        keep(register, Place::Result, bench.call("monotonic-clock", "subscribe-duration", &[time.into()]))
    };
    cases.push(case("a pollable twice", &[timer(FREE, 0), put(0, FREE), put(1, FREE), poll(2), poll(2)], ""));
    cases.push(case(
        "a timer that is not due",
        &[timer(FREE, -1), timer(FREE + 1, 0), put(0, FREE), put(1, FREE + 1), poll(2)],
        "",
    ));
    let block = bench.call("poll", "pollable.block", &[register(FREE)]);
    let ready = bench.call("poll", "pollable.ready", &[register(FREE)]);
    cases.push(case("a timer", &[timer(FREE, 1_000_000), block, ready], ""));
    check(&bench, &cases);
}

#[test]
fn reads_to_the_end_and_beyond_do_the_same() {
    let bench = Bench::new(WAYS);
    let read =
        |name: &str, length: i64| bench.call("streams", name, &[Value::Register(INPUT), length.into(), RETURN.into()]);
    let mut cases = Vec::new();
    for name in ["stream.read", "stream.blocking-read", "stream.skip", "stream.blocking-skip"] {
        for length in [0, 1, 99, 100, 101, 65536, 65537, 0xffff_ffff, i64::MAX, -1] {
            let call = read(name, length);
            cases.push(case(format!("{name} of {length:#x}"), &[call, call, call], ""));
        }
    }
    let output = |name: &str, length: i64| {
        bench.call("streams", name, &[Value::Register(OUTPUT), Value::Register(INPUT), length.into(), RETURN.into()])
    };
    for name in [".splice", ".blocking-splice"] {
        for length in [0, 1, 100, 101, 65537, 0xffff_ffff, i64::MAX, -1] {
            let call = output(name, length);
            cases.push(case(format!("{name} of {length:#x}"), &[call, call, call], ""));
        }
    }
    check(&bench, &cases);
}

#[test]
fn writes_at_their_limits_do_the_same() {
    let bench = Bench::new(WAYS);
    let out = Value::Register(OUTPUT);
    let permit = bench.call("streams", ".check-write", &[out, RETURN.into()]);
    let mut cases = Vec::new();
    for length in [0, 1, 4095, 4096, 4097, 16383, 16384, 16385, 65535, 65536, 65537, 0x1_0001] {
        let filled = Operation::new(FILL, &[DATA.into(), 0x61.into(), 65537.into()]);
        let reason = |most: i64| if length > most { "trap" } else { "" };
        let list = |name: &str| bench.call("streams", name, &[out, DATA.into(), length.into(), RETURN.into()]);
        let zeroes = |name: &str| bench.call("streams", name, &[out, length.into(), RETURN.into()]);
        let whole = 64 << 10;
        cases.push(case(format!("write of {length}"), &[filled, permit, list(".write")], reason(whole)));
        cases.push(case(format!("write of {length} without permit"), &[filled, list(".write")], reason(whole)));
        cases.push(case(
            format!("blocking write of {length}"),
            &[filled, list(".blocking-write-and-flush")],
            reason(4096),
        ));
        cases.push(case(format!("{length} zeroes"), &[filled, zeroes(".write-zeroes")], reason(whole)));
        cases.push(case(
            format!("{length} zeroes at once"),
            &[zeroes(".blocking-write-zeroes-and-flush")],
            reason(4096),
        ));
        let other = keep(FREE, Place::Result, bench.call("stderr", "get-stderr", &[]));
        let to_log =
            bench.call("streams", ".write", &[Value::Register(FREE), DATA.into(), length.into(), RETURN.into()]);
        let letters = Operation::new(FILL, &[DATA.into(), 0x0a.into(), 1.into()]);
        cases.push(case(format!("{length} bytes to the log"), &[filled, letters, other, to_log], ""));
    }
    // The engine has its own limit for what does not go to the peer.
    cases.retain(|case| !case.name.ends_with("bytes to the log") || !case.name.contains("6553"));
    check(&bench, &cases);
}

#[test]
fn faults_of_cabi_realloc_trap_the_same() {
    let bench = Bench::new(WAYS);
    let mut cases = Vec::new();
    for import in &bench.imports {
        let allocates =
            import.list.is_some() || matches!(import.differs, imports::Differs::Bytes | imports::Differs::String);
        if !allocates || import.arguments.contains(&Argument::Handle(imports::Resource::Error)) {
            continue;
        }
        for fault in 1..=FAULTS {
            let (mut operations, arguments) = usual(&bench, import);
            operations.push(Operation::new(FAULT, &[fault.into()]));
            operations.push(bench.call(import.interface, import.name, &arguments));
            let name = format!("{} {} with fault {fault}", import.interface, import.name);
            // What is not given calls no `cabi_realloc`.
            let nothing = import.name.contains("tls-") || import.name == "initial-cwd";
            let leaves = matches!(fault, 3 | 4 | 5 | 10);
            let reason = if leaves && !nothing { "trap" } else { "?" };
            cases.push(case(name, &operations, reason));
        }
    }
    check_where_known(&bench, cases);
}

/// As [`check`], where a reason of `?` says nothing.
fn check_where_known(bench: &Bench, mut cases: Vec<Case>) {
    let scripts: Vec<_> = cases.iter().map(|case| case.script.clone()).collect();
    for (case, [first, _]) in cases.iter_mut().zip(bench.run(Over::Unix, &scripts)) {
        if case.reason == "?" {
            case.reason = if first.reason == "trap" { "trap" } else { "" };
        }
    }
    check(bench, &cases);
}

#[test]
fn ends_of_the_handler_are_the_same() {
    let bench = Bench::new(WAYS);
    let result = |discriminant: i64, text: Value, length: i64| {
        [
            Operation::new(FILL, &[DATA.into(), 0x61.into(), 5000.into()]),
            Operation::new(STORE, &[HANDLES.into(), discriminant.into()]),
            Operation::new(STORE, &[(HANDLES + 4).into(), text]),
            Operation::new(STORE, &[(HANDLES + 8).into(), length.into()]),
            Operation::new(LEAVE, &[HANDLES.into()]),
        ]
    };
    let data = Value::Is(DATA);
    let mut cases = vec![
        case("ok", &result(0, data, 5), ""),
        case("ok with a wild string", &result(0, Value::End(8), -1), ""),
        case("an error", &result(1, data, 5), "error"),
        case("an empty error", &result(1, data, 0), "error"),
        case("an empty error out of memory", &result(1, Value::End(0), 0), "error"),
        case("an empty error further out", &result(1, Value::End(1), 0), "trap"),
        case("a long error", &result(1, data, 5000), "error"),
        case("an error to the end of memory", &result(1, Value::End(-4), 4), "error"),
        case("an error beyond memory", &result(1, Value::End(-4), 5), "trap"),
        case("a huge error", &result(1, data, 0xffff_ffff), "trap"),
        case("another discriminant", &result(2, data, 5), "trap"),
        case("a discriminant of a byte", &result(0x100, data, 5), ""),
        case("no memory", &[Operation::new(LEAVE, &[Value::End(0)])], "trap"),
        case("a result over the end", &[Operation::new(LEAVE, &[Value::End(-8)])], "trap"),
        case("an unaligned result", &[Operation::new(LEAVE, &[(DATA + 1).into()])], "trap"),
        case("a result at -4", &[Operation::new(LEAVE, &[0xffff_fffc.into()])], "trap"),
        case("a trap", &[Operation::new(TRAP, &[])], "trap"),
        case("an overflow", &[Operation::new(OVERFLOW, &[])], "trap"),
        case(
            "more memory",
            &[Operation::new(GROW, &[1.into()]), Operation::new(STORE, &[Value::End(-4), 1.into()])],
            "",
        ),
        case("too much memory", &[Operation::new(GROW, &[1000.into()])], ""),
        case("exit with success", &[bench.call("exit", "exit", &[0.into()])], ""),
        case("exit with failure", &[bench.call("exit", "exit", &[1.into()])], "error"),
        case("exit with neither", &[bench.call("exit", "exit", &[2.into()])], "?"),
        case("exit with many", &[bench.call("exit", "exit", &[0x1_0000_0000.into()])], ""),
    ];
    let mut invalid = result(1, data, 5);
    invalid[0].arguments[1] = 0x80.into();
    cases.push(case("an error that is not UTF-8", &invalid, "trap"));
    for fault in 1..=FAULTS_OF_POST_RETURN {
        let fails = Operation::new(FAULT_OF_POST_RETURN, &[fault.into()]);
        cases.push(case(format!("post-return with fault {fault}"), &[fails], "trap"));
        let mut after_error = vec![fails];
        after_error.extend(result(1, data, 5));
        cases.push(case(format!("an error and post-return with fault {fault}"), &after_error, "trap"));
    }
    for script in [false, true].map(|is_abandoned| Script { is_abandoned, ..Script::default() }) {
        for (ends_with_digest, is_silent) in [(false, false), (true, false), (true, true)] {
            let name = format!("abandoned={} digest={ends_with_digest} silent={is_silent}", script.is_abandoned);
            let script = Script { ends_with_digest, is_silent, ..script.clone() };
            cases.push(Case { name, script, reason: "?" });
        }
    }
    for case in &mut cases {
        if case.reason == "?" && case.name.starts_with("abandoned") {
            case.reason = if case.script.ends_with_digest { "error" } else { "" };
        }
    }
    check_where_known(&bench, cases);
}
