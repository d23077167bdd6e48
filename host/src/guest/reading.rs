//! Where the reading of a file is, and what tells the modules within a component apart.

use super::interfaces::{FUNCTIONS_0_1, PREVIEW_1};
use wasmparser::{BinaryReaderError, CompositeInnerType, FuncType, Payload, TypeRef, ValType};

/// Where in a file the reading is.
#[derive(Default)]
pub(super) struct Reading {
    /// How many components and modules enclose what is read; 1 is the plugin itself.
    pub(super) depth: usize,
    /// Those of the types of a module so far, where that is the plugin itself.
    pub(super) signatures: Vec<Option<String>>,
    /// What a module within the plugin has so far.
    part: Part,
    /// The module that has just ended, where one has.
    pub(super) ended: Option<Part>,
}

/// What tells a program of WASI 0.1 and an adapter among the modules of a component.
#[derive(Default)]
pub(super) struct Part {
    pub(super) imports_wasi: bool,
    imports_memory: bool,
    exports_wasi: bool,
    pub(super) has_realloc: bool,
}

impl Part {
    /// It gives functions of WASI 0.1, and has no memory of its own to do so.
    pub(super) fn is_adapter(&self) -> bool {
        self.imports_memory && self.exports_wasi && !self.imports_wasi
    }
}

impl Reading {
    /// To be called with each section before anything else looks at it.
    pub(super) fn payload(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::Version { .. } => {
                self.depth += 1;
                self.part = Part::default();
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                self.ended = Some(std::mem::take(&mut self.part));
            }
            Payload::TypeSection(section) if self.depth == 1 => {
                for group in section.clone() {
                    self.signatures.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                        CompositeInnerType::Func(function) => Some(signature(&function)),
                        _ => None,
                    }));
                }
            }
            Payload::ImportSection(section) if self.depth > 1 => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    self.part.imports_wasi |= import.module == PREVIEW_1;
                    self.part.imports_memory |= matches!(import.ty, TypeRef::Memory(_));
                }
            }
            Payload::ExportSection(section) if self.depth > 1 => {
                for export in section.clone() {
                    let name = export?.name;
                    self.part.has_realloc |= name == "cabi_realloc";
                    self.part.exports_wasi |= FUNCTIONS_0_1.iter().any(|(known, _)| *known == name);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The parameters and results of a function, as `provided_0_1` has them.
fn signature(function: &FuncType) -> String {
    let letter = |ty: &ValType| match ty {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        _ => '?',
    };
    let parameters = function.params().iter().map(letter);
    parameters.chain(['>']).chain(function.results().iter().map(letter)).collect()
}
