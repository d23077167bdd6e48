//! Whether a component has the shape that toolchains give a handler of WASI 0.2.
//!
//! The sections are followed in their order, with an index space for each kind of item, until every
//! import of the main module is known to be one function of one imported interface. Anything that
//! is not expected ends this with a reason.

use super::{
    MEMORY, items,
    sections::{Options, Section, Sections, Why, damaged, exporter, imports_of, unusual},
    shim,
};
use crate::component::kind::{Generation, Kind};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, ops::Range};
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentTypeRef, ExternalKind,
    Instance, Payload, Validator, WasmFeatures,
};

/// The parts of such a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    /// The bytes of the main module.
    pub(super) main: Range<usize>,
    /// The length of the first part of the file, which has all types of imports, and the imports.
    pub(super) interface: usize,
    /// The interface and the function of each import of the main module.
    pub(super) imports: Vec<(String, String)>,
    /// The main module's exports for its own start, for allocating, for serving, and for cleaning up
    /// after that.
    pub(super) initialize: Option<String>,
    pub(super) realloc: Option<String>,
    pub(super) handle: String,
    pub(super) post_return: Option<String>,
}

/// An instance of a core module.
pub(super) enum CoreInstance<'a> {
    /// Made from a module, with instances as arguments.
    Module { module: u32, arguments: HashMap<&'a str, u32> },
    /// Functions put together.
    Functions(HashMap<&'a str, (ExternalKind, u32)>),
}

/// A core function.
pub(super) enum CoreFunction<'a> {
    /// A function of an imported interface.
    Lowered { function: u32, memory: Option<u32>, realloc: Option<u32> },
    /// Drops a resource of this type.
    Drop { resource: u32 },
    /// The export of a core instance.
    Export { instance: u32, name: &'a str },
}

/// An instance in the component.
pub(super) enum Whole<'a> {
    Imported(&'a str),
    /// Made by the nested component, from the only function among its arguments.
    Exporting {
        function: u32,
    },
}

/// A function in the component.
pub(super) enum Function<'a> {
    Imported { instance: u32, name: &'a str },
    Lifted { core: u32, memory: Option<u32>, post_return: Option<u32> },
}

/// The items so far.
#[derive(Default)]
pub(super) struct Items<'a> {
    interface: Option<usize>,
    modules: Vec<Range<usize>>,
    pub(super) core_instances: Vec<CoreInstance<'a>>,
    core_functions: Vec<CoreFunction<'a>>,
    memories: Vec<(u32, &'a str)>,
    pub(super) tables: Vec<(u32, &'a str)>,
    /// The nested components, each by the name of the function that it exports again.
    exporters: Vec<&'a str>,
    instances: Vec<Whole<'a>>,
    functions: Vec<Function<'a>>,
    /// The types; of a resource its interface and its name.
    types: Vec<Option<(u32, &'a str)>>,
    exported: Option<u32>,
}

impl Shape {
    pub(super) fn of(component: &[u8]) -> Result<Self, Why> {
        // Features that are not final may mean anything.
        Validator::new_with_features(WasmFeatures::default()).validate_all(component).map_err(damaged)?;
        let mut items = Items::default();
        for section in Sections::of(component) {
            items.section(section?)?;
        }
        items.shape(component)
    }

    pub(super) fn main_module<'a>(&self, component: &'a [u8]) -> &'a [u8] {
        component.get(self.main.clone()).unwrap_or_default()
    }
}

impl<'a> Items<'a> {
    fn section(&mut self, Section { file, at, payload }: Section<'a>) -> Result<(), Why> {
        match payload {
            Payload::Version { .. } | Payload::CustomSection(_) | Payload::End(_) => {}
            Payload::ComponentTypeSection(section) => {
                self.types.extend((0..section.count()).map(|_| None));
            }
            Payload::ComponentImportSection(section) if self.interface.is_none() => {
                for import in section {
                    let import = import.map_err(damaged)?;
                    let ComponentTypeRef::Instance(_) = import.ty else {
                        return unusual("an import that is not an interface");
                    };
                    self.instances.push(Whole::Imported(import.name.name));
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(alias.map_err(damaged)?)?;
                }
            }
            Payload::ModuleSection { unchecked_range, .. } => {
                self.interface.get_or_insert(at);
                self.modules.push(unchecked_range.start..unchecked_range.end);
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.core_instance(instance.map_err(damaged)?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.canonical(function.map_err(damaged)?)?;
                }
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                let nested = file.get(unchecked_range.start..unchecked_range.end);
                self.exporters.push(exporter(nested.unwrap_or_default())?);
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    self.instance(instance.map_err(damaged)?)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    if export.kind != ComponentExternalKind::Instance
                        || !Kind::Handler(Generation::Wasi02).is_made_by(export.name.name)
                        || self.exported.replace(export.index).is_some()
                    {
                        return unusual("exports besides that of a handler of WASI 0.2");
                    }
                }
            }
            _ => return unusual("a section that handlers do not have"),
        }
        Ok(())
    }

    fn alias(&mut self, alias: ComponentAlias<'a>) -> Result<(), Why> {
        match alias {
            ComponentAlias::InstanceExport { kind, instance_index: instance, name } => match kind {
                ComponentExternalKind::Type => self.types.push(Some((instance, name))),
                ComponentExternalKind::Func => self.functions.push(Function::Imported { instance, name }),
                _ => return unusual("an unusual part of an interface"),
            },
            ComponentAlias::CoreInstanceExport { kind, instance_index: instance, name } => match kind {
                ExternalKind::Func => self.core_functions.push(CoreFunction::Export { instance, name }),
                ExternalKind::Memory => self.memories.push((instance, name)),
                ExternalKind::Table => self.tables.push((instance, name)),
                _ => return unusual("modules that share more than functions and memory"),
            },
            ComponentAlias::Outer { .. } => return unusual("a type from outside"),
        }
        Ok(())
    }

    fn core_instance(&mut self, instance: Instance<'a>) {
        self.core_instances.push(match instance {
            Instance::Instantiate { module_index, args } => CoreInstance::Module {
                module: module_index,
                arguments: args.iter().map(|argument| (argument.name, argument.index)).collect(),
            },
            Instance::FromExports(exports) => CoreInstance::Functions(
                exports.iter().map(|export| (export.name, (export.kind, export.index))).collect(),
            ),
        });
    }

    fn canonical(&mut self, function: CanonicalFunction) -> Result<(), Why> {
        match function {
            CanonicalFunction::Lift { core_func_index: core, options, .. } => {
                let Options { memory, realloc: _, post_return } = Options::of(&options)?;
                self.functions.push(Function::Lifted { core, memory, post_return });
            }
            CanonicalFunction::Lower { func_index: function, options } => {
                let Options { memory, realloc, post_return: _ } = Options::of(&options)?;
                self.core_functions.push(CoreFunction::Lowered { function, memory, realloc });
            }
            CanonicalFunction::ResourceDrop { resource } => {
                self.core_functions.push(CoreFunction::Drop { resource });
            }
            _ => return unusual("resources of its own, or tasks"),
        }
        Ok(())
    }

    fn instance(&mut self, instance: ComponentInstance<'a>) -> Result<(), Why> {
        let ComponentInstance::Instantiate { component_index, args } = instance else {
            return unusual("an export that is put together by hand");
        };
        let function = self.exporters.get(component_index as usize).and_then(|name| {
            args.iter()
                .find(|argument| argument.name == *name && argument.kind == ComponentExternalKind::Func)
                .map(|argument| argument.index)
        });
        match function {
            Some(function) => self.instances.push(Whole::Exporting { function }),
            None => return unusual("an unusual export"),
        }
        Ok(())
    }

    /// Follows the export to the main module, and each of its imports to an interface.
    fn shape(self, component: &'a [u8]) -> Result<Shape, Why> {
        let unusual_export = || "it has an unusual export".to_owned();
        let exported = self.exported.and_then(|index| self.instances.get(index as usize));
        let Some(Whole::Exporting { function }) = exported else { return Err(unusual_export()) };
        let Some(Function::Lifted { core, memory, post_return }) = self.functions.get(*function as usize) else {
            return Err(unusual_export());
        };
        let (main, handle) = self.core_export(*core).ok_or_else(unusual_export)?;
        let post_return = post_return.map(|index| self.export_of(main, index)).transpose()?;
        if memory.is_some_and(|index| !self.is_memory(main, index)) {
            return unusual("several memories");
        }
        let Some(CoreInstance::Module { module, arguments }) = self.core_instances.get(main as usize) else {
            return Err(unusual_export());
        };
        let bytes = |module: u32| {
            let range = self.modules.get(module as usize).cloned().unwrap_or_default();
            (range.clone(), component.get(range).unwrap_or_default())
        };
        let (range, main_module) = bytes(*module);
        let mut shim = None;
        let mut realloc = None;
        let mut imports = Vec::new();
        for (from, name) in imports_of(main_module)? {
            let Some(CoreInstance::Functions(functions)) =
                arguments.get(from).and_then(|index| self.core_instances.get(*index as usize))
            else {
                return unusual("modules that are connected in an unusual way");
            };
            let Some((ExternalKind::Func, index)) = functions.get(name).copied() else {
                return unusual("an import that is not a function");
            };
            let mut function = self.core_functions.get(index as usize);
            if let Some(CoreFunction::Export { instance, name }) = function {
                if shim.is_none() {
                    shim = Some((*instance, self.behind(*instance, main, &bytes)?));
                }
                let behind = shim.as_ref().filter(|(shim, _)| shim == instance);
                let index = behind.and_then(|(_, behind)| behind.functions.get(*name));
                function = index.and_then(|index| self.core_functions.get(*index as usize));
            }
            let (interface, item) = match function {
                Some(CoreFunction::Lowered { function, memory, realloc: allocator }) => {
                    if memory.is_some_and(|index| !self.is_memory(main, index)) {
                        return unusual("several memories");
                    }
                    if let Some(index) = allocator {
                        let name = self.export_of(main, *index)?;
                        if *realloc.get_or_insert_with(|| name.clone()) != name {
                            return unusual("several allocators");
                        }
                    }
                    match self.functions.get(*function as usize) {
                        Some(Function::Imported { instance, name }) => (*instance, (*name).to_owned()),
                        _ => return unusual("a function that calls itself through its own export"),
                    }
                }
                Some(CoreFunction::Drop { resource }) => match self.types.get(*resource as usize) {
                    Some(Some((instance, name))) => (*instance, format!("[resource-drop]{name}")),
                    _ => return unusual("resources of its own"),
                },
                _ => return unusual("modules that are connected in an unusual way"),
            };
            imports.push(self.import(interface, item)?);
        }
        let (mut known, mut initialize) = (vec![main], None);
        if let Some((index, behind)) = shim {
            known.extend([index, behind.fixup]);
            initialize = behind.start;
        }
        for (index, instance) in (0..).zip(&self.core_instances) {
            let CoreInstance::Module { module, arguments } = instance else { continue };
            if known.contains(&index) {
                continue;
            }
            let (argument, name) = shim::starter(bytes(*module).1)?;
            let function = arguments.get(argument).and_then(|instance| self.export(*instance, name));
            let Some((ExternalKind::Func, function)) = function else { return unusual("more modules than one") };
            if initialize.replace(self.export_of(main, function)?).is_some() {
                return unusual("several start functions");
            }
        }
        let allocates = imports.iter().any(|(interface, item)| items::allocates(interface, item) == Some(true));
        if allocates && realloc.is_none() {
            return unusual("no allocator");
        }
        let interface = self.interface.unwrap_or_default();
        Ok(Shape { main: range, interface, imports, initialize, realloc, handle: handle.to_owned(), post_return })
    }

    /// The interface and the function of an import, if a lowered module may have it.
    fn import(&self, instance: u32, item: String) -> Result<(String, String), Why> {
        let Some(Whole::Imported(name)) = self.instances.get(instance as usize) else {
            return unusual("modules that are connected in an unusual way");
        };
        let interface = name.split_once('@').map_or(*name, |(interface, _version)| interface);
        match items::allocates(interface, &item) {
            Some(_) => Ok((interface.to_owned(), item)),
            None => Err(format!("it imports {item} of {name}")),
        }
    }

    pub(super) fn core_export(&self, function: u32) -> Option<(u32, &'a str)> {
        match self.core_functions.get(function as usize) {
            Some(CoreFunction::Export { instance, name }) => Some((*instance, name)),
            _ => None,
        }
    }

    /// The name of a function that must be an export of this instance.
    pub(super) fn export_of(&self, instance: u32, function: u32) -> Result<String, Why> {
        match self.core_export(function) {
            Some((of, name)) if of == instance => Ok(name.to_owned()),
            _ => unusual("modules that are connected in an unusual way"),
        }
    }

    fn is_memory(&self, instance: u32, memory: u32) -> bool {
        self.memories.get(memory as usize) == Some(&(instance, MEMORY))
    }
}
