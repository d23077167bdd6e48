//! Files that are not plugins, and plugins that cannot start.

use super::refused;
use crate::harness::{Setup, directory, plugin};
use std::{fs, os::unix::fs::PermissionsExt};

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn a_file_that_is_not_a_plugin_is_named_with_its_kind() {
    let dir = directory();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut damaged = fs::read(plugin("hello")).unwrap();
    damaged.truncate(damaged.len() / 2);
    let handler = r#"(instance $h) (export "uninterruptible:server/handler@0.2.0" (instance $h))"#;
    for (path, needle) in [
        (write("empty.wasm", b""), "is not WebAssembly"),
        (write("picture.png", b"\x89PNG\r\n"), "is not WebAssembly"),
        (write("text.wat", b"(component)"), "is WebAssembly text"),
        (write("module.wasm", b"\0asm\x01\0\0\0"), "is a core WebAssembly module"),
        (write("damaged.wasm", &damaged), "is damaged"),
        (write("nothing.wasm", &component("(component)")), "exports nothing"),
        (
            write(
                "other.wasm",
                &component(r#"(component (instance $i) (export "acme:db/store@1.0.0" (instance $i)))"#),
            ),
            "exports acme:db/store@1.0.0",
        ),
        (
            write(
                "old.wasm",
                &component(
                    r#"(component (instance $i) (export "uninterruptible:server/handler@0.1.0" (instance $i)))"#,
                ),
            ),
            "was built for uninterruptible:server/handler@0.1.0",
        ),
        (
            write("hollow.wasm", &component(&format!("(component {handler})"))),
            "was built for uninterruptible:server@0.2.0",
        ),
        (
            write(
                "greedy.wasm",
                &component(&format!(
                    r#"(component (import "acme:db/store@1.0.0" (instance)) (import "wasi:io/poll@0.2.0" (instance)) (import "wasi:keyvalue/store@0.2.0" (instance)) {handler})"#
                )),
            ),
            "does not have: acme:db/store@1.0.0, wasi:keyvalue/store@0.2.0:",
        ),
        (dir.path().to_owned(), "is not a regular file"),
        (dir.path().join("absent.wasm"), "cannot be read: No such file"),
    ] {
        let setup = Setup::bare().option("--plugin", &path).option("--cache-dir", "none");
        refused(&setup, &["--plugin", path.to_str().unwrap(), needle]);
    }
}

#[test]
fn an_unreadable_plugin_is_named() {
    let dir = directory();
    let path = dir.path().join("secret.wasm");
    fs::copy(plugin("hello"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        crate::harness::cannot("root can read every file");
        return;
    }
    refused(&Setup::bare().option("--plugin", &path), &["secret.wasm", "cannot be read", "denied"]);
}

#[test]
fn a_plugin_that_needs_more_memory_than_allowed_is_rejected_at_boot() {
    refused(
        &Setup::serving("hello").option("--guest-memory", "64KiB"),
        &["--plugin", "bytes of memory to start", "--guest-memory gives 65536"],
    );
}

#[test]
fn wasi_0_3_can_be_disabled() {
    refused(&Setup::serving("hello-async").argument("--disable-wasi-0-3"), &["hello-async.wasm", "--disable-wasi-0-3"]);
}

/// The contract alone does not show which features a plugin needs.
#[test]
fn wasi_0_3_is_disabled_for_plugins_of_the_older_contract_that_use_it_too() {
    let dir = directory();
    for (name, used) in [
        ("stream.wasm", "(type (stream u8))"),
        ("waitable.wasm", "(core func (canon waitable-set.new))"),
        ("clock.wasm", r#"(import "wasi:clocks/monotonic-clock@0.3.0" (instance (export "now" (func (result u64)))))"#),
        ("nothing.wasm", ""),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, returning(used, "")).unwrap();
        let setup = || {
            Setup::bare().option("--plugin", &path).option("--bind", "tcp://127.0.0.1:0").option("--cache-dir", "none")
        };
        assert_eq!(setup().start().ask("x"), b"", "{name} is served where it is not disabled");
        let disabled = setup().argument("--disable-wasi-0-3");
        if used.is_empty() {
            assert_eq!(disabled.start().ask("x"), b"");
        } else {
            refused(&disabled, &[name, "uses WASI 0.3 or its concurrency", "--disable-wasi-0-3"]);
        }
    }
}

/// A plugin whose start function counts to `turns`, and whose handler returns at once.
pub fn spinning(turns: u64) -> Vec<u8> {
    returning(
        "",
        &format!(
            r#"(func $spin (local i64)
                (loop $again
                    (local.set 0 (i64.add (local.get 0) (i64.const 1)))
                    (br_if $again (i64.lt_u (local.get 0) (i64.const {turns})))))
            (start $spin)"#
        ),
    )
}

/// A plugin of the 0.2 contract whose handler returns at once, with additions to its component and
/// its module.
fn returning(in_component: &str, in_module: &str) -> Vec<u8> {
    component(&format!(
        r#"(component
            {in_component}
            (import "uninterruptible:server/types@0.2.0" (instance $types (export "connection" (type (sub resource)))))
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "input-stream" (type (sub resource)))
                (export "output-stream" (type (sub resource)))))
            (alias export $types "connection" (type $connection))
            (alias export $streams "input-stream" (type $input))
            (alias export $streams "output-stream" (type $output))
            (core module $module
                (memory (export "memory") 1)
                {in_module}
                (func (export "handle-request") (param i32 i32 i32) (result i32) (i32.const 16)))
            (core instance $instance (instantiate $module))
            (alias core export $instance "memory" (core memory $memory))
            (func $handle
                (param "connection" (own $connection)) (param "input" (own $input)) (param "output" (own $output))
                (result (result (error string)))
                (canon lift (core func $instance "handle-request") (memory $memory)))
            (instance $handler (export "handle-request" (func $handle)))
            (export "uninterruptible:server/handler@0.2.0" (instance $handler)))"#
    ))
}

/// A regression: a first instance that computed for some milliseconds waited for ever for a permit
/// that it held itself.
#[test]
fn a_plugin_that_computes_at_start_is_served_and_one_that_never_starts_is_rejected() {
    let dir = directory();
    let (slow, stuck) = (dir.path().join("slow.wasm"), dir.path().join("stuck.wasm"));
    fs::write(&slow, spinning(30_000_000)).unwrap();
    fs::write(&stuck, spinning(u64::MAX)).unwrap();
    for workers in ["1", "2"] {
        let with = |path| {
            let setup =
                Setup::bare().option("--plugin", path).option("--workers", workers).option("--cache-dir", "none");
            setup.option("--bind", "tcp://127.0.0.1:0")
        };
        assert_eq!(with(&slow).start().ask("x"), b"");
        refused(
            &with(&stuck).option("--guest-cpu-time", "100ms"),
            &["stuck.wasm", "cannot be instantiated", "--guest-cpu-time"],
        );
    }
}
