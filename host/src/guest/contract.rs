//! What a file says of itself, read before anything is compiled: whether it is a component, which contract it exports, what
//! it imports, and whether it uses the component model's own concurrency.

use super::engine::Concurrency;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentDefinedType, ComponentExternalKind, ComponentType, Encoding, Parser,
    Payload,
};

/// The interface that a plugin exports, less its version.
const HANDLER: &str = "uninterruptible:server/handler";

/// Our package's versions, one for each generation of WASI. The minor version is the generation; a plugin built for another
/// patch version is served where it needs nothing that is missing here.
pub(super) const VERSION_0_2: &str = "0.2.0";
pub(super) const VERSION_0_3: &str = "0.3.0";

/// Interfaces that the host has, with the package's minor version.
const PROVIDED: [(&str, Generation); 52] = {
    use Generation::{Wasi02, Wasi03};
    [
        ("uninterruptible:server/types", Wasi02),
        ("uninterruptible:server/drain", Wasi02),
        ("wasi:cli/environment", Wasi02),
        ("wasi:cli/exit", Wasi02),
        ("wasi:cli/stdin", Wasi02),
        ("wasi:cli/stdout", Wasi02),
        ("wasi:cli/stderr", Wasi02),
        ("wasi:cli/terminal-input", Wasi02),
        ("wasi:cli/terminal-output", Wasi02),
        ("wasi:cli/terminal-stdin", Wasi02),
        ("wasi:cli/terminal-stdout", Wasi02),
        ("wasi:cli/terminal-stderr", Wasi02),
        ("wasi:clocks/monotonic-clock", Wasi02),
        ("wasi:clocks/wall-clock", Wasi02),
        ("wasi:filesystem/preopens", Wasi02),
        ("wasi:filesystem/types", Wasi02),
        ("wasi:io/error", Wasi02),
        ("wasi:io/poll", Wasi02),
        ("wasi:io/streams", Wasi02),
        ("wasi:random/insecure", Wasi02),
        ("wasi:random/insecure-seed", Wasi02),
        ("wasi:random/random", Wasi02),
        ("wasi:sockets/instance-network", Wasi02),
        ("wasi:sockets/ip-name-lookup", Wasi02),
        ("wasi:sockets/network", Wasi02),
        ("wasi:sockets/tcp", Wasi02),
        ("wasi:sockets/tcp-create-socket", Wasi02),
        ("wasi:sockets/udp", Wasi02),
        ("wasi:sockets/udp-create-socket", Wasi02),
        ("uninterruptible:server/types", Wasi03),
        ("uninterruptible:server/drain", Wasi03),
        ("wasi:cli/environment", Wasi03),
        ("wasi:cli/exit", Wasi03),
        ("wasi:cli/stdin", Wasi03),
        ("wasi:cli/stdout", Wasi03),
        ("wasi:cli/stderr", Wasi03),
        ("wasi:cli/types", Wasi03),
        ("wasi:cli/terminal-input", Wasi03),
        ("wasi:cli/terminal-output", Wasi03),
        ("wasi:cli/terminal-stdin", Wasi03),
        ("wasi:cli/terminal-stdout", Wasi03),
        ("wasi:cli/terminal-stderr", Wasi03),
        ("wasi:clocks/monotonic-clock", Wasi03),
        ("wasi:clocks/system-clock", Wasi03),
        ("wasi:clocks/types", Wasi03),
        ("wasi:filesystem/preopens", Wasi03),
        ("wasi:filesystem/types", Wasi03),
        ("wasi:random/insecure", Wasi03),
        ("wasi:random/insecure-seed", Wasi03),
        ("wasi:random/random", Wasi03),
        ("wasi:sockets/ip-name-lookup", Wasi03),
        ("wasi:sockets/types", Wasi03),
    ]
};

/// A generation of WASI, and of our contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// 0.2.
    Wasi02,
    /// 0.3.
    Wasi03,
}

/// What a component says of itself.
#[derive(Debug)]
pub(super) struct Contract {
    /// Which contract it exports; the newer where it exports both.
    pub(super) generation: Generation,
    /// The full version of our package that it was built for.
    pub(super) version: String,
    /// Which engine can run it.
    pub(super) concurrency: Concurrency,
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
    /// A core module.
    #[error(
        "is a core WebAssembly module, no component: build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Damaged.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// Not a plugin.
    #[error("does not export {HANDLER}@0.2 or @0.3; it exports {}: build it for the world in wit/", list(.exports))]
    NoHandler {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// Another version.
    #[error(
        "was built for {HANDLER}@{version}, this host has @{VERSION_0_2} and @{VERSION_0_3}: build it for one of these"
    )]
    OtherVersion {
        /// What it was built for.
        version: String,
    },
    /// Needs what is not here.
    #[error("imports what this host does not have: {}: build it without, or serve it with a host that has it", list(.0))]
    MissingImports(Vec<String>),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Reads a component.
pub(super) fn read(bytes: &[u8]) -> Result<Contract, Error> {
    if !bytes.starts_with(b"\0asm") {
        let text = std::str::from_utf8(bytes).is_ok_and(|text| text.trim_start().starts_with('('));
        return Err(if text { Error::Text } else { Error::NotWasm });
    }
    let mut reading = Reading::default();
    for payload in Parser::new(0).parse_all(bytes) {
        reading.payload(payload.map_err(damaged)?)?;
    }
    reading.judge()
}

fn damaged(error: wasmparser::BinaryReaderError) -> Error {
    Error::Damaged(error.to_string())
}

#[derive(Default)]
struct Reading {
    /// How many components and modules enclose what is read; 1 is the plugin itself.
    depth: usize,
    exports: Vec<String>,
    imports: Vec<String>,
    concurrent: bool,
}

impl Reading {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.depth += 1;
                if self.depth == 1 && encoding == Encoding::Module {
                    return Err(Error::CoreModule);
                }
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentExportSection(section) if self.depth == 1 => {
                for export in section {
                    self.exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section {
                    let import = import.map_err(damaged)?;
                    // A component may import types and the like without a host's help; only instances are looked up.
                    if import.ty.kind() == ComponentExternalKind::Instance || !import.name.name.contains(':') {
                        self.imports.push(import.name.name.to_owned());
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

    fn judge(self) -> Result<Contract, Error> {
        let versions: Vec<&str> =
            self.exports.iter().filter_map(|name| name.strip_prefix(HANDLER)?.strip_prefix('@')).collect();
        let of = |minor: &str| versions.iter().find(|version| version.starts_with(minor) && !version.contains('-'));
        let (generation, version) = match (of("0.3."), of("0.2.")) {
            (Some(version), _) => (Generation::Wasi03, *version),
            (None, Some(version)) => (Generation::Wasi02, *version),
            (None, None) => {
                return Err(match versions.first() {
                    Some(version) => Error::OtherVersion { version: (*version).to_owned() },
                    None => Error::NoHandler { exports: self.exports },
                });
            }
        };
        let missing: Vec<String> = self.imports.iter().filter(|name| !provided(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(Error::MissingImports(missing));
        }
        let concurrent = self.concurrent
            || generation == Generation::Wasi03
            || self.imports.iter().any(|name| name.contains("@0.3."));
        Ok(Contract {
            generation,
            version: version.to_owned(),
            concurrency: if concurrent { Concurrency::Concurrent } else { Concurrency::Plain },
        })
    }
}

/// Whether this host has an interface.
pub(super) fn provided(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    PROVIDED.iter().any(|(name, generation)| {
        *name == interface
            && match generation {
                Generation::Wasi02 => version.starts_with("0.2."),
                Generation::Wasi03 => version.starts_with("0.3."),
            }
            && !version.contains('-')
    })
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
    use crate::guest::{engine, state};
    use wasmtime::component::{Component, Linker};

    fn component(body: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {body})")).unwrap()
    }

    const HANDLER_0_2: &str = r#"(instance $h) (export "uninterruptible:server/handler@0.2.0" (instance $h))"#;

    /// An item of each package and generation, so that a whole package that is listed and not linked is found.
    #[test]
    fn what_is_said_to_be_provided_can_be_linked() {
        const RESOURCE: &str = "(type (sub resource))";
        let engine = engine::compiler(Concurrency::Concurrent).unwrap();
        let mut linker = Linker::new(&engine);
        state::link_wasi_0_2(&mut linker).unwrap();
        state::link_wasi_0_3(&mut linker).unwrap();
        let links = |interface: &str, item: &str, ty: &str| {
            let import = component(&format!(r#"(import "{interface}" (instance (export "{item}" {ty})))"#));
            linker.instantiate_pre(&Component::new(&engine, import).unwrap()).is_ok()
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
            ("wasi:io/error@0.2.0", "error", RESOURCE),
            ("wasi:io/poll@0.2.0", "pollable", RESOURCE),
            ("wasi:io/streams@0.2.0", "input-stream", RESOURCE),
            ("wasi:random/random@0.2.0", "get-random-u64", "(func (result u64))"),
            ("wasi:random/random@0.3.0", "get-random-u64", "(func (result u64))"),
            ("wasi:sockets/network@0.2.0", "network", RESOURCE),
            ("wasi:sockets/types@0.3.0", "tcp-socket", RESOURCE),
        ] {
            assert!(provided(interface), "{interface} is not listed");
            assert!(links(interface, item, ty), "{interface} is listed and does not link");
        }
        assert!(!provided("wasi:http/types@0.2.0"));
        assert!(!links("wasi:http/types@0.2.0", "fields", RESOURCE), "a name that is missing does not link");
    }

    #[test]
    fn versions_are_chosen_by_the_generation() {
        let both = r#"(instance $h)
            (export "uninterruptible:server/handler@0.2.7" (instance $h))
            (export "uninterruptible:server/handler@0.3.1" (instance $h))"#;
        let contract = read(&component(both)).unwrap();
        assert_eq!((contract.generation, contract.version.as_str()), (Generation::Wasi03, "0.3.1"));
        let contract = read(&component(HANDLER_0_2)).unwrap();
        assert_eq!((contract.generation, contract.concurrency), (Generation::Wasi02, Concurrency::Plain));
    }

    #[test]
    fn pre_release_versions_are_not_served() {
        let early = r#"(instance $h) (export "uninterruptible:server/handler@0.3.0-rc.1" (instance $h))"#;
        assert!(matches!(read(&component(early)), Err(Error::OtherVersion { .. })));
        let needs_early = format!(r#"(import "wasi:cli/stdin@0.3.0-rc.1" (instance)) {HANDLER_0_2}"#);
        assert!(matches!(read(&component(&needs_early)), Err(Error::MissingImports(_))));
    }

    #[test]
    fn concurrency_is_found_wherever_it_hides() {
        for hidden in [
            r#"(type (stream u8))"#,
            r#"(component (type (future)))"#,
            r#"(component (component (core func (canon waitable-set.new))))"#,
            r#"(import "wasi:clocks/monotonic-clock@0.3.0" (instance))"#,
        ] {
            let contract = read(&component(&format!("{hidden} {HANDLER_0_2}"))).unwrap();
            assert_eq!(contract.concurrency, Concurrency::Concurrent, "{hidden}");
        }
    }

    #[test]
    fn only_the_outermost_names_count() {
        let nested = format!(r#"(component (import "acme:db/store@1.0.0" (instance)) {HANDLER_0_2})"#);
        assert!(matches!(read(&component(&nested)), Err(Error::NoHandler { exports }) if exports.is_empty()));
    }
}
