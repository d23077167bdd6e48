//! What `weave` must know of a main module before it changes it.

use super::weave::ADDED;
use std::collections::HashMap;
use wasm_encoder::{NameMap, NameSection};
use wasmparser::{CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef};

/// What there is in the main module.
#[derive(Default)]
pub(super) struct Known {
    pub(super) types: Vec<Option<FuncType>>,
    /// The type of each function, the imported ones first.
    pub(super) functions: Vec<u32>,
    pub(super) imported: u32,
    pub(super) memories: usize,
    pub(super) is_usual_memory: bool,
    pub(super) has_start: bool,
    pub(super) has_names: bool,
    pub(super) exports: HashMap<String, u32>,
}

impl Known {
    pub(super) fn of(main: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let mut known = Self::default();
        for payload in Parser::new(0).parse_all(main) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        known.types.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                            CompositeInnerType::Func(function) => Some(function),
                            _ => None,
                        }));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if let TypeRef::Func(ty) = import?.ty {
                            known.functions.push(ty);
                            known.imported += 1;
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        known.functions.push(ty?);
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory?;
                        known.memories += 1;
                        known.is_usual_memory = !memory.shared && !memory.memory64 && memory.page_size_log2.is_none();
                    }
                }
                Payload::StartSection { .. } => known.has_start = true,
                Payload::CustomSection(section) => known.has_names |= section.name() == "name",
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if matches!(export.kind, ExternalKind::Func | ExternalKind::Memory) {
                            known.exports.insert(export.name.to_owned(), export.index);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(known)
    }

    /// The index of an exported function, if it has this type.
    pub(super) fn function(&self, name: &str, parameters: usize, results: usize) -> Result<u32, String> {
        let index = self.exports.get(name).copied().ok_or("an export is missing")?;
        let ty = self.functions.get(index as usize).copied().ok_or("an export is not a function")?;
        let is_i32 = |types: &[wasmparser::ValType]| types.iter().all(|ty| *ty == wasmparser::ValType::I32);
        match self.types.get(ty as usize) {
            Some(Some(ty))
                if ty.params().len() == parameters
                    && ty.results().len() == results
                    && is_i32(ty.params())
                    && is_i32(ty.results()) =>
            {
                Ok(index)
            }
            _ => Err("an export has another type".to_owned()),
        }
    }

    /// Names for functions that have none: their numbers in the file, which the woven module
    /// changes.
    pub(super) fn numbers(&self) -> NameSection {
        let mut names = NameMap::new();
        for function in self.imported..self.count() {
            names.append(function + ADDED, &format!("function {function}"));
        }
        let mut section = NameSection::new();
        section.functions(&names);
        section
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.functions.len()).unwrap_or(u32::MAX)
    }
}
