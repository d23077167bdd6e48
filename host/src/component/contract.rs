//! The declarations of a file, read before anything is compiled: the kind of plugin, the imports
//! that this host lacks, and whether it uses the component model's own concurrency.

use super::{
    backtrace::is_debug_information,
    engine::Concurrency,
    interfaces::{MEMORY, PREVIEW_1, START, provided, provided_0_1},
    kind::{Generation, Kind},
    lowering::{Layer, Links},
    outline::Outline,
    reading::Reading,
    source::ComponentLayer,
};
use crate::record::log;
use serde::{Deserialize, Serialize};
use std::fmt;
use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentDefinedType, ComponentExternalKind, ComponentType,
    Encoding, ExternalKind, Payload, TypeRef,
};
use wasmtime::Engine;

/// The declarations of a plugin.
#[derive(Debug)]
pub(crate) struct Contract {
    /// The kind as which it is served.
    pub(crate) kind: Kind,
    /// The package of its export, with its full version; for a module, the package of its imports.
    pub(crate) built_for: String,
    /// Its imports that this host does not have.
    pub(crate) missing: Vec<String>,
    /// The engine that it needs.
    pub(crate) concurrency: Concurrency,
    /// Whether it imports anything of `wasi:http`, as handlers of requests do, and plugins that
    /// make requests.
    pub(crate) imports_http: bool,
    /// Whether it is a program that does not export its memory.
    pub(crate) lacks_memory: bool,
    /// A hazard in serving it, with the remedy.
    pub(crate) warning: Option<&'static str>,
}

/// The reason for the component layer that the operator gives.
pub(super) const KEPT: &str = "--component-layer keep";

/// The hazard of a component whose adapter and allocator may take the same memory.
const ADAPTER: &str = "the component contains the WASI 0.1 adapter, and its program does not export cabi_realloc: the adapter \
                       gets memory with memory.grow, and an allocator that owns all of memory overwrites it: serve the core module itself, which needs no adapter, or \
     build it for wasm32-wasip2 with a C library of WASI 0.2";

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.built_for)
    }
}

/// Why a file is not a plugin. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not WebAssembly.
    #[error("is not WebAssembly: build a component as docs/getting-started.md shows")]
    NotWasm,
    /// WebAssembly text.
    #[error("is WebAssembly text: turn it into a component first, with `wasm-tools parse`")]
    Text,
    /// A core module that is not a program.
    #[error(
        "is a core WebAssembly module without _start, and so not a program; it exports {}: build it for wasm32-wasip2, or make it a \
         component with `wasm-tools component new`",
        list(.exports)
    )]
    CoreModule {
        /// Its exports.
        exports: Vec<String>,
    },
    /// A program that does not export its memory.
    #[error(
        "does not export its memory as \"memory\", as a program of WASI 0.1 must: build it for wasm32-wasip1, whose linker exports it"
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
        /// Its exports.
        exports: Vec<String>,
    },
    /// Not of the kind that the operator names.
    #[error("does not match --plugin-kind {} ({}); it exports {}: leave the option out, or name another kind", .wanted.word(), .wanted, list(.exports))]
    NotOfKind {
        /// The kind named.
        wanted: Kind,
        /// Its exports.
        exports: Vec<String>,
    },
    /// Another version.
    #[error("was built for {}, and this host serves the releases 0.2 and 0.3 only: build it for one of these", shown(.export))]
    OtherVersion {
        /// Its export.
        export: String,
    },
    /// It needs interfaces that this host does not have.
    #[error("imports interfaces that this host does not have: {}: build it without them, or use a host that has them", list(.0))]
    MissingImports(Vec<String>),
}

/// The first few names; a file may have thousands.
fn list(names: &[String]) -> String {
    const MOST: usize = 8;
    let first: Vec<_> = names.iter().take(MOST).map(|name| shown(name)).collect();
    match names.len().checked_sub(MOST) {
        _ if names.is_empty() => "nothing".to_owned(),
        Some(more @ 1..) => format!("{} and {more} more", first.join(", ")),
        _ => first.join(", "),
    }
}

/// A name from a file, which may be anything: without control characters, and shortened.
fn shown(name: &str) -> String {
    const LONGEST: usize = 200;
    let safe = log::escaped(name);
    match safe.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", safe.get(..end).unwrap_or_default()),
        None => safe,
    }
}

/// The parser's message may be a paragraph, and may quote names.
fn damaged(error: BinaryReaderError) -> Error {
    let message = error.to_string();
    let words: Vec<_> = message.split_whitespace().collect();
    Error::Damaged(log::escaped(&words.join(" ")))
}

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A component.
    Component,
    /// The main module of a component, served without its component layer.
    Lowered,
    /// A core module.
    Module,
}

/// The declarations of a file that decide how it can be served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Declared {
    is_component: bool,
    /// Whether it is a module with a function `_start`.
    starts: bool,
    /// Whether it is a module that exports `memory`.
    has_memory: bool,
    exports: Vec<String>,
    imports: Vec<String>,
    concurrent: bool,
    /// Whether it contains a module that provides WASI 0.1 to a program, in the program's own
    /// memory.
    adapter: bool,
    /// Whether it contains such a program that does not export a function for allocating memory.
    program_without_realloc: bool,
    /// Whether it has debug information.
    pub(crate) is_debuggable: bool,
    /// Whether it is served through the engine's component layer.
    pub(crate) layer: Layer,
}

impl Declared {
    /// Reads the declarations of a file.
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
        if declared.is_component {
            declared.layer = declared.layer_of(bytes);
        }
        Ok(declared)
    }

    fn layer_of(&self, bytes: &[u8]) -> Layer {
        let is_handler = |export: &String| Kind::Handler(Generation::Wasi02).is_made_by(export);
        if !self.exports.iter().all(is_handler) {
            Layer::Needed("only handlers of WASI 0.2 go without it".to_owned())
        } else if self.is_debuggable {
            // It refers to positions in the file, not in a changed module.
            Layer::Needed("it has debug information".to_owned())
        } else {
            Layer::of(bytes)
        }
    }

    /// Decides about the component layer before the plugin is compiled.
    pub(crate) fn settle_layer(&mut self, file: &[u8], engine: &Engine, wanted: ComponentLayer, links: Links) {
        match wanted {
            ComponentLayer::Keep => self.layer = Layer::Needed(KEPT.to_owned()),
            ComponentLayer::Auto => self.layer.confirm(file, engine, links),
        }
    }

    /// Its form.
    pub(crate) fn form(&self) -> Form {
        match self.layer {
            Layer::Lowered(_) => Form::Lowered,
            Layer::Needed(_) if self.is_component => Form::Component,
            Layer::Needed(_) => Form::Module,
        }
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
                    // A component may import types and the like without help from the host. Only
                    // instances are looked up.
                    if import.ty.kind() == ComponentExternalKind::Instance || !import.name.name.contains(':') {
                        self.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ExportSection(section) if *depth == 1 => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    self.starts |= export.name == START && export.kind == ExternalKind::Func;
                    self.has_memory |= export.name == MEMORY && export.kind == ExternalKind::Memory;
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
                    // Only missing names are kept, for the message.
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

    /// The contract that it can be served by: of the kind `wanted`, or of the first kind that fits.
    pub(crate) fn contract(&self, wanted: Option<Kind>) -> Result<Contract, Error> {
        let made_by = |kind: Kind| match kind {
            Kind::Module => self.starts.then_some(START),
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

    /// Why it is not of any kind, or not of the kind asked for.
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

/// The package of an interface, with its version. A module names it in its imports.
fn package(export: &str) -> String {
    match export.split_once('/').zip(export.split_once('@')) {
        Some(((package, _), (_, version))) => format!("{package}@{version}"),
        None => PREVIEW_1.to_owned(),
    }
}

/// Whether a canonical definition needs the concurrent engine.
fn uses_concurrency(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().any(|option| matches!(option, CanonicalOption::Async | CanonicalOption::Callback(_)))
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        // Everything else: tasks, subtasks, streams, futures, waitable sets, error contexts,
        // threads.
        _ => true,
    }
}

#[cfg(test)]
mod tests;
