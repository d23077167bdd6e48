//! What is behind a shim: the fixup module, and the functions with which it fills the shim's table.

use super::{
    sections::{Why, unusual},
    shape::{CoreInstance, Items},
    shim::{self, Fixup},
};
use std::{collections::HashMap, ops::Range};
use wasmparser::ExternalKind;

/// What is behind a shim.
pub(super) struct Behind<'a> {
    /// The core functions behind its exports, by name.
    pub(super) functions: HashMap<&'a str, u32>,
    /// The instance of the fixup module.
    pub(super) fixup: u32,
    /// The main module's function that the fixup calls.
    pub(super) start: Option<String>,
}

impl<'a> Items<'a> {
    /// The export of an instance that is put together.
    pub(super) fn export(&self, instance: u32, name: &str) -> Option<(ExternalKind, u32)> {
        match self.core_instances.get(instance as usize) {
            Some(CoreInstance::Functions(functions)) => functions.get(name).copied(),
            _ => None,
        }
    }

    fn is_table_of(&self, shim: u32, table: u32) -> bool {
        self.tables.get(table as usize) == Some(&(shim, shim::TABLE))
    }

    /// Whether an instance has the table of a shim. Older toolchains pass it among the functions, newer
    /// ones pass the shim.
    fn has_table_of(&self, shim: u32, instance: u32) -> bool {
        let table = self.export(instance, shim::TABLE);
        instance == shim
            || table.is_some_and(|(kind, index)| kind == ExternalKind::Table && self.is_table_of(shim, index))
    }

    /// The core functions behind the exports of a shim, by name: those with which the fixup module
    /// fills its table.
    pub(super) fn behind(
        &self,
        shim: u32,
        main: u32,
        bytes: &impl Fn(u32) -> (Range<usize>, &'a [u8]),
    ) -> Result<Behind<'a>, Why> {
        let Some(CoreInstance::Module { module, arguments }) = self.core_instances.get(shim as usize) else {
            return unusual("modules that are connected in an unusual way");
        };
        if !arguments.is_empty() {
            return unusual("an unusual shim");
        }
        let places = shim::exports(bytes(*module).1)?;
        for (index, instance) in (0..).zip(&self.core_instances) {
            let CoreInstance::Module { module, arguments } = instance else { continue };
            if index == shim || !arguments.values().any(|argument| self.has_table_of(shim, *argument)) {
                continue;
            }
            let argument = |(argument, name): shim::Imported<'_>| {
                let index = arguments.get(argument)?;
                Some((*index, self.export(*index, name)))
            };
            let Fixup { table, order, start } = shim::fixup(bytes(*module).1, places.len())?;
            let is_filled = match argument(table) {
                Some((instance, None)) => instance == shim && table.1 == shim::TABLE,
                Some((_, Some((ExternalKind::Table, index)))) => self.is_table_of(shim, index),
                _ => false,
            };
            if !is_filled {
                return unusual("an unusual fixup");
            }
            let start = match start.map(|function| (argument(function), function.1)) {
                None => None,
                Some((Some((instance, None)), name)) if instance == main => Some(name.to_owned()),
                Some((Some((_, Some((ExternalKind::Func, function)))), _)) => Some(self.export_of(main, function)?),
                Some(_) => return unusual("an unusual fixup"),
            };
            let functions = places.into_iter().map(|(name, place)| {
                match order.get(place).and_then(|function| argument(*function)) {
                    Some((_, Some((ExternalKind::Func, index)))) => Ok((name, index)),
                    _ => unusual("an unusual fixup"),
                }
            });
            return Ok(Behind { functions: functions.collect::<Result<_, Why>>()?, fixup: index, start });
        }
        unusual("no fixup")
    }
}
