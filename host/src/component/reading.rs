//! The position while a file is read, and the traits of the modules within a component.

use super::interfaces::{FUNCTIONS_0_1, PREVIEW_1};
use wasmparser::{BinaryReaderError, CompositeInnerType, FuncType, Payload, TypeRef, ValType};

/// The position while a file is read.
#[derive(Default)]
pub(super) struct Reading {
    /// How many components and modules enclose the current section; 1 is the plugin itself.
    pub(crate) depth: usize,
    /// The signatures of a module's types so far, where the module is the plugin itself.
    pub(crate) signatures: Vec<Option<String>>,
    /// The traits of the current module within the plugin, so far.
    part: Part,
    /// The traits of a module that has just ended.
    pub(crate) ended: Option<Part>,
}

/// The traits that tell programs of WASI 0.1 and adapters apart.
#[derive(Default)]
pub(super) struct Part {
    pub(crate) imports_wasi: bool,
    imports_memory: bool,
    exports_wasi: bool,
    pub(crate) has_realloc: bool,
}

impl Part {
    /// An adapter exports functions of WASI 0.1 and works in another module's memory.
    pub(super) fn is_adapter(&self) -> bool {
        self.imports_memory && self.exports_wasi && !self.imports_wasi
    }
}

impl Reading {
    /// Takes the next section into account.
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

/// The parameters and results of a function, in the form of `provided_0_1`.
fn signature(function: &FuncType) -> String {
    let letter = |ty: &ValType| match ty {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        _ => '?',
    };
    let parameters = function.params().iter().map(letter);
    parameters.chain(['>']).chain(function.results().iter().map(letter)).collect()
}
