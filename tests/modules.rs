//! Programs that are core modules of WASI 0.1, as C, Go, Zig and many other languages make them: the host serves them as they are.
//! What each function does, the programs in `programs/wasi-0.1` show, which `conformance` runs.

use crate::harness::{Host, Setup, Transport, directory, read_to_end, root, wait_for};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const READ: &str = r#"(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))"#;
const WRITE: &str =
    r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

/// What all those languages come to, in a few lines: a module that reads once, and writes what it has read.
pub fn parrot(memory: &str) -> String {
    format!(
        r#"(module {READ} {WRITE} {EXIT}
            (memory (export "memory") {memory})
            (data (i32.const 0) "\10\00\00\00\00\10\00\00")
            (func (export "_start")
                (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
                    (then (call $exit (i32.const 1))))
                (i32.store (i32.const 4) (i32.load (i32.const 8)))
                (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
                    (then (call $exit (i32.const 1))))))"#
    )
}

pub fn module(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("parrot.wasm");
    fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// `tests/programs/module.c`, built with these flags; nothing where there is no compiler for it.
fn program(directory: &Path, flags: &[&str]) -> Option<PathBuf> {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(sysroot) = said("rustc", &["--print", "sysroot"]).filter(|_| said("clang-22", &["--version"]).is_some())
    else {
        crate::harness::skip("clang-22 or rustc is not installed");
        return None;
    };
    let version = said("rustc", &["-vV"]).unwrap();
    let machine = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // The plain linker, which leaves a module as it is.
    let linker = Path::new(sysroot.trim()).join(format!("lib/rustlib/{machine}/bin/gcc-ld/wasm-ld"));
    if !linker.exists() || !Path::new("/usr/lib/wasm32-wasi/libc.a").exists() {
        crate::harness::skip("this toolchain lacks wasm-ld, or wasi-libc is not installed");
        return None;
    }
    let path = directory.join("program.wasm");
    let output = Command::new("clang-22")
        .args(["--target=wasm32-wasi", "-Wno-deprecated", "-Os", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-fuse-ld={}", linker.display()))
        .args(flags)
        .arg(root().join("tests/programs/module.c"))
        .arg("-o")
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(path)
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

/// A program's memory is its own: nothing of the host's is in it.
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

/// A program whose allocator takes memory by `memory.grow`, expects the new pages behind the old ones, and owns all of it. What made
/// components of programs took pages of its own in between, and wrote into them.
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
fn a_program_that_owns_all_of_its_memory_gets_back_what_it_put_there() {
    let files = directory();
    let path = module(files.path(), HOARDER);
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, path.to_str().unwrap());
        for length in [0, 1, 65_000, 129_400, 129_600, 130_000, 131_072, 200_000, 1_000_000, 7_654_321] {
            // Of a period that no page has, so that what stands in the wrong place is seen.
            let sent: Vec<u8> = (0..length).map(|byte: u32| (byte % 251) as u8).collect();
            let answer = host.ask(&sent);
            let differ = answer.iter().zip(&sent).filter(|(got, sent)| got != sent).count();
            assert_eq!((answer.len(), differ), (sent.len(), 0), "{length} bytes sent");
        }
        let log = host.whole_log();
        assert!(!log.contains("connection failed"), "{log}");
    }
}

#[test]
fn a_program_in_c_is_told_and_granted_what_any_other_is() {
    let files = directory();
    let Some(path) = program(files.path(), &[]) else { return };
    fs::create_dir(files.path().join("data")).unwrap();
    fs::write(files.path().join("data/file"), "content\n").unwrap();
    for transport in Transport::ALL {
        let host = Setup::serving_over(transport, path.to_str().unwrap())
            .option("--guest-env", "GREETING=hi")
            .option("--guest-arg", "--quiet")
            .option("--guest-dir", format!("{}::/data", files.path().join("data").display()))
            .start();
        let told = String::from_utf8(host.ask("variables\n")).unwrap();
        let proto = match transport {
            Transport::Tcp => "PROTO=TCP",
            Transport::Unix => "PROTO=UNIX",
            Transport::Tls => "PROTO=SSL",
        };
        assert!(told.lines().any(|line| line == proto) && told.contains("GREETING=hi\n"), "{told}");
        assert_eq!(told.contains("TCPREMOTEIP=127.0.0.1\n"), transport != Transport::Unix, "{told}");
        assert_eq!(host.ask("arguments\n"), b"program\n--quiet\n");
        assert_eq!(host.ask("read /data/file\n"), b"content\n");
        assert_eq!(host.ask("read /etc/passwd\n"), b"");
        host.logged(&["guest: fopen: ", "stream=\"stderr\""]);
        // More than any buffer holds, both ways.
        assert_eq!(host.ask([b"count\n".as_slice(), &vec![b'x'; 1 << 20]].concat()), b"1048576\n");
        assert_eq!(host.ask("fill 1000000\n").len(), 1_000_000);
    }
}

#[test]
fn how_a_program_in_c_ends_is_in_the_log() {
    let files = directory();
    let Some(path) = program(files.path(), &["-g"]) else { return };
    let source = fs::read_to_string(root().join("tests/programs/module.c")).unwrap();
    let line = 1 + source.lines().position(|line| line.contains("__builtin_trap")).unwrap();
    let host = Setup::serving_file(&path).option("--guest-memory", "4MiB").start();
    assert_eq!(host.ask("leave 0\n"), b"leaving\n");
    assert_eq!(host.ask("log a word\n"), b"said\n");
    host.logged(&["guest: a word", "plugin=program", "stream=\"stderr\""]);
    let log = host.settled_log();
    assert!(!log.contains("connection failed"), "{log}");
    assert_eq!(host.ask("leave 3\n"), b"leaving\n");
    host.logged(&["WARN", "connection failed", "reason=error", "the guest exited with status 3"]);
    assert_eq!(host.ask("boom\n"), b"");
    host.logged(&["WARN", "connection failed", "reason=trap", &format!(", in boom (module.c:{line}) < ")]);
    assert_eq!(host.ask("take 1000000\n"), b"taken\n");
    assert_eq!(host.ask("take 5000000\n"), b"refused\n");
}

#[test]
fn a_reset_is_no_end_for_a_program_in_c() {
    let files = directory();
    let Some(path) = program(files.path(), &[]) else { return };
    let host = Setup::serving_file(&path).start();
    let mut stream = host.connect();
    stream.write_all(b"a line that has no").unwrap();
    socket2::SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    host.logged(&["connection failed", "reason=peer-reset"]);
}

#[test]
fn where_a_program_without_lines_was_is_in_the_log_by_its_functions() {
    let files = directory();
    let Some(path) = program(files.path(), &[]) else { return };
    let host = Setup::serving_file(&path).start();
    assert_eq!(host.ask("boom\n"), b"");
    host.logged(&["connection failed", "reason=trap", ", in boom < "]);
}

/// What is no program of WASI 0.1 that could be served, and what is said of it by everything that looks at a plugin.
#[test]
fn what_cannot_be_served_is_refused_in_one_line() {
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
        // One of another type than WASI 0.1 gives it.
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
        // One that only looks whole: its function takes from an empty stack.
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
    // One that is cut, wherever that is.
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

    // Found by a host, with that digest.
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
fn the_kind_of_a_module_is_its_own() {
    let files = directory();
    let path = module(files.path(), &parrot("1"));
    let host = Setup::serving_file(&path).option("--plugin-kind", "command-0.1").start();
    assert_eq!(host.ask("bob\n"), b"bob\n");
    let (code, _, err) = Setup::serving_file(&path).option("--plugin-kind", "command-0.2").run();
    assert!(code == 2 && err.contains("does not match --plugin-kind command-0.2 (command of WASI 0.2)"), "{err}");
}

/// A module that was put in the place of another harms nobody where it cannot be served, and serves where it can.
#[test]
fn a_module_is_reloaded_whole_or_not_at_all() {
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

/// A module that calls `fd_write` with what it has at 64, and does what follows.
fn speaker(says: &str, then: &str) -> String {
    format!(
        r#"(module {READ} {WRITE} {EXIT}
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (data (i32.const 0) "\40\00\00\00\{:02x}\00\00\00")
            (data (i32.const 64) "{says}")
            (func $say (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 1)))))
            (func (export "_start") {then}))"#,
        says.len()
    )
}

#[test]
fn a_module_that_speaks_first_or_waits_for_a_time_starts_at_accept() {
    let files = directory();
    // A timer of 1 ms on the monotonic clock.
    let timer = "(i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 1000000))
        (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 16)))";
    for then in ["(call $say)".to_owned(), format!("{timer} (call $say)")] {
        let path = module(files.path(), &speaker("ready", &then));
        for transport in Transport::ALL {
            let host = Host::serving_over(transport, path.to_str().unwrap());
            for _ in 0..3 {
                let mut stream = host.connect();
                assert_eq!(read_to_end(&mut stream), b"ready", "{then}");
            }
        }
    }
}

#[test]
fn a_module_that_polls_its_input_sees_it_and_its_end() {
    let files = directory();
    // A subscription to reading descriptor 0, twice: for a byte, and for the end.
    let wait = "(i32.store8 (i32.const 1032) (i32.const 1))
        (if (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 16)) (then (call $exit (i32.const 2))))
        (if (i32.load16_u (i32.const 2056)) (then (call $exit (i32.const 3))))
        (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 4))))";
    let path = module(
        files.path(),
        &speaker(
            "heard",
            &format!(
                "{wait} (if (i32.ne (i32.load (i32.const 8)) (i32.const 5)) (then (call $exit (i32.const 5))))
                (call $say) {wait} (if (i32.load (i32.const 8)) (then (call $exit (i32.const 6)))) (call $say)"
            ),
        ),
    );
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, path.to_str().unwrap());
        for _ in 0..2 {
            let mut stream = host.connect();
            stream.write_all(b"input").unwrap();
            let mut heard = [0; 5];
            std::io::Read::read_exact(&mut stream, &mut heard).unwrap();
            assert_eq!(&heard, b"input", "what was read is what it says next");
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut stream), b"input");
        }
        let log = host.whole_log();
        assert!(!log.contains("connection failed"), "{log}");
    }
}

/// A peer that takes nothing holds the program up, and no more than a buffer of what it writes is kept.
#[test]
fn a_module_that_writes_without_end_is_held_back() {
    let files = directory();
    let flood = "(i32.store (i32.const 4) (i32.const 131000)) (loop $again (call $say) (br $again))";
    let path = module(files.path(), &speaker("x", flood));
    for transport in Transport::ALL {
        let host = Setup::serving_over(transport, path.to_str().unwrap()).option("--idle-timeout", "1s").start();
        let mut takes = host.connect();
        let mut taken = vec![0; 20 << 20];
        std::io::Read::read_exact(&mut takes, &mut taken).unwrap();
        let before = host.status_kib("VmRSS");
        let silent: Vec<_> = (0..8).map(|_| host.connect()).collect();
        wait_for("their end", || (host.log().matches("reason=idle").count() >= silent.len()).then_some(()));
        assert!(host.status_kib("VmRSS") < before + 16 * 1024, "{} KiB after {before}", host.status_kib("VmRSS"));
        drop(takes);
    }
}

/// Every call that changes something, in a directory that was granted for reading: not permitted, as it is for components.
#[test]
fn a_directory_to_read_is_for_reading_by_modules_too() {
    const I: &str = "(i32.const 0)";
    let name = "(i32.const 3) (i32.const 64) (i32.const 4)";
    let other = "(i32.const 3) (i32.const 80) (i32.const 5)";
    let open = |flags: u32, rights: u64| {
        format!(
            "(call $path_open (i32.const 3) {I} (i32.const 64) (i32.const 4) (i32.const {flags}) (i64.const {rights}) (i64.const 0) {I} (i32.const 16))"
        )
    };
    let calls = [
        open(1, 2),
        open(8, 2),
        open(0, 64),
        open(0, 1 << 22),
        format!("(call $path_create_directory {other})"),
        format!("(call $path_remove_directory {name})"),
        format!("(call $path_unlink_file {name})"),
        format!("(call $path_rename {name} {other})"),
        format!("(call $path_link (i32.const 3) {I} (i32.const 64) (i32.const 4) {other})"),
        format!("(call $path_symlink (i32.const 64) (i32.const 4) {other})"),
        format!(
            "(call $path_filestat_set_times (i32.const 3) {I} (i32.const 64) (i32.const 4) (i64.const 0) (i64.const 0) (i32.const 10))"
        ),
        "(call $fd_filestat_set_times (i32.const 3) (i64.const 0) (i64.const 0) (i32.const 10))".to_owned(),
    ];
    let steps: String = calls
        .iter()
        .enumerate()
        .map(|(step, call)| format!("(if (i32.ne {call} (i32.const 63)) (then (call $exit (i32.const {}))))", step + 1))
        .collect();
    let text = format!(
        r#"(module {EXIT}
            (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_remove_directory" (func $path_remove_directory (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_filestat_set_times"
                (func $path_filestat_set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_filestat_set_times"
                (func $fd_filestat_set_times (param i32 i64 i64 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 64) "file") (data (i32.const 80) "other")
            (func (export "_start") {steps} (if {} (then (call $exit (i32.const 99))))))"#,
        open(0, 2)
    );
    let files = directory();
    let path = module(files.path(), &text);
    fs::create_dir(files.path().join("granted")).unwrap();
    fs::write(files.path().join("granted/file"), "content").unwrap();
    let grant = |more: &str| format!("{}::/{more}", files.path().join("granted").display());
    let host = Setup::serving_file(&path).option("--guest-dir", grant("")).start();
    assert_eq!(host.ask(""), b"");
    let record = host.logged(&["connection f"]);
    assert!(record.contains("connection finished"), "the status is the step: {record}");
    assert_eq!(fs::read(files.path().join("granted/file")).unwrap(), b"content");
    assert_eq!(fs::read_dir(files.path().join("granted")).unwrap().count(), 1);
    // It is the grant that forbids it.
    let host = Setup::serving_file(&path).option("--guest-dir", grant(":rw")).start();
    assert_eq!(host.ask(""), b"");
    host.logged(&["connection failed", "the guest exited with status 1"]);
}

/// All functions of WASI 0.1 that take arguments, by these, but for `proc_exit`, which ends a program, and `poll_oneoff`, which waits as
/// long as it is asked to.
const FUNCTIONS: &str = "args_get ii args_sizes_get ii clock_res_get ii clock_time_get iIi environ_get ii environ_sizes_get ii \
    fd_advise iIIi fd_allocate iII fd_close i fd_datasync i fd_fdstat_get ii fd_fdstat_set_flags ii fd_fdstat_set_rights iII \
    fd_filestat_get ii fd_filestat_set_size iI fd_filestat_set_times iIIi fd_pread iiiIi fd_prestat_dir_name iii fd_prestat_get ii \
    fd_pwrite iiiIi fd_read iiii fd_readdir iiiIi fd_renumber ii fd_seek iIii fd_sync i fd_tell ii fd_write iiii \
    path_create_directory iii path_filestat_get iiiii path_filestat_set_times iiiiIIi path_link iiiiiii path_open iiiiiIIii \
    path_readlink iiiiii path_remove_directory iii path_rename iiiiii path_symlink iiiii path_unlink_file iii proc_raise i \
    random_get ii sock_accept iii sock_recv iiiiii sock_send iiiii sock_shutdown ii";

/// A module that calls the function whose number it reads, thousands of times, with arguments that are drawn from those at which
/// ranges begin and end.
fn caller() -> String {
    const VALUES: [i32; 16] = [0, 1, 2, 3, 4, 5, 8, 64, 99, 4096, 65_528, 65_535, 65_536, 0x7fff_ffff, i32::MIN, -1];
    let words: Vec<&str> = FUNCTIONS.split_whitespace().collect();
    let mut imports = String::new();
    let mut calls = String::new();
    for (number, function) in words.chunks(2).enumerate() {
        let [name, parameters] = function else { panic!("{function:?}") };
        let types: String = parameters.chars().map(|each| if each == 'i' { " i32" } else { " i64" }).collect();
        let arguments: String = parameters
            .chars()
            .map(|each| if each == 'i' { " (call $draw)" } else { " (i64.extend_i32_s (call $draw))" })
            .collect();
        imports +=
            &format!(r#"(import "wasi_snapshot_preview1" "{name}" (func $f{number} (param{types}) (result i32)))"#);
        calls += &format!(
            "(if (i32.eq (local.get $number) (i32.const {number})) (then (drop (call $f{number}{arguments}))))"
        );
    }
    let table: String =
        VALUES.iter().flat_map(|value| value.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect();
    // The table lies where no call writes often, and is read again each time, even where it has been overwritten.
    format!(
        r#"(module {imports} (memory (export "memory") 1) (global $seed (mut i32) (i32.const 1))
            (data (i32.const 40000) "{table}") (data (i32.const 32) "\40\00\00\00\01\00\00\00")
            (func $draw (result i32)
                (global.set $seed (i32.add (i32.mul (global.get $seed) (i32.const 1664525)) (i32.const 1013904223)))
                (i32.load (i32.add (i32.const 40000) (i32.and (i32.shr_u (global.get $seed) (i32.const 24)) (i32.const 60)))))
            (func (export "_start") (local $number i32) (local $round i32)
                (drop (call $f{read} (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 48)))
                (local.set $number (i32.load8_u (i32.const 64)))
                (loop $again
                    {calls}
                    (br_if $again (i32.lt_u (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const 3000))))))"#,
        read = words.chunks(2).position(|function| function[0] == "fd_read").unwrap(),
    )
}

#[test]
fn no_call_of_a_module_traps_whatever_its_arguments() {
    let files = directory();
    let path = module(files.path(), &caller());
    let scratch = directory();
    let host = Setup::serving_file(&path)
        .option("--guest-dir", format!("{}::/:rw", scratch.path().display()))
        .option("--guest-env", "NAME=value")
        .start();
    let functions = FUNCTIONS.split_whitespace().count() / 2;
    assert_eq!(functions, 43);
    for number in 0..functions {
        host.ask([u8::try_from(number).unwrap()]);
    }
    wait_for("all to end", || {
        (host.log().matches("connection finished").count() == functions || host.log().contains("connection failed"))
            .then_some(())
    });
    let log = host.whole_log();
    assert!(!log.contains("connection failed"), "{log}");
}

#[test]
fn a_module_that_does_not_want_to_wait_need_not() {
    let files = directory();
    let flags = r#"(import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $flags (param i32 i32) (result i32)))"#;
    let text = speaker(
        "later",
        "(if (call $flags (i32.const 0) (i32.const 4)) (then (call $exit (i32.const 2))))
        (if (i32.ne (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 6)) (then (call $exit (i32.const 3))))
        (call $say)
        (if (call $flags (i32.const 0) (i32.const 0)) (then (call $exit (i32.const 4))))
        (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 5))))
        (call $say)",
    );
    let path = module(files.path(), &text.replacen("(module ", &format!("(module {flags} "), 1));
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, path.to_str().unwrap());
        let mut stream = host.connect();
        let mut said = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut said).unwrap();
        assert_eq!(&said, b"later");
        stream.write_all(b"now").unwrap();
        assert_eq!(read_to_end(&mut stream), b"nower", "three bytes in the place of the first");
        let log = host.whole_log();
        assert!(!log.contains("connection failed"), "{log}");
    }
}

/// A component in which an adapter does what the host does for a module: the memory that it takes may be another's.
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
