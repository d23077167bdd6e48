//! Which components are recognised, and what is made of them.

use super::{Layer, Lowering};
use crate::component::engine::{self, Concurrency};
use wasmparser::Validator;
use wasmtime::Module;

/// A handler in the shape that toolchains make: its main module, shim and fixup.
const USUAL: &str = r#"(component
    (import "uninterruptible:server/types@0.2.0" (instance $types
        (export "connection" (type $c (sub resource)))
        (export "[method]connection.id" (func (param "self" (borrow $c)) (result string)))
        (export "[method]connection.is-draining" (func (param "self" (borrow $c)) (result bool)))))
    (import "wasi:io/streams@0.2.6" (instance $streams
        (export "input-stream" (type (sub resource)))
        (export "output-stream" (type (sub resource)))))
    (core module $main
        (type (func (param i32 i32)))
        (import "types" "id" (func $id (type 0)))
        (import "types" "is-draining" (func $is-draining (param i32) (result i32)))
        (import "types" "drop" (func $drop (param i32)))
        (memory (export "memory") 1)
        (table 2 funcref)
        (elem (i32.const 0) func $id $drop)
        (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
        (func (export "cabi_post") (param i32))
        (func (export "handle") (param i32 i32 i32) (result i32)
            (call $id (local.get 0) (i32.const 16))
            (drop (call $is-draining (local.get 0)))
            (call $drop (local.get 0))
            i32.const 0))
    (core module $shim
        (type (func (param i32 i32)))
        (table (export "$imports") 1 1 funcref)
        (func (export "0") (type 0) local.get 0 local.get 1 i32.const 0 call_indirect (type 0)))
    (core module $fixup
        (type (func (param i32 i32)))
        (import "" "0" (func (type 0)))
        (import "" "$imports" (table 1 1 funcref))
        (elem (i32.const 0) func 0))
    (core instance $shim-instance (instantiate $shim))
    (alias export $types "connection" (type $connection))
    (alias export $streams "input-stream" (type $input))
    (alias export $streams "output-stream" (type $output))
    (alias core export $shim-instance "0" (core func $indirect))
    (alias export $types "[method]connection.is-draining" (func $is-draining))
    (core func $is-draining (canon lower (func $is-draining)))
    (core func $drop (canon resource.drop $connection))
    (core instance $arguments
        (export "id" (func $indirect))
        (export "is-draining" (func $is-draining))
        (export "drop" (func $drop)))
    (core instance $main-instance (instantiate $main (with "types" (instance $arguments))))
    (alias core export $main-instance "memory" (core memory $memory))
    (alias core export $main-instance "cabi_realloc" (core func $realloc))
    (alias export $types "[method]connection.id" (func $id))
    (core func $id (canon lower (func $id) (memory $memory) (realloc $realloc) string-encoding=utf8))
    (alias core export $shim-instance "$imports" (core table $table))
    (core instance $fixed (export "0" (func $id)) (export "$imports" (table $table)))
    (core instance (instantiate $fixup (with "" (instance $fixed))))
    (alias core export $main-instance "handle" (core func $handle))
    (alias core export $main-instance "cabi_post" (core func $post))
    (type $result (result (error string)))
    (type $function (func (param "connection" (own $connection)) (param "input" (own $input)) (param "output" (own $output))
        (result $result)))
    (func $handle-request (type $function)
        (canon lift (core func $handle) (memory $memory) string-encoding=utf8 (post-return $post)))
    (component $exporter
        (import "import-type-connection" (type $connection (sub resource)))
        (import "import-type-input" (type $input (sub resource)))
        (import "import-type-output" (type $output (sub resource)))
        (import "import-func-handle-request" (func $handle (param "connection" (own $connection))
            (param "input" (own $input)) (param "output" (own $output)) (result (result (error string)))))
        (export "handle-request" (func $handle)))
    (instance $exporting (instantiate $exporter
        (with "import-type-connection" (type $connection))
        (with "import-type-input" (type $input))
        (with "import-type-output" (type $output))
        (with "import-func-handle-request" (func $handle-request))))
    (export "uninterruptible:server/handler@0.2.0" (instance $exporting)))"#;

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn lowering(text: &str) -> Result<Lowering, String> {
    match Layer::of(&component(text)) {
        Layer::Lowered(lowering) => Ok(lowering),
        Layer::Needed(why) => Err(why),
    }
}

fn compiled(text: &str) -> Module {
    let module = lowering(text).unwrap().module(&component(text)).unwrap();
    Validator::new().validate_all(&module).unwrap();
    Module::new(engine::compiler(Concurrency::Plain).unwrap(), module).unwrap()
}

#[test]
fn imports_are_named_by_interface_and_function() {
    let module = compiled(USUAL);
    let imports: Vec<_> = module.imports().map(|import| (import.module(), import.name())).collect();
    assert_eq!(
        imports,
        [
            ("uninterruptible:server/types", "[method]connection.id"),
            ("uninterruptible:server/types", "[method]connection.is-draining"),
            ("uninterruptible:server/types", "[resource-drop]connection"),
            ("host", "stored"),
            ("host", "returned"),
        ]
    );
    let exports: Vec<_> = module.exports().map(|export| export.name()).collect();
    assert_eq!(exports, ["memory", "entry"]);
}

/// From wit-component 0.262 on, the fixup gets the shim's instance and one of the functions.
#[test]
fn the_fixup_of_newer_toolchains_is_recognised() {
    let newer = USUAL
        .replace(r#"(import "" "0" (func (type 0)))"#, r#"(import "actual" "0" (func (type 0)))"#)
        .replace(r#"(import "" "$imports""#, r#"(import "shim" "$imports""#)
        .replace(r#"(export "0" (func $id)) (export "$imports" (table $table))"#, r#"(export "0" (func $id))"#)
        .replace(
            r#"(with "" (instance $fixed))"#,
            r#"(with "actual" (instance $fixed)) (with "shim" (instance $shim-instance))"#,
        );
    let names = |text: &str| {
        let module = compiled(text);
        module.imports().map(|import| import.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&newer), names(USUAL));
}

/// A library of C runs its constructors first: called by the fixup module, or by a module of its own.
#[test]
fn a_start_function_of_the_main_module_is_an_export() {
    let main =
        USUAL.replace(r#"(func (export "cabi_post")"#, r#"(func (export "_initialize")) (func (export "cabi_post")"#);
    let by_fixup = main
        .replace("(elem (i32.const 0) func 0))", "(start 1) (elem (i32.const 0) func 0))")
        .replace(r#"(import "" "$imports""#, r#"(import "main" "_initialize" (func)) (import "" "$imports""#)
        .replace(
            r#"(with "" (instance $fixed))"#,
            r#"(with "" (instance $fixed)) (with "main" (instance $main-instance))"#,
        );
    let by_starter = main.replace(
        "(type $result (result",
        r#"(core module $starter (import "" "" (func)) (start 0))
        (alias core export $main-instance "_initialize" (core func $initialize))
        (core instance $start (export "" (func $initialize)))
        (core instance (instantiate $starter (with "" (instance $start))))
        (type $result (result"#,
    );
    for text in [by_fixup, by_starter] {
        let module = compiled(&text);
        let exports: Vec<_> = module.exports().map(|export| export.name()).collect();
        assert_eq!(exports, ["memory", "entry", "initialize"]);
    }
}

#[test]
fn a_handler_without_cleaning_up_is_lowered_too() {
    compiled(&USUAL.replace("(post-return $post)", ""));
}

/// The components of WASI 0.2.0 and of later versions differ in the versions of their imports only.
#[test]
fn any_version_of_an_interface_is_recognised() {
    compiled(&USUAL.replace("wasi:io/streams@0.2.6", "wasi:io/streams@0.2.0"));
}

#[test]
fn an_unusual_component_keeps_its_component_layer() {
    let changes = [
        // A shim that does more than it should, or something else.
        ("i32.const 0 call_indirect (type 0)", "i32.const 0 call_indirect (type 0) nop", "an unusual shim"),
        ("local.get 0 local.get 1 i32.const 0 call", "local.get 1 local.get 0 i32.const 0 call", "an unusual shim"),
        (
            r#"(table (export "$imports") 1 1 funcref)"#,
            r#"(table (export "$imports") 2 2 funcref)"#,
            "mismatch in table limits",
        ),
        (r#"(func (export "0") (type 0) local"#, r#"(func (export "0") (type 0) (local i32) local"#, "an unusual shim"),
        // A fixup that leaves something out, or runs something.
        ("(elem (i32.const 0) func 0))", ")", "an unusual fixup"),
        ("(elem (i32.const 0) func 0))", "(elem (i32.const 0) func 0) (func) (start 1))", "an unusual fixup"),
        // A start that is not the main module's.
        ("(elem (i32.const 0) func 0))", "(start 1) (elem (i32.const 0) func 0))", ""),
        (r#"(core instance (instantiate $fixup (with "" (instance $fixed))))"#, "", "no fixup"),
        // A main module with something of its own.
        ("(func $realloc (export", "(func $start) (start $start) (func $realloc (export", "start function"),
        (r#"(memory (export "memory") 1)"#, r#"(memory (export "memory") 1) (memory 1)"#, "one memory"),
        (r#"(memory (export "memory") 1)"#, r#"(memory (export "memory") 1 2 shared)"#, ""),
        // Another encoding of strings.
        (
            "(realloc $realloc) string-encoding=utf8",
            "(realloc $realloc) string-encoding=utf16",
            "strings that are not UTF-8",
        ),
        // A function that the host does not have in this form.
        ("connection.is-draining\"", "connection.is-drained\"", "it imports [method]connection.is-drained"),
        // More than a handler.
        (
            r#"(export "uninterruptible:server/handler@0.2.0" (instance $exporting))"#,
            r#"(export "uninterruptible:server/handler@0.2.0" (instance $exporting)) (export "a:b/c@0.1.0" (instance $exporting))"#,
            "exports besides",
        ),
        (r#"handler@0.2.0" (instance $exporting)"#, r#"handler@0.3.0" (instance $exporting)"#, "exports besides"),
        // A second program.
        (
            "(core instance $shim-instance",
            "(core module $other) (core instance (instantiate $other)) (core instance $shim-instance",
            "more modules than one",
        ),
        (r#"(export "handle-request" (func $handle)))"#, r#"(export "handle" (func $handle)))"#, "an unusual export"),
        (
            "(type $result (result (error string)))",
            "(type $own (resource (rep i32))) (core func (canon resource.new $own)) (type $result (result (error string)))",
            "resources of its own",
        ),
    ];
    for (usual, unusual, reason) in changes {
        assert!(USUAL.contains(usual), "{usual}");
        let why = lowering(&USUAL.replace(usual, unusual)).expect_err(unusual);
        assert!(why.contains(reason), "{unusual}: {why}");
    }
}

/// A function is known by its interface's name, so its type must be that of the host's.
#[test]
fn an_import_of_another_type_keeps_the_component_layer() {
    let engine = engine::compiler(Concurrency::Plain).unwrap();
    let mut layer = Layer::of(&component(USUAL));
    layer.confirm(&component(USUAL), engine, |engine, interface| {
        interface.component_type().imports(engine).count() == 2
    });
    assert!(matches!(layer, Layer::Lowered(_)));
    layer.confirm(&component(USUAL), engine, |_, _| false);
    assert!(matches!(layer, Layer::Needed(_)));
}

/// The woven functions in order: the host asks for a block, and gets it, as often as it wants.
#[test]
fn a_result_is_stored_in_blocks_of_the_guest() {
    use wasmtime::{Caller, Linker, Store};
    let module = compiled(USUAL);
    let mut linker: Linker<Vec<String>> = Linker::new(module.engine());
    let types = "uninterruptible:server/types";
    linker
        .func_wrap(types, "[method]connection.id", |mut caller: Caller<'_, Vec<String>>, this: i32, out: i32| {
            caller.data_mut().push(format!("id {this} {out}"));
            4 << 28 | 8
        })
        .unwrap();
    linker
        .func_wrap("host", "stored", |mut caller: Caller<'_, Vec<String>>, block: i32| {
            caller.data_mut().push(format!("stored {block}"));
            if caller.data().len() < 4 { 1 << 28 } else { -1 }
        })
        .unwrap();
    linker
        .func_wrap(types, "[method]connection.is-draining", |mut caller: Caller<'_, Vec<String>>, this: i32| {
            caller.data_mut().push(format!("is-draining {this}"));
            1
        })
        .unwrap();
    linker
        .func_wrap(types, "[resource-drop]connection", |mut caller: Caller<'_, Vec<String>>, this: i32| {
            caller.data_mut().push(format!("drop {this}"));
        })
        .unwrap();
    linker
        .func_wrap("host", "returned", |mut caller: Caller<'_, Vec<String>>, at: i32| {
            caller.data_mut().push(format!("returned {at}"));
        })
        .unwrap();
    let mut store = Store::new(module.engine(), Vec::new());
    store.set_epoch_deadline(1);
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let entry = instance.get_typed_func::<(i32, i32, i32), ()>(&mut store, "entry").unwrap();
    entry.call(&mut store, (7, 8, 9)).unwrap();
    let calls = ["id 7 16", "stored 1024", "stored 1024", "stored 1024", "is-draining 7", "drop 7", "returned 0"];
    assert_eq!(*store.data(), calls);
}
