//! Lowering: serving a component of the usual shape as the core module in it.
//!
//! Toolchains make a handler of WASI 0.2 in one shape: a main module with the program; a shim
//! module, through which it calls the imports that need its memory; a fixup module, which fills the
//! shim's table; and one lifted export. To instantiate these three and to wire every import costs
//! more than all the work of a small guest. So the main module is taken out and changed a little
//! (`weave`), and the host provides its imports as core functions that speak the canonical ABI
//! (`guest::lowered`).
//!
//! ```text
//! file ─► shape: is it exactly that? ─► weave: one core module ─► compiled
//!           └ items: the functions that the host has in this form
//! ```
//!
//! A component that is not recognised with certainty keeps its component layer, which remains the
//! reference.

mod behind;
mod items;
mod known;
mod sections;
mod shape;
mod shim;
mod weave;

use serde::{Deserialize, Serialize};
use shape::Shape;
use wasmtime::{Engine, component::Component};

#[cfg(test)]
pub(crate) use items::ITEMS;
pub(crate) use weave::{ENTRY, HOST, INITIALIZE, RETURNED, SIZE_BITS, STORED};

/// The name of a module's memory.
pub(crate) const MEMORY: &str = super::interfaces::MEMORY;

/// Whether a plugin is served through the engine's component layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Layer {
    /// It is, for this reason.
    Needed(String),
    /// It is not.
    Lowered(Lowering),
}

impl Default for Layer {
    fn default() -> Self {
        Self::Needed("it is a core module".to_owned())
    }
}

/// Whether a linker has a component's imports, with their types.
pub(crate) type Links = fn(&Engine, &Component) -> bool;

/// A component's main module, and how the component connects it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lowering(Shape);

impl Layer {
    /// Reads a component.
    pub(super) fn of(component: &[u8]) -> Self {
        let shape = Shape::of(component).and_then(|shape| {
            weave::check(shape.main_module(component), &shape)?;
            Ok(shape)
        });
        match shape {
            Ok(shape) => Self::Lowered(Lowering(shape)),
            Err(why) => Self::Needed(why),
        }
    }

    /// Keeps the lowering only if the imports have exactly the types that the component layer would
    /// require.
    pub(super) fn confirm(&mut self, component: &[u8], engine: &Engine, links: Links) {
        let Self::Lowered(Lowering(shape)) = self else { return };
        // The first sections of a file, which have its types and imports, are a component too.
        let interface = component.get(..shape.interface).unwrap_or_default();
        if !Component::new(engine, interface).is_ok_and(|interface| links(engine, &interface)) {
            *self = Self::Needed("the types of its imports are not those of WASI 0.2".to_owned());
        }
    }
}

impl Lowering {
    /// The core module to compile.
    pub(super) fn module(&self, component: &[u8]) -> wasmtime::Result<Vec<u8>> {
        let Self(shape) = self;
        weave::module(shape.main_module(component), shape)
            .map_err(|why| wasmtime::Error::msg(format!("it cannot be lowered: {why}")))
    }
}

#[cfg(test)]
mod tests;
