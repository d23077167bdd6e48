//! Directed cases at the edges: dropped handles, the ends of streams, limits, faulty allocators, ends of the handler.

use super::{
    Bench, WAYS,
    directed::{Case, case, check, keep, usual},
    hosts::Over,
    imports::{self, Argument, Place},
    script::{
        CONNECTION, DATA, FAULT, FAULT_OF_POST_RETURN, FAULTS, FAULTS_OF_POST_RETURN, FILL, FREE, GROW, HANDLES, INPUT,
        LEAVE, OUTPUT, OVERFLOW, Operation, RETURN, STORE, Script, TRAP, Value,
    },
};

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
