//! The handlers of `examples/` in every other language, and the programs, where
//! `examples/build-all` has built them.

use crate::harness::{Host, read_to_end, root, wait_for};
use socket2::SockRef;
use std::{
    fs,
    io::Write,
    process::{Command, Output},
    time::Duration,
};

/// A test for each, so that they run in parallel: the large ones take a while to compile.
macro_rules! examples {
    ($names:ident, $greets:ident: $($test:ident: $name:literal,)*) => {
        const $names: &[&str] = &[$($name),*];

        $(#[test]
        fn $test() {
            $greets($name);
        })*
    };
}

examples! {
    HANDLERS, greets:
    c_0_2: "c-hello-0.2",
    c_0_3: "c-hello-0.3",
    cpp_0_2: "cpp-hello-0.2",
    go_0_2: "go-hello-0.2",
    javascript_0_2: "javascript-hello-0.2",
    javascript_0_2_starlingmonkey: "javascript-hello-0.2-starlingmonkey",
    javascript_0_3: "javascript-hello-0.3",
    python_0_2: "python-hello-0.2",
    python_0_3: "python-hello-0.3",
}

examples! {
    PROGRAMS, greets_as_a_program:
    assemblyscript_program: "assemblyscript-command",
    c_program: "c-command",
    go_program: "go-command",
    rust_program: "rust-command",
    rust_program_of_wasi_0_1: "rust-command-0.1",
    zig_program: "zig-command",
}

/// A host that serves an example, where that has been built.
fn serving(name: &str) -> Option<Host> {
    let path = format!("target/examples/{name}.wasm");
    if !root().join(&path).exists() {
        crate::harness::skip(format!("{path} was not built: examples/build-all says why"));
        return None;
    }
    Some(Host::serving(&path))
}

/// In pieces, from peers that do not close their side, after many connections.
fn greets_many_at_once(name: &str, host: &Host, others: usize) {
    let mut streams: Vec<_> = (0..16).map(|_| host.connect()).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(b"bo").unwrap());
    streams.iter_mut().for_each(|stream| stream.write_all(b"b\n").unwrap());
    streams
        .iter_mut()
        .for_each(|stream| assert_eq!(read_to_end(stream), b"Hello bob!\n", "{name}: without a half-close"));
    let all = others + streams.len();
    wait_for("a record of each connection", || (host.log().matches("connection f").count() >= all).then_some(()));
    assert!(!host.log().contains("connection failed"), "{name}");
}

/// Every handler keeps these promises, with the default options of a host.
fn greets(name: &str) {
    let Some(host) = serving(name) else { return };
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n", "{name}: a line");
    assert_eq!(host.ask("bob"), b"Hello bob!\n", "{name}: the end of input");
    assert_eq!(host.ask(""), b"Hello world!\n", "{name}: nothing");
    assert_eq!(host.ask(" \t\r\n"), b"Hello world!\n", "{name}: an empty line");
    assert_eq!(host.ask(" böb\r\nand more\n"), "Hello böb!\n".as_bytes(), "{name}: UTF-8");
    assert_eq!(host.ask(b"b\xffb\n"), b"Hello b\xffb!\n", "{name}: a line that is not UTF-8");

    // A line of 4097 bytes is cut, and its greeting takes more than one write: the streams of WASI
    // 0.2 end a guest that writes more than 4096 bytes at once.
    let mut greeting = b"Hello ".to_vec();
    greeting.extend([b'a'; 4096]);
    greeting.extend(b"!\n");
    assert_eq!(host.ask([b'a'; 4097]), greeting, "{name}: 4097 bytes");
    assert_eq!(host.ask(vec![b'a'; 1 << 20]), greeting, "{name}: a line without an end");

    greets_many_at_once(name, &host, 8);

    // A broken connection is not the end of a line, and causes no trap.
    let mut stream = host.connect();
    stream.write_all(b"bo").unwrap();
    SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    host.logged(&["connection failed", "reason=peer-reset"]);
}

/// Every program, which knows nothing of connections, keeps these promises.
fn greets_as_a_program(name: &str) {
    let Some(host) = serving(name) else { return };
    assert_eq!(host.ask("bob\n"), b"Hello bob!\n", "{name}: a line");
    assert_eq!(host.ask("bob"), b"Hello bob!\n", "{name}: the end of input");
    assert_eq!(host.ask(""), b"Hello world!\n", "{name}: nothing");
    assert_eq!(host.ask("\r\n"), b"Hello world!\n", "{name}: an empty line");
    assert_eq!(host.ask("böb\r\nand more\n"), "Hello böb!\n".as_bytes(), "{name}: UTF-8");

    greets_many_at_once(name, &host, 5);
    host.logged(&["plugin loaded", if name.ends_with("-0.1") { "command of WASI 0.1" } else { "command of WASI 0." }]);
}

#[test]
fn every_built_example_is_tested_and_every_folder_documented() {
    let page = fs::read_to_string(root().join("docs/plugins/languages.md")).unwrap();
    let folder = |name: &'static str| name.rsplit_once("-0.").map_or(name, |(folder, _)| folder);
    for folder in HANDLERS.iter().chain(PROGRAMS).map(|name| folder(name)) {
        assert!(root().join("examples").join(folder).join("build").exists(), "examples/{folder}/build is missing");
        assert!(page.contains(&format!("`examples/{folder}`")), "docs/plugins/languages.md does not mention {folder}");
    }
    let Ok(built) = fs::read_dir(root().join("target/examples")) else { return };
    for file in built.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        // HTTP handlers have tests of their own.
        if let Some(name) = file.strip_suffix(".wasm").filter(|name| !name.ends_with("-http")) {
            assert!(HANDLERS.contains(&name) || PROGRAMS.contains(&name), "{name} is not tested");
        }
    }
}

fn build_all(clang: &str) -> Output {
    Command::new(root().join("examples/build-all")).arg("c-hello").env("CLANG", clang).output().unwrap()
}

#[test]
fn a_missing_tool_is_skipped_and_a_failing_tool_fails() {
    let missing = build_all("no-such-compiler");
    let (said, why) = (String::from_utf8_lossy(&missing.stdout), String::from_utf8_lossy(&missing.stderr));
    assert!(missing.status.success() && said.contains("skipped"), "{said}{why}");
    assert!(why.contains("no-such-compiler") && why.contains("apt-get install -y clang"), "{why}");

    let failing = build_all("false");
    let said = String::from_utf8_lossy(&failing.stdout);
    if said.contains("skipped") {
        crate::harness::skip("this Rust toolchain lacks the linker for the C examples");
        return;
    }
    assert_eq!(failing.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED"), "{said}");
}
