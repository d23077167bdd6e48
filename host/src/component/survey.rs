//! A description of a file before it is served: its declarations, and what its guests would be
//! given and denied. Nothing is compiled. A file that is not a plugin is described too, as far as
//! it is WebAssembly.

use super::{
    cache::Cache,
    contract::{self, Declared, KEPT},
    engine::Concurrency,
    file::PluginFile,
    interfaces::provided,
    kind::Kind,
    loaded,
    lowering::Layer,
    problem::Problem,
    source::{ComponentLayer, Wasi03},
};
use crate::record::{digest::Digest, log};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};
use wasmparser::{Encoding, KnownCustom, Parser, Payload, Validator, WasmFeatures};

/// The most producers listed. Toolchains name only a few.
const MOST_PRODUCERS: usize = 64;

/// The description of a file.
#[derive(Debug)]
pub struct Survey {
    /// Its length in bytes.
    pub size: usize,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its kind, in a few words.
    pub kind: String,
    /// Why this host does not serve it; `None` if it does.
    pub refusal: Option<String>,
    /// A hazard in serving it, with the remedy.
    pub warning: Option<&'static str>,
    /// Its exports, in order.
    pub exports: Vec<String>,
    /// Its imports, in order.
    pub imports: Vec<Import>,
    /// Its linear memories.
    pub memories: Memories,
    /// The tools that made it, with their versions.
    pub producers: Vec<(String, String)>,
    /// Whether it needs the engine with the component model's own concurrency. `None` for a file
    /// that is not served.
    pub concurrent: Option<bool>,
    /// Why it is served through the engine's component layer; `None` if it is not.
    pub needs_layer: Option<String>,
    /// The path of its compiled form, if the cache has it.
    pub compiled: Option<PathBuf>,
}

/// An import of a file.
#[derive(Debug)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// The access that a guest gets.
    pub access: Access,
}

/// The access that a guest gets to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It works.
    Given,
    /// It answers "access denied" without this option.
    DeniedWithout(&'static str),
    /// It is empty without this option.
    EmptyWithout(&'static str),
    /// It answers "access denied".
    Denied,
    /// This host does not have it.
    Missing,
}

/// The linear memories of all modules in a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memories {
    /// Their number.
    pub count: usize,
    /// Initial bytes, summed.
    pub initial: u64,
    /// Maximum bytes, summed; `None` if one memory has no maximum.
    pub maximum: Option<u64>,
}

impl Survey {
    /// Describes a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not complete WebAssembly.
    pub fn of(
        path: &Path,
        kind: Option<Kind>,
        cache_dir: Option<&Path>,
        wasi_0_3: Wasi03,
        layer: ComponentLayer,
        guest_memory: usize,
    ) -> Result<Self, Problem> {
        Self::of_bytes(&PluginFile::open(path)?.bytes()?, kind, cache_dir, wasi_0_3, layer, guest_memory)
    }

    fn of_bytes(
        bytes: &[u8],
        wanted: Option<Kind>,
        cache_dir: Option<&Path>,
        wasi_0_3: Wasi03,
        layer: ComponentLayer,
        guest_memory: usize,
    ) -> Result<Self, Problem> {
        let declared = Declared::by(bytes);
        let needs_layer = match declared.as_ref().map(|declared| &declared.layer) {
            _ if layer == ComponentLayer::Keep => Some(KEPT.to_owned()),
            Ok(Layer::Lowered(_)) | Err(_) => None,
            Ok(Layer::Needed(why)) => Some(why.clone()),
        };
        let contract = match declared.and_then(|declared| declared.contract(wanted)) {
            Err(error @ (contract::Error::NotWasm | contract::Error::Text | contract::Error::Damaged(_))) => {
                return Err(error.into());
            }
            contract => contract,
        };
        let reading = Reading::of(bytes).map_err(|error| contract::Error::Damaged(error.to_string()))?;
        let memories = reading.memories;
        let refusal = contract.as_ref().ok().and_then(|contract| {
            loaded::refused(contract, wasi_0_3).or_else(|| invalid(bytes)).or_else(|| {
                (memories.initial > guest_memory as u64)
                    .then_some(Problem::Memory { needed: memories.initial, given: guest_memory })
            })
        });
        let (kind, refusal) = match &contract {
            Ok(contract) => (contract.to_string(), refusal.map(|problem| problem.to_string())),
            Err(error) => {
                (if reading.is_component { "component" } else { "core module" }.to_owned(), Some(error.to_string()))
            }
        };
        let served_as = contract.as_ref().ok().map(|contract| contract.kind);
        let compiled = contract.as_ref().ok().and_then(|_| Cache::open(cache_dir, layer).holds(&blake3::hash(bytes)));
        let import = |name: &String| Import { name: log::escaped(name), access: access(name, served_as) };
        Ok(Self {
            size: bytes.len(),
            digest: Digest::of(bytes),
            kind: log::escaped(&kind),
            refusal: refusal.as_deref().map(log::escaped),
            warning: contract.as_ref().ok().and_then(|contract| contract.warning),
            imports: reading.imports.iter().map(import).collect(),
            exports: reading.exports.iter().map(|name| log::escaped(name)).collect(),
            memories,
            needs_layer: needs_layer.as_deref().map(log::escaped),
            producers: reading.producers,
            concurrent: contract.ok().map(|contract| contract.concurrency == Concurrency::Concurrent),
            compiled,
        })
    }
}

/// Why an engine could not compile it, if so. The compiler finds out what this host's engine does
/// not support.
fn invalid(bytes: &[u8]) -> Option<Problem> {
    let found = Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).err()?;
    Some(contract::Error::Damaged(found.to_string()).into())
}

/// The access that `contract` and `grants` give to an import.
fn access(import: &str, kind: Option<Kind>) -> Access {
    let interface = import.split_once('@').map_or(import, |(interface, _version)| interface);
    match interface {
        _ if !provided(import, kind) => Access::Missing,
        "wasi:cli/environment" => Access::EmptyWithout("--guest-env, --guest-arg"),
        "wasi:filesystem/preopens" => Access::EmptyWithout("--guest-dir"),
        "wasi:sockets/ip-name-lookup" => Access::DeniedWithout("--guest-connect with a name"),
        "wasi:sockets/udp" | "wasi:sockets/udp-create-socket" => Access::Denied,
        "wasi:http/outgoing-handler" | "wasi:http/client" => Access::DeniedWithout("--guest-connect"),
        _ if interface.starts_with("wasi:sockets/") => Access::DeniedWithout("--guest-connect"),
        _ if interface.starts_with("wasi:filesystem/") => Access::DeniedWithout("--guest-dir"),
        _ => Access::Given,
    }
}

#[derive(Default)]
struct Reading {
    depth: usize,
    is_component: bool,
    exports: Vec<String>,
    imports: Vec<String>,
    /// The interfaces that a module imports from.
    modules: HashSet<String>,
    memories: Memories,
    producers: Vec<(String, String)>,
}

impl Reading {
    fn of(bytes: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let mut reading = Self { memories: Memories { maximum: Some(0), ..Memories::default() }, ..Self::default() };
        for payload in Parser::new(0).parse_all(bytes) {
            reading.payload(payload?)?;
        }
        Ok(reading)
    }

    fn payload(&mut self, payload: Payload<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.depth += 1;
                self.is_component |= encoding == Encoding::Component;
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentExportSection(section) if self.depth == 1 => {
                for export in section {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ExportSection(section) if self.depth == 1 => {
                for export in section {
                    self.exports.push(export?.name.to_owned());
                }
            }
            Payload::ImportSection(section) if self.depth == 1 => {
                for import in section.into_imports() {
                    let module = import?.module;
                    if self.modules.insert(module.to_owned()) {
                        self.imports.push(module.to_owned());
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    let bytes = |pages: u64| pages.saturating_mul(1 << memory.page_size_log2.unwrap_or(16).min(16));
                    let Memories { count, initial, maximum } = &mut self.memories;
                    *count += 1;
                    *initial = initial.saturating_add(bytes(memory.initial));
                    *maximum = maximum.zip(memory.maximum).map(|(sum, pages)| sum.saturating_add(bytes(pages)));
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    // Nothing depends on this section, so it may be damaged.
                    fields.into_iter().flatten().for_each(|field| self.produced_by(field));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn produced_by(&mut self, field: wasmparser::ProducersField<'_>) {
        for value in field.values.into_iter().flatten() {
            let producer = (log::escaped(value.name), log::escaped(value.version));
            if self.producers.len() < MOST_PRODUCERS && !self.producers.contains(&producer) {
                self.producers.push(producer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(text: &str) -> Survey {
        Survey::of_bytes(&wat::parse_str(text).unwrap(), None, None, Wasi03::Served, ComponentLayer::Auto, 1 << 20)
            .unwrap()
    }

    #[test]
    fn the_exports_decide_the_kind() {
        for (text, kind) in [
            (
                r#"(component (instance $h) (export "uninterruptible:server/handler@0.2.0" (instance $h)))"#,
                "handler of WASI 0.2",
            ),
            (
                r#"(component (instance $h) (export "wasi:http/handler@0.3.0" (instance $h)))"#,
                "HTTP handler of WASI 0.3",
            ),
            (
                r#"(component (instance $h) (export "wasi:http/incoming-handler@0.2.4" (instance $h)))"#,
                "HTTP handler of WASI 0.2",
            ),
            (r#"(component (instance $h) (export "wasi:cli/run@0.3.0" (instance $h)))"#, "command of WASI 0.3"),
            (r#"(component (instance $h) (export "wasi:cli/run@0.2.0" (instance $h)))"#, "command of WASI 0.2"),
            (r#"(module (memory (export "memory") 1) (func (export "_start")))"#, "command of WASI 0.1"),
            (r#"(module (import "a" "b" (func)))"#, "core module"),
            (r#"(component)"#, "component"),
        ] {
            let survey = survey(text);
            assert!(survey.kind.contains(kind), "{} for {text}", survey.kind);
            let is_served = kind.contains("WASI");
            assert_eq!(survey.refusal.is_none(), is_served, "{text}: {:?}", survey.refusal);
        }
    }

    #[test]
    fn memories_are_summed() {
        let bounded = survey("(component (core module (memory 1 2)) (core module (memory 3 4)))").memories;
        assert_eq!((bounded.count, bounded.initial, bounded.maximum), (2, 4 << 16, Some(6 << 16)));
        let unbounded = survey("(component (core module (memory 1 2)) (core module (memory 3)))").memories;
        assert_eq!(unbounded.maximum, None);
    }

    #[test]
    fn each_import_has_its_access() {
        for (import, expected) in [
            ("wasi:clocks/wall-clock@0.2.3", Access::Given),
            ("wasi:cli/environment@0.2.0", Access::EmptyWithout("--guest-env, --guest-arg")),
            ("wasi:filesystem/types@0.3.0", Access::DeniedWithout("--guest-dir")),
            ("wasi:sockets/tcp@0.2.0", Access::DeniedWithout("--guest-connect")),
            ("wasi:sockets/udp@0.2.0", Access::Denied),
            ("wasi:http/types@0.2.0", Access::Given),
            ("wasi:http/outgoing-handler@0.2.0", Access::DeniedWithout("--guest-connect")),
            ("wasi:http/client@0.3.0", Access::DeniedWithout("--guest-connect")),
            ("wasi:keyvalue/store@0.2.0", Access::Missing),
            ("env", Access::Missing),
        ] {
            assert_eq!(access(import, None), expected, "{import}");
        }
    }
}
