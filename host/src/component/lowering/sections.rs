//! The parts of a file that `shape` follows: sections, options, imports, and the nested component
//! that gives an export the types of its interface.

use wasmparser::{
    BinaryReaderError, CanonicalOption, Chunk, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind,
    ComponentTypeRef, Import, Imports, Parser, Payload, TypeRef,
};

/// Why a component is not of this shape.
pub(super) type Why = String;

pub(super) fn damaged(error: BinaryReaderError) -> Why {
    error.message().to_owned()
}

pub(super) fn unusual<T>(what: &str) -> Result<T, Why> {
    Err(format!("it has {what}"))
}

/// The sections of a component, but not those of the modules and components in it.
pub(super) struct Sections<'a> {
    file: &'a [u8],
    at: usize,
    parser: Option<Parser>,
}

pub(super) struct Section<'a> {
    pub(super) file: &'a [u8],
    /// Where it begins.
    pub(super) at: usize,
    pub(super) payload: Payload<'a>,
}

impl<'a> Sections<'a> {
    pub(super) fn of(file: &'a [u8]) -> Self {
        Self { file, at: 0, parser: Some(Parser::new(0)) }
    }
}

impl<'a> Iterator for Sections<'a> {
    type Item = Result<Section<'a>, Why>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let (consumed, payload) = match self.parser.as_mut()?.parse(self.file.get(at..)?, true) {
            Ok(Chunk::Parsed { consumed, payload }) => (consumed, payload),
            Ok(Chunk::NeedMoreData(_)) => return None,
            Err(error) => return Some(Err(damaged(error))),
        };
        self.at += consumed;
        match &payload {
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                self.at = unchecked_range.end;
            }
            Payload::End(_) => self.parser = None,
            _ => {}
        }
        Some(Ok(Section { file: self.file, at, payload }))
    }
}

/// The canonical options that handlers have.
pub(super) struct Options {
    pub(super) memory: Option<u32>,
    pub(super) realloc: Option<u32>,
    pub(super) post_return: Option<u32>,
}

impl Options {
    pub(super) fn of(options: &[CanonicalOption]) -> Result<Self, Why> {
        let mut found = Self { memory: None, realloc: None, post_return: None };
        for option in options {
            match option {
                CanonicalOption::UTF8 => {}
                CanonicalOption::Memory(index) => found.memory = Some(*index),
                CanonicalOption::Realloc(index) => found.realloc = Some(*index),
                CanonicalOption::PostReturn(index) => found.post_return = Some(*index),
                _ => return unusual("strings that are not UTF-8, or asynchronous functions"),
            }
        }
        Ok(found)
    }
}

/// The imports of the main module.
pub(super) fn imports_of(module: &[u8]) -> Result<Vec<(&str, &str)>, Why> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(section) = payload.map_err(damaged)? {
            for import in section {
                match import.map_err(damaged)? {
                    Imports::Single(_, Import { module, name, ty: TypeRef::Func(_) }) => found.push((module, name)),
                    _ => return unusual("an import that is not a function"),
                }
            }
        }
    }
    Ok(found)
}

/// The function that a nested component exports again. A toolchain wraps an export so, to give it
/// the types of its interface.
pub(super) fn exporter(component: &[u8]) -> Result<&str, Why> {
    let (mut imported, mut exported) = (None, false);
    for section in Sections::of(component) {
        match section?.payload {
            Payload::Version { .. }
            | Payload::CustomSection(_)
            | Payload::End(_)
            | Payload::ComponentTypeSection(_) => {}
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    let ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, .. } = alias.map_err(damaged)?
                    else {
                        return unusual("an unusual export");
                    };
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(damaged)?;
                    match import.ty {
                        ComponentTypeRef::Type(_) => {}
                        ComponentTypeRef::Func(_) if imported.is_none() => imported = Some(import.name.name),
                        _ => return unusual("an unusual export"),
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    match export.kind {
                        ComponentExternalKind::Type => {}
                        ComponentExternalKind::Func
                            if !exported && export.index == 0 && export.name.name == "handle-request" =>
                        {
                            exported = true;
                        }
                        _ => return unusual("an unusual export"),
                    }
                }
            }
            _ => return unusual("an unusual export"),
        }
    }
    match imported {
        Some(name) if exported => Ok(name),
        _ => unusual("an unusual export"),
    }
}
