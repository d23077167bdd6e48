//! Handlers of WASI 0.2 that are served without the engine's component layer: the imports of their
//! main module, as core functions that speak the canonical ABI.
//!
//! ```text
//! mod        a handler's state; linking and running it
//!   ├► handles      its table of handles
//!   ├► abi          parameters from its memory, results to it
//!   └► imports      the functions: streams, the others
//! ```
//!
//! What the functions do is in the same places as for components: in the resource table, the
//! streams and the interfaces of the engine. Only the way in and out differs. `component::lowering`
//! says which plugins come here, and what was woven into their modules.

mod abi;
mod handles;
mod imports;
mod streams;

use self::{abi::Pending, handles::Handles};
use super::state::State;
use crate::component::lowering::{ENTRY, INITIALIZE, MEMORY};
use wasmtime::{Engine, Extern, Instance, InstancePre, Linker, Memory, Module, ModuleExport, Store};

/// The state of one such handler.
pub(super) struct Lowered {
    /// Its memory, known when it is instantiated.
    memory: Option<Memory>,
    handles: Handles,
    /// The result that waits for memory from its allocator.
    pending: Option<Pending>,
    /// Whether the allocator or the cleaning up runs. They must not call imports.
    closed: bool,
    /// The handler's result.
    returned: Option<Result<(), String>>,
}

impl Lowered {
    fn new(limit: usize) -> Self {
        Self { memory: None, handles: Handles::new(limit), pending: None, closed: false, returned: None }
    }
}

/// A linked handler.
pub(super) struct LoweredPre {
    pre: InstancePre<State>,
    memory: ModuleExport,
    initialize: Option<ModuleExport>,
    entry: ModuleExport,
}

fn missing() -> wasmtime::Error {
    wasmtime::Error::msg("the lowered module lacks an export")
}

impl LoweredPre {
    pub(super) fn new(engine: &Engine, module: &Module) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        imports::link(&mut linker)?;
        let export = |name| module.get_export_index(name).ok_or_else(missing);
        let initialize = module.get_export_index(INITIALIZE);
        Ok(Self { memory: export(MEMORY)?, initialize, entry: export(ENTRY)?, pre: linker.instantiate_pre(module)? })
    }

    /// Makes a guest, which runs its start function, if it has one.
    pub(super) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Instance> {
        let limit = store.data().resources;
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let memory = instance.get_module_export(&mut *store, &self.memory).and_then(Extern::into_memory);
        let lowered = Lowered { memory: Some(memory.ok_or_else(missing)?), ..Lowered::new(limit) };
        store.data_mut().lowered = Some(Box::new(lowered));
        if let Some(initialize) = &self.initialize {
            let initialize = instance.get_module_export(&mut *store, initialize).and_then(Extern::into_func);
            initialize.ok_or_else(missing)?.typed::<(), ()>(&*store)?.call_async(&mut *store, ()).await?;
        }
        Ok(instance)
    }

    /// Runs a guest to its end.
    pub(super) async fn run(&self, store: &mut Store<State>) -> wasmtime::Result<Result<(), String>> {
        let instance = self.instantiate(store).await?;
        let entry = instance.get_module_export(&mut *store, &self.entry).and_then(Extern::into_func);
        let entry = entry.ok_or_else(missing)?.typed::<(u32, u32, u32), ()>(&*store)?;
        let (connection, input, output) = store.data_mut().offer()?;
        let handles = &mut abi::lowered(store.data_mut())?.handles;
        let parameters = (handles.insert(&connection)?, handles.insert(&input)?, handles.insert(&output)?);
        entry.call_async(&mut *store, parameters).await?;
        abi::lowered(store.data_mut())?.returned.take().ok_or_else(|| wasmtime::Error::msg("the handler has no result"))
    }
}
