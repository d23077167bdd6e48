//! Makes the module that is compiled out of a component's main module.
//!
//! A function whose result needs memory from the guest takes two steps. The host does its work, and
//! returns the size of the block that it needs; the guest's own allocator makes it; the host stores
//! the result. The code between these steps is woven into the module: a call from the host back
//! into the guest would need a stack of its own. So is the way from the handler's result to the
//! call that cleans up after it.
//!
//! ```text
//! function(parameters…):                          entry(connection, input, output):
//!   block = import(parameters…)                     result = handle-request(connection, input, output)
//!   until block is negative:                        returned(result)
//!     at = realloc(0, 0, alignment, size)           post-return(result)
//!     block = stored(at)
//! ```

use super::{MEMORY, items, known::Known, shape::Shape};
use std::convert::Infallible;
use wasm_encoder::{
    BlockType, CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    Instruction, Module, NameMap, NameSection, TypeSection, ValType,
    reencode::{self, Reencode, utils},
};
use wasmparser::{Parser, TypeRef};

/// The interface of the host's own functions, and their names.
pub(crate) const HOST: &str = "host";
pub(crate) const STORED: &str = "stored";
pub(crate) const RETURNED: &str = "returned";

/// The export that serves a connection, and the one that comes before it, if the guest has a start of
/// its own.
pub(crate) const ENTRY: &str = "entry";
pub(crate) const INITIALIZE: &str = "initialize";

/// A block is its size, and above that its alignment.
pub(crate) const SIZE_BITS: u32 = 28;

type Error = reencode::Error<Infallible>;

/// The module to compile.
pub(super) fn module(main: &[u8], shape: &Shape) -> Result<Vec<u8>, String> {
    let known = Known::of(main).map_err(|error| error.to_string())?;
    let mut weaver = Weaver::new(&known, shape)?;
    let mut module = Module::new();
    weaver.parse_core_module(&mut module, Parser::new(0), main).map_err(|error| error.to_string())?;
    if !known.has_names {
        module.section(&known.numbers());
    }
    Ok(module.finish())
}

/// Whether the module can be made.
pub(super) fn check(main: &[u8], shape: &Shape) -> Result<(), String> {
    let known = Known::of(main).map_err(|error| error.to_string())?;
    Weaver::new(&known, shape).map(drop)
}

/// An import that allocates: its place among the imports, its type, its number of parameters.
struct Allocating {
    import: u32,
    ty: u32,
    parameters: Vec<wasmparser::ValType>,
}

struct Weaver<'a> {
    known: &'a Known,
    shape: &'a Shape,
    allocating: Vec<Allocating>,
    realloc: u32,
    initialize: Option<u32>,
    handle: u32,
    post_return: Option<u32>,
    imported: usize,
}

/// The functions that the host adds to the imports.
pub(super) const ADDED: u32 = 2;

impl<'a> Weaver<'a> {
    fn new(known: &'a Known, shape: &'a Shape) -> Result<Self, String> {
        if known.has_start {
            return Err("it has a start function".to_owned());
        }
        if known.memories != 1 || !known.is_usual_memory || known.exports.get(MEMORY) != Some(&0) {
            return Err("it does not have one memory".to_owned());
        }
        if known.imported as usize != shape.imports.len() {
            return Err("its imports are not known".to_owned());
        }
        let mut allocating = Vec::new();
        for (import, (interface, item)) in (0..).zip(&shape.imports) {
            if items::allocates(interface, item) != Some(true) {
                continue;
            }
            let ty = known.functions.get(import as usize).copied().unwrap_or_default();
            match known.types.get(ty as usize) {
                Some(Some(function)) if function.results().is_empty() => {
                    allocating.push(Allocating { import, ty, parameters: function.params().to_vec() });
                }
                _ => return Err("an import has another type".to_owned()),
            }
        }
        Ok(Self {
            known,
            shape,
            realloc: match &shape.realloc {
                Some(name) => known.function(name, 4, 1)?,
                None if allocating.is_empty() => 0,
                None => return Err("it has no allocator".to_owned()),
            },
            allocating,
            initialize: match &shape.initialize {
                Some(name) => Some(known.function(name, 0, 0)?),
                None => None,
            },
            handle: known.function(&shape.handle, 3, 1)?,
            post_return: match &shape.post_return {
                Some(name) => Some(known.function(name, 1, 0)?),
                None => None,
            },
            imported: 0,
        })
    }

    fn stored(&self) -> u32 {
        self.known.imported
    }

    fn returned(&self) -> u32 {
        self.known.imported + 1
    }

    /// The index of the first woven function.
    fn woven(&self) -> u32 {
        self.known.count() + ADDED
    }

    fn entry(&self) -> u32 {
        self.woven() + u32::try_from(self.allocating.len()).unwrap_or(u32::MAX)
    }

    /// The indices of the types of `stored`, `returned` and the entry. Those of the allocating
    /// imports follow.
    fn added_types(&self) -> [u32; 4] {
        let first = u32::try_from(self.known.types.len()).unwrap_or(u32::MAX);
        [first, first + 1, first + 2, first + 3]
    }

    /// A function that calls an import, and allocates as long as it asks for a block.
    fn wrapper(&mut self, import: u32, parameters: u32) -> Result<Function, Error> {
        let block = parameters;
        let realloc = self.function_index(self.realloc)?;
        let mut function = Function::new([(1, ValType::I32)]);
        for parameter in 0..parameters {
            function.instruction(&Instruction::LocalGet(parameter));
        }
        for instruction in [
            Instruction::Call(import),
            Instruction::LocalTee(block),
            Instruction::I32Const(0),
            Instruction::I32GeS,
            Instruction::If(BlockType::Empty),
            Instruction::Loop(BlockType::Empty),
            Instruction::I32Const(0),
            Instruction::I32Const(0),
            Instruction::LocalGet(block),
            Instruction::I32Const(SIZE_BITS.cast_signed()),
            Instruction::I32ShrU,
            Instruction::LocalGet(block),
            Instruction::I32Const((1 << SIZE_BITS) - 1),
            Instruction::I32And,
            Instruction::Call(realloc),
            Instruction::Call(self.stored()),
            Instruction::LocalTee(block),
            Instruction::I32Const(0),
            Instruction::I32GeS,
            Instruction::BrIf(0),
            Instruction::End,
            Instruction::End,
            Instruction::End,
        ] {
            function.instruction(&instruction);
        }
        Ok(function)
    }

    fn entry_function(&mut self) -> Result<Function, Error> {
        let result = 3;
        let mut function = Function::new([(1, ValType::I32)]);
        let handle = self.function_index(self.handle)?;
        for instruction in [
            Instruction::LocalGet(0),
            Instruction::LocalGet(1),
            Instruction::LocalGet(2),
            Instruction::Call(handle),
            Instruction::LocalTee(result),
            Instruction::Call(self.returned()),
        ] {
            function.instruction(&instruction);
        }
        if let Some(post_return) = self.post_return {
            function.instruction(&Instruction::LocalGet(result));
            function.instruction(&Instruction::Call(self.function_index(post_return)?));
        }
        function.instruction(&Instruction::End);
        Ok(function)
    }
}

impl Reencode for Weaver<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        if function >= self.known.imported {
            return Ok(function + ADDED);
        }
        let woven = self.allocating.iter().position(|each| each.import == function);
        Ok(woven.map_or(function, |place| self.woven() + u32::try_from(place).unwrap_or(u32::MAX)))
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32], [ValType::I32]);
        types.ty().function([ValType::I32], []);
        types.ty().function([ValType::I32; 3], []);
        for place in 0..self.allocating.len() {
            let parameters = self.allocating.get(place).map(|each| each.parameters.clone()).unwrap_or_default();
            let parameters = self.val_types(parameters)?;
            types.ty().function(parameters, [ValType::I32]);
        }
        Ok(())
    }

    fn parse_imports(&mut self, section: &mut ImportSection, imports: wasmparser::Imports<'_>) -> Result<(), Error> {
        // `shape` lets no other pass.
        let wasmparser::Imports::Single(_, wasmparser::Import { ty: TypeRef::Func(ty), .. }) = imports else {
            return Ok(());
        };
        let [_, _, _, first] = self.added_types();
        let index = u32::try_from(self.imported).unwrap_or(u32::MAX);
        let woven = (first..).zip(&self.allocating).find(|(_, each)| each.import == index);
        if let Some((interface, item)) = self.shape.imports.get(self.imported) {
            section.import(interface, item, EntityType::Function(woven.map_or(ty, |(ty, _)| ty)));
        }
        self.imported += 1;
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_import_section(self, imports, section)?;
        let [stored, returned, ..] = self.added_types();
        imports.import(HOST, STORED, EntityType::Function(stored));
        imports.import(HOST, RETURNED, EntityType::Function(returned));
        Ok(())
    }

    /// Keeps the names of functions, for the log. Those of imports would be those of the code between
    /// their steps.
    fn parse_custom_name_subsection(
        &mut self,
        names: &mut NameSection,
        section: wasmparser::Name<'_>,
    ) -> Result<(), Error> {
        if let wasmparser::Name::Function(functions) = section {
            let mut kept = NameMap::new();
            for naming in functions {
                let naming = naming?;
                if naming.index >= self.known.imported {
                    kept.append(self.function_index(naming.index)?, naming.name);
                }
            }
            names.functions(&kept);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_function_section(self, functions, section)?;
        for each in &self.allocating {
            functions.function(each.ty);
        }
        let [_, _, entry, _] = self.added_types();
        functions.function(entry);
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        _: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        exports.export(MEMORY, ExportKind::Memory, 0);
        exports.export(ENTRY, ExportKind::Func, self.entry());
        if let Some(initialize) = self.initialize {
            exports.export(INITIALIZE, ExportKind::Func, self.function_index(initialize)?);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_code_section(self, code, section)?;
        for place in 0..self.allocating.len() {
            let Some((import, parameters)) =
                self.allocating.get(place).map(|each| (each.import, each.parameters.len()))
            else {
                break;
            };
            let parameters = u32::try_from(parameters).unwrap_or(u32::MAX);
            code.function(&self.wrapper(import, parameters)?);
        }
        code.function(&self.entry_function()?);
        Ok(())
    }
}
