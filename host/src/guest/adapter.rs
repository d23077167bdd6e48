//! Core modules of WASI 0.1 as components of WASI 0.2, so that all that follows knows components only.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER,
};
use wit_component::ComponentEncoder;

/// Wraps a module that has `_start` together with the adapter that every toolchain uses for this: a command comes out. The same
/// module makes the same component each time, so that the cache finds it.
pub(super) fn component(module: &[u8]) -> Result<Vec<u8>, String> {
    let wrapped = || ComponentEncoder::default().module(module)?.adapter(NAME, ADAPTER)?.encode();
    wrapped().map_err(|error| format!("{error:#}"))
}
