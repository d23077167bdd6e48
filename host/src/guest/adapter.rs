//! Core modules of WASI 0.1 as components of WASI 0.2, so that all that follows knows components only.

use super::{contract, problem::Problem};
use crate::log;
use std::borrow::Cow;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER,
};
use wasmparser::{Parser, Validator, WasmFeatures, types::EntityType};
use wit_component::ComponentEncoder;

/// Pages by which the adapter grows the memory of a module: one for its state, one for its stack.
const OWN_PAGES: u64 = 2;

/// The bytes of a page.
const PAGE: u64 = 64 << 10;

/// Functions that a module may import: many times what WASI 0.1 has. The encoder compares each with each.
const MOST_IMPORTS: usize = 1000;

/// Why the adapter does not fit a module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing by which data could be exchanged.
    #[error(
        "exports no memory by the name of \"memory\", as a program of WASI 0.1 does: build it for wasm32-wasip1, whose linker does so"
    )]
    NoMemory,
    /// There is no room for what is the adapter's own.
    #[error(
        "has a memory of {initial} bytes that may grow to {maximum}, and the adapter that makes it a program of WASI 0.2 needs {} more: \
         link it with a larger --max-memory, or without one",
        OWN_PAGES * PAGE
    )]
    Bounded {
        /// Bytes at the start.
        initial: u64,
        /// Bytes at the most.
        maximum: u64,
    },
    /// It imports more than there is.
    #[error("imports {0} functions, and a program of WASI 0.1 has at most {MOST_IMPORTS}: is it the right file?")]
    Imports(usize),
    /// What it imports is not what WASI 0.1 has by that name, for example.
    #[error("is a program of WASI 0.1 that cannot be made one of WASI 0.2: {0}: build it for wasm32-wasip2")]
    Unfit(String),
}

/// What is compiled of a file: the component that it is, or else the one that is made of it when somebody asks. Making it takes a
/// tenth of a second for a large module, so that what was compiled is found without.
pub(super) struct Blueprint<'a> {
    file: &'a [u8],
    is_module: bool,
}

/// Whether a file that begins like this is a module of WASI 0.1, where it is a plugin at all.
pub(super) fn is_module(beginning: &[u8]) -> bool {
    Parser::is_core_wasm(beginning)
}

/// By what the compiled form of a file is found again: the file, which was hashed, and where that has a part in it, the adapter.
pub(super) fn key(mut file: blake3::Hasher, is_module: bool) -> blake3::Hash {
    if is_module {
        file.update(ADAPTER);
    }
    file.finalize()
}

impl<'a> Blueprint<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self { file, is_module: is_module(file) }
    }

    /// The file itself.
    pub(super) fn file(&self) -> &'a [u8] {
        self.file
    }

    /// By what its compiled form is found again.
    pub(super) fn key(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.file);
        key(hasher, self.is_module)
    }

    /// The component itself.
    pub(super) fn component(&self) -> Result<Cow<'a, [u8]>, Problem> {
        if self.is_module { adapted(self.file).map(Cow::Owned) } else { Ok(Cow::Borrowed(self.file)) }
    }
}

/// Wraps a module that has `_start` together with the adapter that every toolchain uses for this: a command comes out.
fn adapted(module: &[u8]) -> Result<Vec<u8>, Problem> {
    // The encoder takes it for granted that a module is valid, and panics where one is not. What the engine supports is for the
    // compiler to say.
    let types = Validator::new_with_features(WasmFeatures::all())
        .validate_all(module)
        .map_err(|error| contract::Error::Damaged(error.to_string()))?;
    let imports = types.as_ref().core_imports().into_iter().flatten().count();
    if imports > MOST_IMPORTS {
        return Err(Error::Imports(imports).into());
    }
    let memory = types.as_ref().core_exports().into_iter().flatten().find_map(|export| match export {
        ("memory", EntityType::Memory(memory)) => Some(memory),
        _ => None,
    });
    let memory = memory.ok_or(Error::NoMemory)?;
    if let Some(maximum) = memory.maximum.filter(|maximum| maximum.saturating_sub(memory.initial) < OWN_PAGES) {
        let bytes = |pages: u64| pages.saturating_mul(PAGE);
        return Err(Error::Bounded { initial: bytes(memory.initial), maximum: bytes(maximum) }.into());
    }
    let encoded = || ComponentEncoder::default().module(module)?.adapter(NAME, ADAPTER)?.encode();
    encoded().map_err(|error| Error::Unfit(log::escaped(&format!("{error:#}"))).into())
}
