//! The calls of WASI 0.1: waiting, writing without end, read-only directories, and any arguments.

use super::{EXIT, READ, WRITE, module};
use crate::harness::{Host, Setup, Transport, directory, read_to_end, wait_for};
use std::{fs, io::Write};

/// A module that calls `fd_write` with the text at 64, and then runs `then`.
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
            assert_eq!(&heard, b"input", "it writes the bytes that it has read");
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut stream), b"input");
        }
        let log = host.whole_log();
        assert!(!log.contains("connection failed"), "{log}");
    }
}

/// A peer that does not read blocks the program, and the host keeps at most a buffer of its output.
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

/// Every call that changes files, in a directory that was granted for reading: not permitted, as
/// for components.
#[test]
fn a_read_only_grant_forbids_modules_to_write() {
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
    // With a grant to write, the same call succeeds.
    let host = Setup::serving_file(&path).option("--guest-dir", grant(":rw")).start();
    assert_eq!(host.ask(""), b"");
    host.logged(&["connection failed", "the guest exited with status 1"]);
}

/// All functions of WASI 0.1 that take arguments, with the types of these. `proc_exit`, which ends
/// a program, and `poll_oneoff`, which may wait for long, are left out.
const FUNCTIONS: &str = "args_get ii args_sizes_get ii clock_res_get ii clock_time_get iIi environ_get ii environ_sizes_get ii \
    fd_advise iIIi fd_allocate iII fd_close i fd_datasync i fd_fdstat_get ii fd_fdstat_set_flags ii fd_fdstat_set_rights iII \
    fd_filestat_get ii fd_filestat_set_size iI fd_filestat_set_times iIIi fd_pread iiiIi fd_prestat_dir_name iii fd_prestat_get ii \
    fd_pwrite iiiIi fd_read iiii fd_readdir iiiIi fd_renumber ii fd_seek iIii fd_sync i fd_tell ii fd_write iiii \
    path_create_directory iii path_filestat_get iiiii path_filestat_set_times iiiiIIi path_link iiiiiii path_open iiiiiIIii \
    path_readlink iiiiii path_remove_directory iii path_rename iiiiii path_symlink iiiii path_unlink_file iii proc_raise i \
    random_get ii sock_accept iii sock_recv iiiiii sock_send iiiii sock_shutdown ii";

/// A module that reads the number of a function, and calls it thousands of times with arguments at
/// the edges of ranges.
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
    // Few calls write where the table lies, and each round reads it again, even after it was
    // overwritten.
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
fn no_call_of_a_module_traps_with_any_arguments() {
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
fn a_module_can_read_without_blocking() {
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
