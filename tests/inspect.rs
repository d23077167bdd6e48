//! `inspect` and `compile`: the description of a file, and the entry in the cache.

use crate::harness::{Host, Setup, directory, plugin};
use std::{fs, path::Path, process::Command};

fn inspect(path: &Path, options: &[&str]) -> (i32, String, String) {
    let setup = Setup::bare().argument("inspect").argument(path).option("--cache-dir", "none");
    options.iter().fold(setup, |setup, option| setup.argument(option)).run()
}

/// The value of a line, or nothing.
fn value(page: &str, name: &str) -> String {
    let line = page.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn a_plugin_is_described() {
    let path = plugin("reach");
    let (code, page, err) = inspect(&path, &[]);
    assert_eq!((code, err.as_str()), (0, ""), "{page}");
    assert_eq!(page.lines().next(), path.to_str());
    assert_eq!(value(&page, "kind"), "handler of WASI 0.2 (uninterruptible:server@0.2.0)");
    assert_eq!(value(&page, "served"), "yes");
    assert_eq!(value(&page, "size"), format!("{} bytes", fs::metadata(&path).unwrap().len()));
    let digest = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
    assert!(String::from_utf8(digest).unwrap().starts_with(&value(&page, "sha256")));
    assert_eq!(value(&page, "sha256").len(), 64);
    assert_eq!(value(&page, "engine"), "plain");
    assert!(value(&page, "memory").starts_with("1 memory: 1.1 MiB at the start"), "{page}");
    assert!(value(&page, "packages").starts_with("uninterruptible:server@0.2.0, wasi:cli@0.2."), "{page}");
    assert!(value(&page, "made with").contains("wit-bindgen-rust"), "{page}");
    let answer = |interface: &str| {
        let line = page.lines().find(|line| line.trim_start().starts_with(interface)).unwrap();
        line.trim_start().split_once(' ').unwrap().1.trim_start().to_owned()
    };
    assert_eq!(answer("wasi:io/streams@"), "given");
    assert_eq!(answer("wasi:cli/environment@"), "empty without --guest-env, --guest-arg");
    assert_eq!(answer("wasi:filesystem/types@"), "denied without --guest-dir");
    assert_eq!(answer("wasi:sockets/tcp@"), "denied without --guest-connect");
    assert_eq!(answer("wasi:sockets/ip-name-lookup@"), "denied without --guest-connect with a name");
    assert_eq!(answer("wasi:sockets/udp@"), "denied");
    assert_eq!(inspect(&path, &[]).1, page, "the same each time");
}

/// The purpose of `uninterruptible-guest-minimal`. It uses no build for `wasm32-wasip1`, as on
/// machines that have no other target.
#[test]
fn a_minimal_plugin_imports_what_it_uses() {
    let libraries =
        Command::new("rustc").args(["--print", "target-libdir", "--target", "wasm32-wasip2"]).output().unwrap();
    if !Path::new(String::from_utf8(libraries.stdout).unwrap().trim()).is_dir() {
        crate::harness::skip("this toolchain lacks wasm32-wasip2");
        return;
    }
    let (_, page, _) = inspect(&plugin("hello"), &[]);
    let imported = |line: &str| Some(line.trim_start().strip_prefix("wasi:")?.split_once('@')?.0.to_owned());
    let imports: Vec<_> = page.lines().filter_map(imported).collect();
    assert_eq!(imports, ["io/error", "io/streams", "cli/environment", "cli/stdout", "cli/stderr"], "{page}");
}

#[test]
fn a_plugin_that_cannot_be_served_is_described_with_exit_code_2() {
    let path = plugin("reach-async");
    let (code, page, _) = inspect(&path, &[]);
    assert_eq!((code, value(&page, "served").as_str()), (0, "yes"));
    assert!(value(&page, "kind").starts_with("handler of WASI 0.3"));
    assert_eq!(value(&page, "engine"), "with concurrency, as WASI 0.3 needs it");
    let (code, page, _) = inspect(&path, &["--disable-wasi-0-3"]);
    assert_eq!(code, 2);
    assert!(value(&page, "served").starts_with("no: it uses WASI 0.3"), "{page}");
    let (code, page, _) = inspect(&plugin("hello"), &["--guest-memory", "1MiB"]);
    assert_eq!(code, 2);
    assert!(value(&page, "served").starts_with("no: it needs 1114112 bytes"), "{page}");

    let files = directory();
    for (text, kind, refusal) in [
        (
            r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)) (instance $h) (export "wasi:cli/run@0.2.0" (instance $h)))"#,
            "command of WASI 0.2 (wasi:cli@0.2.0)",
            "imports interfaces that this host does not have: wasi:keyvalue/store@0.2.0",
        ),
        (
            r#"(module (import "env" "log" (func)) (memory 1 2) (func (export "_start")))"#,
            "command of WASI 0.1 (wasi_snapshot_preview1)",
            "imports interfaces that this host does not have: env",
        ),
        (
            r#"(module (func (export "run")))"#,
            "core module",
            "is a core WebAssembly module without _start, and so not a program; it exports run",
        ),
        (
            r#"(component (import "acme:db/store@1.0.0" (instance)) (instance $h) (export "uninterruptible:server/handler@0.2.0" (instance $h)))"#,
            "handler of WASI 0.2 (uninterruptible:server@0.2.0)",
            "imports interfaces that this host does not have: acme:db/store@1.0.0",
        ),
        (r#"(component)"#, "component", "does not export uninterruptible:server/handler"),
    ] {
        let path = files.path().join("other.wasm");
        fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
        let (code, page, err) = inspect(&path, &[]);
        assert_eq!((code, err.as_str()), (2, ""), "{page}");
        assert_eq!(value(&page, "kind"), kind);
        assert!(value(&page, "served").contains(refusal), "{page}");
        assert_eq!(page.contains("missing: this host does not have it"), refusal.starts_with("imports"), "{page}");
    }
}

/// The kind of a file that matches several kinds.
#[test]
fn the_kind_is_the_first_match_or_the_named_one() {
    let files = directory();
    let path = files.path().join("both.wasm");
    let both = r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)) (export "uninterruptible:server/handler@0.2.0" (instance $i)))"#;
    fs::write(&path, wat::parse_str(both).unwrap()).unwrap();
    for (options, kind) in [
        (&[][..], "handler of WASI 0.2 (uninterruptible:server@0.2.0)"),
        (&["--plugin-kind", "command-0.2"], "command of WASI 0.2 (wasi:cli@0.2.0)"),
        (&["--plugin-kind", "auto"], "handler of WASI 0.2 (uninterruptible:server@0.2.0)"),
    ] {
        assert_eq!(value(&inspect(&path, options).1, "kind"), kind);
    }
    let (code, page, _) = inspect(&path, &["--plugin-kind", "http-0.3"]);
    assert_eq!(code, 2);
    let refusal =
        "no: it does not match --plugin-kind http-0.3 (HTTP handler of WASI 0.3); it exports wasi:cli/run@0.2.0,";
    assert!(value(&page, "served").starts_with(refusal), "{page}");
    let (code, _, err) = inspect(&path, &["--plugin-kind", "program"]);
    assert!(code == 2 && err.contains("is not one of auto, handler-0.3"), "{err}");
}

#[test]
fn a_file_that_is_not_webassembly_is_rejected_in_one_line() {
    let files = directory();
    let path = files.path().join("picture.png");
    fs::write(&path, b"\x89PNG").unwrap();
    let mut damaged = fs::read(plugin("hello")).unwrap();
    damaged.truncate(damaged.len() / 2);
    let half = files.path().join("half.wasm");
    fs::write(&half, damaged).unwrap();
    for (path, reason) in
        [(path, "is not WebAssembly"), (half, "is damaged"), (files.path().join("absent.wasm"), "cannot be read")]
    {
        for subcommand in ["inspect", "compile"] {
            let (code, out, err) = Setup::bare().argument(subcommand).argument(&path).run();
            assert_eq!((code, out.as_str()), (2, ""), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
            let culprit = format!("{subcommand} {}", path.display());
            assert!(err.contains(&culprit) && err.contains(reason), "{err}");
        }
    }
    let (code, _, err) = Setup::bare().argument("inspect").run();
    assert!(code == 2 && err.contains("<PLUGIN>"), "{err}");
}

#[test]
fn a_plugin_is_compiled_ahead_of_time() {
    let cache = directory();
    let compile =
        |name: &str| Setup::bare().argument("compile").argument(plugin(name)).option("--cache-dir", cache.path()).run();
    for name in ["hello", "hello-async"] {
        let (code, out, err) = compile(name);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("compiled ") && out.contains(" ms to ") && out.ends_with(".cwasm\n"), "{out}");
        let entry = out.trim_end().rsplit_once(' ').unwrap().1.to_owned();
        assert!(Path::new(&entry).is_file());
        let (code, out, _) = compile(name);
        assert_eq!(code, 0);
        assert!(out.contains("is already compiled") && out.trim_end().ends_with(&entry), "{out}");
        let (_, page, _) =
            Setup::bare().argument("inspect").argument(plugin(name)).option("--cache-dir", cache.path()).run();
        assert_eq!(value(&page, "compiled"), entry);
        // A host finds the entry.
        let host: Host = Setup::bare()
            .option("--plugin", plugin(name))
            .option("--cache-dir", cache.path())
            .option("--bind", "tcp://127.0.0.1:0")
            .option("--log-level", "debug")
            .start();
        assert_eq!(host.ask("bob\n"), b"Hello bob!\n");
        let log = host.whole_log();
        assert!(!log.contains("compiling"), "{log}");
    }
}

#[test]
fn a_plugin_is_not_compiled_without_a_writable_cache() {
    let compile = |options: &[&str]| {
        let setup = Setup::bare().argument("compile").argument(plugin("hello"));
        options.iter().fold(setup, |setup, option| setup.argument(option)).run()
    };
    let (code, _, err) = compile(&["--cache-dir", "none"]);
    assert!(code == 2 && err.contains("compiling needs a cache directory"), "{err}");
    let dir = directory();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let (code, _, err) = compile(&["--cache-dir", open.to_str().unwrap()]);
    assert!(code == 2 && err.contains("other users can write"), "{err}");
    let (code, _, err) =
        Setup::bare().argument("compile").argument(plugin("hello-async")).argument("--disable-wasi-0-3").run();
    assert!(code == 2 && err.contains("--disable-wasi-0-3"), "{err}");
}
