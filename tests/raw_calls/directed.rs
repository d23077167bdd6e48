//! Directed cases: each import in its usual use, and with each argument wrong.

use super::{
    Bench, WAYS, Wordings,
    hosts::{Identities, Outcome, Over, secure_outcomes},
    imports::{self, Argument, Import, Place},
    note, print,
    script::{
        CONNECTION, DATA, ERROR, FAULT, FAULTS, FILL, FREE, HANDLES, INPUT, OUTPUT, Operation, RETURN, STORE, Script,
        Value,
    },
};

/// A script of a test, with its name and what the guest's end is to be.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) script: Script,
    pub(super) reason: &'static str,
}

/// Runs them on both hosts, and checks the reasons too: a guest that ends otherwise than its script means proves nothing.
pub(super) fn check(bench: &Bench, cases: &[Case]) {
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

pub(super) fn case(name: impl Into<String>, operations: &[Operation], reason: &'static str) -> Case {
    let script = Script { operations: operations.to_vec(), payload: b"0123456789".repeat(10), ..Script::default() };
    Case { name: name.into(), script, reason }
}

/// Keeps the handle that an operation gives.
pub(super) fn keep(register: u8, place: Place, operation: Operation) -> Operation {
    Operation { keeps: Some((register, place)), ..operation }
}

/// Where the usual arguments of an import's handles come from: the parameters of the handler, or operations that make them.
pub(super) fn usual(bench: &Bench, import: &Import) -> (Vec<Operation>, Vec<Value>) {
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
