//! Which modules the host serves, and how it compiles, caches, reloads and rejects them.

use super::{WRITE, module, parrot};
use crate::harness::{Host, Setup, Transport, directory, wait_for};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn entries(cache: &Path) -> Vec<PathBuf> {
    fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_module_serves() {
    let files = directory();
    let path = module(files.path(), &parrot("1"));
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, path.to_str().unwrap());
        assert_eq!(host.ask("bob\n"), b"bob\n");
        assert_eq!(host.ask(""), b"");
        host.logged(&["plugin loaded", "command of WASI 0.1 (wasi_snapshot_preview1)"]);
        host.logged(&["connection finished", "plugin=parrot"]);
    }
}

/// A program's memory is its own: the host puts nothing into it.
#[test]
fn a_module_needs_no_memory_but_its_own() {
    let files = directory();
    let path = module(files.path(), &parrot("1 1"));
    let host = Setup::serving_file(&path).option("--guest-memory", "64KiB").start();
    assert_eq!(host.ask("bob\n"), b"bob\n");
    let path = module(files.path(), &parrot("2"));
    let (code, _, err) = Setup::serving_file(&path).option("--guest-memory", "64KiB").run();
    assert!(code == 2 && err.contains("needs 131072 bytes of memory to start, --guest-memory gives 65536"), "{err}");
}

/// A program whose allocator takes memory by `memory.grow`, expects the new pages right after the
/// old ones, and owns all of it. The adapter that makes components of programs took pages of its
/// own in between, and wrote into the program's.
const HOARDER: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
    (global $end (mut i32) (i32.const 131072))
    (func (export "_start") (local $at i32) (local $top i32)
        (local.set $top (i32.const 1024))
        (loop $more
            (if (i32.ge_u (i32.add (local.get $top) (i32.const 8192)) (global.get $end))
                (then
                    (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (call $exit (i32.const 3))))
                    (global.set $end (i32.add (global.get $end) (i32.const 65536)))))
            (i32.store (i32.const 0) (local.get $top))
            (i32.store (i32.const 4) (i32.const 8192))
            (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 1))))
            (local.set $top (i32.add (local.get $top) (i32.load (i32.const 8))))
            (br_if $more (i32.load (i32.const 8))))
        (local.set $at (i32.const 1024))
        (loop $rest
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (i32.sub (local.get $top) (local.get $at)))
            (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 2))))
            (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
            (br_if $rest (i32.lt_u (local.get $at) (local.get $top))))))"#;

#[test]
fn a_program_that_owns_all_of_its_memory_keeps_its_content() {
    let files = directory();
    let path = module(files.path(), HOARDER);
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, path.to_str().unwrap());
        for length in [0, 1, 65_000, 129_400, 129_600, 130_000, 131_072, 200_000, 1_000_000, 7_654_321] {
            // The period fits no page, so that misplaced bytes show.
            let sent: Vec<u8> = (0..length).map(|byte: u32| (byte % 251) as u8).collect();
            let answer = host.ask(&sent);
            let differ = answer.iter().zip(&sent).filter(|(got, sent)| got != sent).count();
            assert_eq!((answer.len(), differ), (sent.len(), 0), "{length} bytes sent");
        }
        let log = host.whole_log();
        assert!(!log.contains("connection failed"), "{log}");
    }
}

/// Modules that the host cannot serve, and the error that each subcommand prints.
#[test]
fn a_module_that_cannot_be_served_is_rejected_in_one_line() {
    let files = directory();
    let memory = r#"(memory (export "memory") 1)"#;
    let start = r#"(func (export "_start"))"#;
    for (text, says) in [
        (
            format!(r#"(module (import "env" "log" (func)) {memory} {start})"#),
            "imports interfaces that this host does not have: env.log: build it without",
        ),
        (
            format!(r#"(module (import "wasi_unstable" "fd_write" (func)) {memory} {start})"#),
            "imports interfaces that this host does not have: wasi_unstable.fd_write:",
        ),
        (
            format!(r#"(module (import "wasi_snapshot_preview1" "sock_open" (func)) {memory} {start})"#),
            "imports interfaces that this host does not have: wasi_snapshot_preview1.sock_open: build it without",
        ),
        // An import whose type differs from WASI 0.1.
        (
            format!(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) {memory} {start})"#),
            "imports interfaces that this host does not have: wasi_snapshot_preview1.fd_write:",
        ),
        (
            format!(r#"(module (import "wasi_snapshot_preview1" "fd_write" (global i32)) {memory} {start})"#),
            "imports interfaces that this host does not have: wasi_snapshot_preview1.fd_write:",
        ),
        (format!("(module {WRITE} {start})"), "does not export its memory as \"memory\""),
        (format!(r#"(module {WRITE} (memory (export "mem") 1) {start})"#), "does not export its memory as \"memory\""),
        (
            format!(r#"(module {memory} (func (export "greet")))"#),
            "is a core WebAssembly module without _start, and so not a program; it exports memory, greet: build it for wasm32-wasip2",
        ),
        // An invalid function: it takes from an empty stack.
        (format!(r#"(module {WRITE} {memory} (func (export "_start") i32.add drop))"#), "type mismatch: expected"),
    ] {
        let path = module(files.path(), &text);
        for subcommand in ["check", "compile"] {
            let setup = Setup::bare().argument(subcommand).option("--cache-dir", files.path().join("cache"));
            let (code, out, err) = match subcommand {
                "check" => setup.option("--plugin", &path).option("--log-level", "error").run(),
                _ => setup.argument(&path).run(),
            };
            assert_eq!((code, out.as_str()), (2, ""), "{err}");
            assert!(err.lines().count() == 1 && err.contains(says), "{says}: {err}");
        }
        let (code, page, err) = Setup::bare().argument("inspect").argument(&path).option("--cache-dir", "none").run();
        assert_eq!((code, err.as_str()), (2, ""), "{page}");
        let served = page.lines().find(|line| line.trim_start().starts_with("served ")).unwrap();
        assert!(served.contains("no: it ") && served.contains(says), "{says}: {page}");
    }
    // A truncated module, at any length.
    let whole = fs::read(module(files.path(), &parrot("1"))).unwrap();
    let path = files.path().join("cut.wasm");
    for length in (0..whole.len()).step_by(16) {
        fs::write(&path, &whole[..length]).unwrap();
        let (code, _, err) = Setup::bare().argument("inspect").argument(&path).run();
        assert_eq!(code, 2, "{length}: {err}");
    }
}

#[test]
fn a_module_is_compiled_once_and_known_by_its_file() {
    let (files, cache) = (directory(), directory());
    let path = module(files.path(), &parrot("1"));
    let run = |words: &[&str]| {
        let setup = words.iter().fold(Setup::bare(), |setup, word| setup.argument(word));
        setup.argument(&path).option("--cache-dir", cache.path()).run()
    };
    let (code, out, err) = run(&["compile"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let entry = entries(cache.path()).remove(0);
    assert!(out.trim_end().ends_with(entry.to_str().unwrap()), "{out}");
    assert!(run(&["compile"]).1.contains("is already compiled"));

    let digest = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
    let digest = String::from_utf8(digest).unwrap().split(' ').next().unwrap().to_owned();
    let (code, page, err) = run(&["inspect"]);
    assert_eq!((code, err.as_str()), (0, ""), "{page}");
    for line in [
        "kind       command of WASI 0.1 (wasi_snapshot_preview1)",
        "served     yes",
        "engine     plain",
        &format!("sha256     {digest}"),
        &format!("compiled   {}", entry.display()),
        "wasi_snapshot_preview1  given",
    ] {
        assert!(page.lines().any(|printed| printed.trim() == line), "{line}\n{page}");
    }

    // A host finds the entry, with that digest.
    let host = Setup::bare()
        .option("--plugin", &path)
        .option("--plugin-sha256", &digest)
        .option("--cache-dir", cache.path())
        .option("--bind", "tcp://127.0.0.1:0")
        .option("--log-level", "debug")
        .start();
    assert_eq!(host.ask("bob\n"), b"bob\n");
    let log = host.whole_log();
    assert!(!log.contains("compiling"), "{log}");
    assert_eq!(entries(cache.path()), [entry]);

    // Another module is another entry.
    module(files.path(), &parrot("2"));
    assert!(run(&["compile"]).1.starts_with("compiled "));
    assert_eq!(entries(cache.path()).len(), 2);
}

#[test]
fn the_kind_option_must_match_the_module() {
    let files = directory();
    let path = module(files.path(), &parrot("1"));
    let host = Setup::serving_file(&path).option("--plugin-kind", "command-0.1").start();
    assert_eq!(host.ask("bob\n"), b"bob\n");
    let (code, _, err) = Setup::serving_file(&path).option("--plugin-kind", "command-0.2").run();
    assert!(code == 2 && err.contains("does not match --plugin-kind command-0.2 (command of WASI 0.2)"), "{err}");
}

/// A module that replaces another serves if the host can load it; otherwise the old one goes on.
#[test]
fn a_module_reload_succeeds_or_changes_nothing() {
    let files = directory();
    let path = module(files.path(), &parrot("1"));
    let host = Setup::serving_file(&path).start();
    let memory = r#"(memory (export "memory") 1)"#;
    module(files.path(), &format!(r#"(module {WRITE} {memory} (func (export "_start") i32.add drop))"#));
    host.signal(nix::sys::signal::Signal::SIGHUP);
    host.logged(&["ERROR", "does not compile", "type mismatch"]);
    assert_eq!(host.ask("bob\n"), b"bob\n");
    let silent = format!(r#"(module {memory} (func (export "_start")))"#);
    module(files.path(), &silent);
    host.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("the module that says nothing", || host.ask("bob\n").is_empty().then_some(()));
}

/// A component whose adapter does for a module what the host does: the memory that the adapter
/// takes may be the program's.
#[test]
fn a_component_whose_adapter_may_overwrite_it_causes_a_warning() {
    let component = |realloc: &str| {
        format!(
            r#"(component
                (core module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))) {realloc})
                (core module (import "env" "memory" (memory 0))
                    (func (export "fd_write") (param i32 i32 i32 i32) (result i32) unreachable))
                (core module $main (func (export "run") (result i32) (i32.const 0)))
                (core instance $main (instantiate $main))
                (func $run (result (result)) (canon lift (core func $main "run")))
                (instance $run (export "run" (func $run)))
                (export "wasi:cli/run@0.2.0" (instance $run)))"#
        )
    };
    let files = directory();
    let warning = "contains the WASI 0.1 adapter, and its program does not export cabi_realloc";
    let path = module(files.path(), &component(""));
    let host = Setup::serving_file(&path).start();
    assert_eq!(host.ask(""), b"");
    host.logged(&["WARN", "plugin may overwrite its memory", warning, "serve the core module itself", "plugin=parrot"]);
    let checked = Setup::bare().argument("check").option("--plugin", &path).option("--cache-dir", "none").run();
    assert!(checked.0 == 0 && checked.2.contains(warning), "{checked:?}");
    let (code, page, err) = Setup::bare().argument("inspect").argument(&path).run();
    assert_eq!((code, err.as_str()), (0, ""), "{page}");
    assert!(page.contains("  warning    the component contains the WASI 0.1 adapter"), "{page}");

    let path = module(
        files.path(),
        &component(r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#),
    );
    let (_, page, _) = Setup::bare().argument("inspect").argument(&path).run();
    assert!(page.contains("served     yes") && !page.contains("warning"), "{page}");
}
