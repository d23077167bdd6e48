//! The shim and the fixup module, which toolchains put between a main module and the imports that
//! need its memory. Both are recognised instruction by instruction.

use super::sections::{Why, damaged, unusual};
use std::collections::HashMap;
use wasmparser::{
    CompositeInnerType, ConstExpr, ElementItems, ElementKind, ExternalKind, FunctionBody, Imports, Operator, Parser,
    Payload, RefType, TableInit, TypeRef,
};

/// The export of a shim that the fixup module fills.
pub(super) const TABLE: &str = "$imports";

const SHIM: &str = "an unusual shim";
const FIXUP: &str = "an unusual fixup";
const OTHER: &str = "more modules than one";

/// The exported functions of a shim. Each calls one place of its table, and nothing else.
pub(super) fn exports(module: &[u8]) -> Result<HashMap<&str, usize>, Why> {
    let mut parameters = Vec::new();
    let mut types = Vec::new();
    let mut bodies = 0_usize;
    let mut elements = None;
    let mut exported = HashMap::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(damaged)? {
            Payload::Version { .. }
            | Payload::CustomSection(_)
            | Payload::End(_)
            | Payload::CodeSectionStart { .. } => {}
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group.map_err(damaged)?.into_types() {
                        let CompositeInnerType::Func(function) = ty.composite_type.inner else { return unusual(SHIM) };
                        parameters.push(function.params().len());
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    types.push(ty.map_err(damaged)?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table.map_err(damaged)?;
                    let usual = matches!(table.init, TableInit::RefNull) && table.ty.element_type == RefType::FUNCREF;
                    if !usual || elements.replace(table.ty.initial).is_some() {
                        return unusual(SHIM);
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    match (export.kind, export.name) {
                        (ExternalKind::Func, name) => drop(exported.insert(name, export.index as usize)),
                        (ExternalKind::Table, TABLE) => {}
                        _ => return unusual(SHIM),
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let ty = types.get(bodies).copied().unwrap_or_default();
                let count = parameters.get(ty as usize).copied().unwrap_or_default();
                if !forwards(&body, count, ty, bodies)? {
                    return unusual(SHIM);
                }
                bodies += 1;
            }
            _ => return unusual(SHIM),
        }
    }
    // As many exports as functions: each has one.
    let mut places: Vec<_> = exported.values().copied().collect();
    places.sort_unstable();
    let all = places.iter().copied().eq(0..bodies) && elements == Some(bodies as u64);
    if all { Ok(exported) } else { unusual(SHIM) }
}

/// Whether a function passes its parameters to that place of the table.
fn forwards(body: &FunctionBody<'_>, parameters: usize, ty: u32, place: usize) -> Result<bool, Why> {
    if body.get_locals_reader().map_err(damaged)?.get_count() > 0 {
        return Ok(false);
    }
    let mut expected: Vec<_> = (0..parameters)
        .map(|index| Operator::LocalGet { local_index: u32::try_from(index).unwrap_or(u32::MAX) })
        .collect();
    expected.push(Operator::I32Const { value: i32::try_from(place).unwrap_or(-1) });
    expected.push(Operator::CallIndirect { type_index: ty, table_index: 0 });
    expected.push(Operator::End);
    let found: Result<Vec<_>, _> = body.get_operators_reader().map_err(damaged)?.into_iter().collect();
    Ok(found.map_err(damaged)? == expected)
}

/// An import: the name of an argument, and of its export.
pub(super) type Imported<'a> = (&'a str, &'a str);

/// What a fixup module does.
pub(super) struct Fixup<'a> {
    /// The table that it fills.
    pub(super) table: Imported<'a>,
    /// The functions that it puts there, in their order.
    pub(super) order: Vec<Imported<'a>>,
    /// The function that it calls then.
    pub(super) start: Option<Imported<'a>>,
}

/// The work of a fixup module.
pub(super) fn fixup(module: &[u8], places: usize) -> Result<Fixup<'_>, Why> {
    let mut imported = Vec::new();
    let mut table = None;
    let mut order = Vec::new();
    let mut start = None;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(damaged)? {
            Payload::Version { .. } | Payload::CustomSection(_) | Payload::End(_) | Payload::TypeSection(_) => {}
            Payload::ImportSection(section) => {
                for import in section {
                    let Imports::Single(_, import) = import.map_err(damaged)? else { return unusual(FIXUP) };
                    match import.ty {
                        TypeRef::Func(_) => imported.push((import.module, import.name)),
                        TypeRef::Table(_) if table.is_none() => table = Some((import.module, import.name)),
                        _ => return unusual(FIXUP),
                    }
                }
            }
            Payload::StartSection { func, .. } => match imported.get(func as usize) {
                Some(function) => start = Some(*function),
                None => return unusual(FIXUP),
            },
            Payload::ElementSection(section) => {
                for element in section {
                    let element = element.map_err(damaged)?;
                    let ElementKind::Active { table_index: None | Some(0), offset_expr } = element.kind else {
                        return unusual(FIXUP);
                    };
                    let ElementItems::Functions(functions) = element.items else { return unusual(FIXUP) };
                    if !order.is_empty() || !is_zero(&offset_expr)? {
                        return unusual(FIXUP);
                    }
                    for function in functions {
                        let function = imported.get(function.map_err(damaged)? as usize).copied();
                        order.push(function.ok_or_else(|| FIXUP.to_owned())?);
                    }
                }
            }
            _ => return unusual(FIXUP),
        }
    }
    match table {
        Some(table) if order.len() == places => Ok(Fixup { table, order, start }),
        _ => unusual(FIXUP),
    }
}

/// The function that a module calls when it is instantiated, if that is all it does. Older toolchains
/// have such a module beside the fixup.
pub(super) fn starter(module: &[u8]) -> Result<Imported<'_>, Why> {
    let (mut imported, mut start) = (Vec::new(), None);
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(damaged)? {
            Payload::Version { .. } | Payload::CustomSection(_) | Payload::End(_) | Payload::TypeSection(_) => {}
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(damaged)?;
                    imported.push((import.module, import.name));
                }
            }
            Payload::StartSection { func, .. } => start = Some(func),
            _ => return unusual(OTHER),
        }
    }
    match (imported.as_slice(), start) {
        ([function], Some(0)) => Ok(*function),
        _ => unusual(OTHER),
    }
}

fn is_zero(expression: &ConstExpr<'_>) -> Result<bool, Why> {
    let found: Result<Vec<_>, _> = expression.get_operators_reader().into_iter().collect();
    Ok(found.map_err(damaged)? == [Operator::I32Const { value: 0 }, Operator::End])
}
