//! What a file says of itself, read before anything is compiled: what kind of plugin it is, what it imports that is missing here,
//! and whether it uses the component model's own concurrency.

use super::{
    backtrace::is_debug_information,
    engine::Concurrency,
    interfaces::{PREVIEW_1, provided, provided_0_1},
    kind::{Generation, Kind},
    outline::Outline,
    program,
    reading::Reading,
};
use crate::log;
use serde::{Deserialize, Serialize};
use std::fmt;
use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentDefinedType, ComponentExternalKind, ComponentType,
    Encoding, ExternalKind, Payload, TypeRef,
};

/// What a plugin says of itself.
#[derive(Debug)]
pub(crate) struct Contract {
    /// How it is to be served.
    pub(crate) kind: Kind,
    /// The package of what it exports, with its full version; of a module, that of what it imports.
    pub(super) built_for: String,
    /// What it imports that this host does not have.
    pub(super) missing: Vec<String>,
    /// Which engine can run it.
    pub(super) concurrency: Concurrency,
    /// Whether it imports anything of `wasi:http`, as handlers of requests do, and others that make requests.
    pub(super) imports_http: bool,
    /// Whether it is a program whose memory the host cannot see.
    pub(super) lacks_memory: bool,
    /// A hazard in serving it, with the remedy.
    pub(super) warning: Option<&'static str>,
}

/// The hazard of a component whose adapter takes memory that its program's allocator may take too.
const ADAPTER: &str = "the component carries the WASI 0.1 adapter, and its program exports no cabi_realloc: the adapter takes memory \
     by memory.grow, and an allocator that owns all of memory overwrites it: serve the core module itself, which needs no adapter, or \
     build it for wasm32-wasip2 with a C library of WASI 0.2";

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.built_for)
    }
}

/// Why a file is no plugin. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not WebAssembly.
    #[error("is no WebAssembly component, and no WebAssembly at all: build one as docs/plugins.md shows")]
    NotWasm,
    /// WebAssembly text.
    #[error("is WebAssembly text: turn it into a component first, with `wasm-tools parse`")]
    Text,
    /// A core module that is no program.
    #[error(
        "is a core WebAssembly module without _start, and so no program; it exports {}: build it for wasm32-wasip2, or make it a \
         component with `wasm-tools component new`",
        list(.exports)
    )]
    CoreModule {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// A program that does not export its memory.
    #[error(
        "exports no memory by the name of \"memory\", as a program of WASI 0.1 does: build it for wasm32-wasip1, whose linker does so"
    )]
    NoMemory,
    /// Damaged.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// Not a plugin.
    #[error(
        "does not export uninterruptible:server/handler, wasi:http/incoming-handler, wasi:http/handler or wasi:cli/run; it exports {}: \
         build it for the world in wit/, or as a program with a main function",
        list(.exports)
    )]
    NoKind {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// Not what the operator says that it is.
    #[error("is no {}, as --plugin-kind {} says; it exports {}: leave the option out, or name another kind", .wanted, .wanted.word(), list(.exports))]
    NotOfKind {
        /// What it should be.
        wanted: Kind,
        /// What it exports.
        exports: Vec<String>,
    },
    /// Another version.
    #[error("was built for {}, of which this host serves the releases 0.2 and 0.3: build it for one of these", shown(.export))]
    OtherVersion {
        /// What it exports.
        export: String,
    },
    /// Needs what is not here.
    #[error("imports what this host does not have: {}: build it without, or serve it with a host that has it", list(.0))]
    MissingImports(Vec<String>),
}

/// The first of them; a file may have thousands.
fn list(names: &[String]) -> String {
    const MOST: usize = 8;
    let first: Vec<_> = names.iter().take(MOST).map(|name| shown(name)).collect();
    match names.len().checked_sub(MOST) {
        _ if names.is_empty() => "nothing".to_owned(),
        Some(more @ 1..) => format!("{} and {more} more", first.join(", ")),
        _ => first.join(", "),
    }
}

/// A name as a file has it, which may be anything: without control characters, and cut where it is longer than names are.
fn shown(name: &str) -> String {
    const LONGEST: usize = 200;
    let safe = log::escaped(name);
    match safe.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", safe.get(..end).unwrap_or_default()),
        None => safe,
    }
}

/// The parser's message is a paragraph for some files, and may quote names.
fn damaged(error: BinaryReaderError) -> Error {
    let message = error.to_string();
    let words: Vec<_> = message.split_whitespace().collect();
    Error::Damaged(log::escaped(&words.join(" ")))
}

/// What a file is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A component.
    Component,
    /// A core module.
    Module,
}

/// What a file declares, of which follows what it can be served as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Declared {
    is_component: bool,
    /// Whether it is a module with a function of that name.
    starts: bool,
    /// Whether it is a module with a memory of that name.
    has_memory: bool,
    exports: Vec<String>,
    imports: Vec<String>,
    concurrent: bool,
    /// Whether a module in it gives a program of WASI 0.1 what that imports, in the program's own memory.
    adapter: bool,
    /// Whether a module in it is such a program, and has no function by which others could ask it for memory.
    program_without_realloc: bool,
    /// Whether it carries debug information.
    pub(super) is_debuggable: bool,
}

impl Declared {
    /// Reads a file.
    pub(crate) fn by(bytes: &[u8]) -> Result<Self, Error> {
        if !bytes.starts_with(b"\0asm") {
            let text = std::str::from_utf8(bytes).is_ok_and(|text| text.trim_start().starts_with('('));
            return Err(if text { Error::Text } else { Error::NotWasm });
        }
        let mut declared = Self::default();
        let mut reading = Reading::default();
        for payload in Outline::of(bytes) {
            let payload = payload.map_err(damaged)?;
            reading.payload(&payload).map_err(damaged)?;
            declared.payload(payload, &reading)?;
            if let Some(part) = reading.ended.take() {
                declared.adapter |= part.is_adapter();
                declared.program_without_realloc |= part.imports_wasi && !part.has_realloc;
            }
        }
        Ok(declared)
    }

    /// What it is made as.
    pub(super) fn form(&self) -> Form {
        if self.is_component { Form::Component } else { Form::Module }
    }

    fn payload(&mut self, payload: Payload<'_>, reading: &Reading) -> Result<(), Error> {
        let Reading { depth, signatures, .. } = reading;
        match payload {
            Payload::Version { encoding, .. } => {
                self.is_component |= *depth == 1 && encoding == Encoding::Component;
            }
            Payload::CustomSection(section) => self.is_debuggable |= is_debug_information(section.name()),
            Payload::ComponentExportSection(section) if *depth == 1 => {
                for export in section {
                    self.exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if *depth == 1 => {
                for import in section {
                    let import = import.map_err(damaged)?;
                    // A component may import types and the like without a host's help; only instances are looked up.
                    if import.ty.kind() == ComponentExternalKind::Instance || !import.name.name.contains(':') {
                        self.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ExportSection(section) if *depth == 1 => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    self.starts |= export.name == program::START && export.kind == ExternalKind::Func;
                    self.has_memory |= export.name == program::MEMORY && export.kind == ExternalKind::Memory;
                    self.exports.push(export.name.to_owned());
                }
            }
            Payload::ImportSection(section) if *depth == 1 => {
                for import in section.into_imports() {
                    let import = import.map_err(damaged)?;
                    let signature = match import.ty {
                        TypeRef::Func(index) => signatures.get(index as usize).and_then(Option::as_deref),
                        _ => None,
                    };
                    let is_wasi = import.module == PREVIEW_1;
                    // What there is needs no mention; of the rest each name tells what was forgotten.
                    if !is_wasi || signature.is_none_or(|signature| !provided_0_1(import.name, signature)) {
                        self.imports.push(format!("{}.{}", import.module, import.name));
                    }
                }
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section {
                    self.concurrent |= match ty.map_err(damaged)? {
                        ComponentType::Defined(ComponentDefinedType::Stream(_) | ComponentDefinedType::Future(_)) => {
                            true
                        }
                        ComponentType::Func(function) => function.async_,
                        _ => false,
                    };
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.concurrent |= uses_concurrency(&function.map_err(damaged)?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What it can be served as: of the kind that is `wanted`, or of the first that it is.
    pub(crate) fn contract(&self, wanted: Option<Kind>) -> Result<Contract, Error> {
        let made_by = |kind: Kind| match kind {
            Kind::Module => self.starts.then_some(program::START),
            kind if self.is_component => self.exports.iter().map(String::as_str).find(|export| kind.is_made_by(export)),
            _ => None,
        };
        let found = Kind::ALL.into_iter().filter(|kind| wanted.is_none_or(|wanted| wanted == *kind));
        let Some((kind, export)) = found.into_iter().find_map(|kind| Some((kind, made_by(kind)?))) else {
            return Err(self.refused(wanted));
        };
        let missing: Vec<String> = self.imports.iter().filter(|name| !provided(name, Some(kind))).cloned().collect();
        let concurrent = self.concurrent
            || kind.generation() == Some(Generation::Wasi03)
            || self.imports.iter().any(|name| name.contains("@0.3."));
        Ok(Contract {
            kind,
            built_for: package(export),
            missing,
            imports_http: self.imports.iter().any(|name| name.starts_with("wasi:http/")),
            concurrency: if concurrent { Concurrency::Concurrent } else { Concurrency::Plain },
            lacks_memory: kind == Kind::Module && !self.has_memory,
            warning: (self.adapter && self.program_without_realloc).then_some(ADAPTER),
        })
    }

    /// Why it is none of the kinds, or not the one that was asked for.
    fn refused(&self, wanted: Option<Kind>) -> Error {
        let (exports, is_component) = (self.exports.clone(), self.is_component);
        if let Some(wanted) = wanted {
            return Error::NotOfKind { wanted, exports };
        }
        if !is_component {
            return Error::CoreModule { exports };
        }
        let another_version = |export: &&String| {
            let interface = export.split_once('@').map(|(interface, _version)| interface);
            Kind::ALL.iter().any(|kind| Some(kind.export()) == interface)
        };
        match exports.iter().find(another_version) {
            Some(export) => Error::OtherVersion { export: export.clone() },
            None => Error::NoKind { exports },
        }
    }
}

/// That of an interface, with its version. A module names it where it imports.
fn package(export: &str) -> String {
    match export.split_once('/').zip(export.split_once('@')) {
        Some(((package, _), (_, version))) => format!("{package}@{version}"),
        None => PREVIEW_1.to_owned(),
    }
}

/// Whether a canonical definition is one that only the concurrent engine has.
fn uses_concurrency(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().any(|option| matches!(option, CanonicalOption::Async | CanonicalOption::Callback(_)))
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        // Everything else that there is: tasks, subtasks, streams, futures, waitable sets, error contexts, threads.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{engine, outgoing, state};
    use wasmtime::component::{Component, Linker};

    fn read(file: &[u8], wanted: Option<Kind>) -> Result<Contract, Error> {
        Declared::by(file)?.contract(wanted)
    }

    fn component(body: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {body})")).unwrap()
    }

    #[test]
    fn each_reason_is_one_short_line_whatever_the_names_of_the_file() {
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

    /// An item of each package and generation, so that a whole package that is listed and not linked is found.
    #[test]
    fn what_is_said_to_be_provided_can_be_linked() {
        const RESOURCE: &str = "(type (sub resource))";
        let engine = engine::compiler(Concurrency::Concurrent).unwrap();
        let mut linker = Linker::new(engine);
        state::link_wasi_0_2(&mut linker).unwrap();
        state::link_wasi_0_3(&mut linker).unwrap();
        outgoing::link_wasi_0_2(&mut linker).unwrap();
        outgoing::link_wasi_0_3(&mut linker).unwrap();
        let links = |interface: &str, item: &str, ty: &str| {
            let import = component(&format!(r#"(import "{interface}" (instance (export "{item}" {ty})))"#));
            linker.instantiate_pre(&Component::new(engine, import).unwrap()).is_ok()
        };
        for (interface, item, ty) in [
            ("uninterruptible:server/types@0.2.0", "connection", RESOURCE),
            ("uninterruptible:server/types@0.3.0", "connection", RESOURCE),
            ("wasi:cli/environment@0.2.0", "get-arguments", "(func (result (list string)))"),
            ("wasi:cli/environment@0.3.0", "get-arguments", "(func (result (list string)))"),
            ("wasi:cli/terminal-input@0.2.0", "terminal-input", RESOURCE),
            ("wasi:cli/terminal-input@0.3.0", "terminal-input", RESOURCE),
            ("wasi:clocks/monotonic-clock@0.2.0", "now", "(func (result u64))"),
            ("wasi:clocks/monotonic-clock@0.3.0", "now", "(func (result u64))"),
            ("wasi:filesystem/types@0.2.0", "descriptor", RESOURCE),
            ("wasi:filesystem/types@0.3.0", "descriptor", RESOURCE),
            ("wasi:http/types@0.2.0", "fields", RESOURCE),
            ("wasi:http/types@0.3.0", "fields", RESOURCE),
            ("wasi:io/error@0.2.0", "error", RESOURCE),
            ("wasi:io/poll@0.2.0", "pollable", RESOURCE),
            ("wasi:io/streams@0.2.0", "input-stream", RESOURCE),
            ("wasi:random/random@0.2.0", "get-random-u64", "(func (result u64))"),
            ("wasi:random/random@0.3.0", "get-random-u64", "(func (result u64))"),
            ("wasi:sockets/network@0.2.0", "network", RESOURCE),
            ("wasi:sockets/types@0.3.0", "tcp-socket", RESOURCE),
        ] {
            assert!(provided(interface, None), "{interface} is not listed");
            assert!(links(interface, item, ty), "{interface} is listed and does not link");
        }
        assert!(!provided("acme:db/store@1.0.0", None));
        assert!(!links("acme:db/store@1.0.0", "store", RESOURCE), "a name that is missing does not link");
    }

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
    fn only_the_outermost_names_count() {
        let nested = format!(r#"(component (import "acme:db/store@1.0.0" (instance)) {HANDLER_0_2})"#);
        assert!(matches!(read(&component(&nested), None), Err(Error::NoKind { exports }) if exports.is_empty()));
    }

    /// A file with several exports, and one of them.
    fn kind_of(exports: &[&str], wanted: Option<Kind>) -> Result<Kind, Error> {
        let exports = exports.iter().map(|name| format!(r#"(export "{name}" (instance $i))"#)).collect::<String>();
        read(&component(&format!("(instance $i) {exports}")), wanted).map(|contract| contract.kind)
    }

    #[test]
    fn the_first_kind_that_a_file_is_wins() {
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
        assert!(not_it.contains("--plugin-kind http-0.2 says; it exports wasi:cli/run@0.2.6:"), "{not_it}");
    }

    #[test]
    fn a_module_is_a_program_where_it_starts() {
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
        for export in ["wasi:http/incoming-handler@0.2.4", "wasi:cli/run@0.2.4", "uninterruptible:server/handler@0.2.0"]
        {
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
        assert!(!warns(&wasi(realloc, shared)), "it is asked for memory");
        assert!(!warns(&wasi("", "(memory 1)")), "it has its own memory");
        assert!(!warns(HANDLER_0_2));
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..2000).map(|n| format!("f{n}")).collect();
        assert_eq!(list(&names), "f0, f1, f2, f3, f4, f5, f6, f7 and 1992 more");
        assert_eq!(list(&names[..8]), "f0, f1, f2, f3, f4, f5, f6, f7");
    }
}
