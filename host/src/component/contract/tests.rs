use super::*;

fn read(file: &[u8], wanted: Option<Kind>) -> Result<Contract, Error> {
    Declared::by(file)?.contract(wanted)
}

fn component(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {body})")).unwrap()
}

#[test]
fn each_error_is_one_short_line_whatever_names_the_file_has() {
    let noisy = |count: usize| "\\1b[31m\\0a".repeat(count);
    let module = format!(r#"(module (func (export "{}")))"#, noisy(3000));
    let version = r#"(component (instance $h) (export "wasi:cli/run@0.4.0" (instance $h)))"#;
    let mut version = wat::parse_str(version).unwrap();
    let at = version.windows(5).position(|window| window == b"0.4.0").unwrap();
    version[at + 1] = b'\n';
    let bad_magic = b"\0asm\x0d\0\x01\0\x01\x0a\0\x7f\0\x60\0\0\0\0\0\0".to_vec();
    for file in [wat::parse_str(module).unwrap(), version, bad_magic] {
        let told = read(&file, None).unwrap_err().to_string();
        assert!(told.len() < 1000 && !told.contains(char::is_control), "{told:?}");
    }
}

const HANDLER_0_2: &str = r#"(instance $h) (export "uninterruptible:server/handler@0.2.0" (instance $h))"#;

#[test]
fn versions_are_chosen_by_the_generation() {
    let both = r#"(instance $h)
        (export "uninterruptible:server/handler@0.2.7" (instance $h))
        (export "uninterruptible:server/handler@0.3.1" (instance $h))"#;
    let contract = read(&component(both), None).unwrap();
    assert_eq!(contract.to_string(), "handler of WASI 0.3 (uninterruptible:server@0.3.1)");
    let contract = read(&component(HANDLER_0_2), None).unwrap();
    assert_eq!((contract.kind, contract.concurrency), (Kind::Handler(Generation::Wasi02), Concurrency::Plain));
}

#[test]
fn pre_release_versions_are_not_served() {
    let early = r#"(instance $h) (export "uninterruptible:server/handler@0.3.0-rc.1" (instance $h))"#;
    assert!(matches!(read(&component(early), None), Err(Error::OtherVersion { .. })));
    let needs_early = format!(r#"(import "wasi:cli/stdin@0.3.0-rc.1" (instance)) {HANDLER_0_2}"#);
    assert_eq!(read(&component(&needs_early), None).unwrap().missing, ["wasi:cli/stdin@0.3.0-rc.1"]);
}

#[test]
fn concurrency_is_found_wherever_it_hides() {
    for hidden in [
        r#"(type (stream u8))"#,
        r#"(component (type (future)))"#,
        r#"(component (component (core func (canon waitable-set.new))))"#,
        r#"(import "wasi:clocks/monotonic-clock@0.3.0" (instance))"#,
    ] {
        let contract = read(&component(&format!("{hidden} {HANDLER_0_2}")), None).unwrap();
        assert_eq!(contract.concurrency, Concurrency::Concurrent, "{hidden}");
    }
}

#[test]
fn only_names_of_the_outermost_component_count() {
    let nested = format!(r#"(component (import "acme:db/store@1.0.0" (instance)) {HANDLER_0_2})"#);
    assert!(matches!(read(&component(&nested), None), Err(Error::NoKind { exports }) if exports.is_empty()));
}

/// A file with several exports, and one of them.
fn kind_of(exports: &[&str], wanted: Option<Kind>) -> Result<Kind, Error> {
    let exports = exports.iter().map(|name| format!(r#"(export "{name}" (instance $i))"#)).collect::<String>();
    read(&component(&format!("(instance $i) {exports}")), wanted).map(|contract| contract.kind)
}

#[test]
fn a_file_of_several_kinds_is_served_as_the_first() {
    let mut exports = [
        "uninterruptible:server/handler@0.3.0",
        "uninterruptible:server/handler@0.2.0",
        "wasi:http/handler@0.3.0",
        "wasi:http/incoming-handler@0.2.4",
        "wasi:cli/run@0.3.0",
        "wasi:cli/run@0.2.6",
    ]
    .as_slice();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Module) {
        assert_eq!(kind_of(exports, None).unwrap(), kind);
        assert_eq!(kind_of(exports, Some(Kind::Command(Generation::Wasi02))).unwrap().word(), "command-0.2");
        exports = &exports[1..];
    }
    let not_it = kind_of(&["wasi:cli/run@0.2.6"], Some(Kind::Http(Generation::Wasi02))).unwrap_err().to_string();
    assert!(
        not_it.contains("--plugin-kind http-0.2 (HTTP handler of WASI 0.2); it exports wasi:cli/run@0.2.6:"),
        "{not_it}"
    );
}

#[test]
fn a_module_with_a_start_function_is_a_program() {
    let module = |text| read(&wat::parse_str(text).unwrap(), None);
    let contract = module(
        r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))) (memory (export "memory") 1) (func (export "_start")))"#,
    );
    let contract = contract.unwrap();
    assert_eq!(contract.to_string(), "command of WASI 0.1 (wasi_snapshot_preview1)");
    assert_eq!((contract.missing, contract.concurrency), (Vec::new(), Concurrency::Plain));
    let contract = module(
        r#"(module (import "env" "log" (func)) (import "wasi_snapshot_preview1" "sock_open" (func))
            (import "wasi_snapshot_preview1" "fd_read" (func (param i64))) (import "wasi_snapshot_preview1" "args_get" (memory 1))
            (export "memory" (memory 0)) (func (export "_start")))"#,
    );
    let missing = ["env.log", "sock_open", "fd_read", "args_get"];
    assert!(contract.unwrap().missing.iter().zip(missing).all(|(found, name)| found.ends_with(name)));
    assert!(module(r#"(module (memory (export "mem") 1) (func (export "_start")))"#).unwrap().lacks_memory);
    assert!(matches!(
        module(r#"(module (global (export "_start") i32 (i32.const 0)))"#),
        Err(Error::CoreModule { .. })
    ));
}

#[test]
fn every_kind_of_component_may_import_http() {
    for export in ["wasi:http/incoming-handler@0.2.4", "wasi:cli/run@0.2.4", "uninterruptible:server/handler@0.2.0"] {
        let of = |imports: &str| {
            let text = format!(r#"{imports} (instance $h) (export "{export}" (instance $h))"#);
            read(&component(&text), None).unwrap()
        };
        let contract = of(r#"(import "wasi:http/types@0.2.4" (instance))"#);
        assert!(contract.missing.is_empty() && contract.imports_http, "{export}");
        assert!(!of("").imports_http, "{export}");
    }
}

#[test]
fn an_adapter_without_realloc_is_found() {
    let wasi = |module: &str, memory: &str| {
        format!(
            r#"(core module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))) {module})
            (core module {memory} (func (export "fd_write") (param i32 i32 i32 i32) (result i32) unreachable))
            {HANDLER_0_2}"#
        )
    };
    let warns = |text: &str| read(&component(text), None).unwrap().warning.is_some();
    let shared = r#"(import "env" "memory" (memory 0))"#;
    let realloc = r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#;
    assert!(warns(&wasi("", shared)));
    assert!(warns(&wasi(&format!("(memory 1) {}", realloc.replace("cabi_", "")), shared)));
    assert!(!warns(&wasi(realloc, shared)), "the program's allocator is used");
    assert!(!warns(&wasi("", "(memory 1)")), "it has its own memory");
    assert!(!warns(HANDLER_0_2));
}

#[test]
fn a_long_list_is_shortened() {
    let names: Vec<String> = (0..2000).map(|n| format!("f{n}")).collect();
    assert_eq!(list(&names), "f0, f1, f2, f3, f4, f5, f6, f7 and 1992 more");
    assert_eq!(list(&names[..8]), "f0, f1, f2, f3, f4, f5, f6, f7");
}
