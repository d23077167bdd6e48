//! Limits the resources of a guest: streams, pollables, bodies, descriptors.
//!
//! Most are small, such as the pollable of each wait, which some runtimes keep for the life of the
//! guest. Streams, bodies and collections of fields may each hold 64 KiB of the host's memory, so a
//! guest may have only a fraction as many of these.

use super::state::State;
use wasmtime::component::{Linker, Resource, ResourceTableError};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemView},
    p2::bindings::filesystem::types::HostDescriptor,
};
use wasmtime_wasi_http::{
    FieldMapError, WasiHttpView,
    p2::{
        bindings::http::types::{HostOutgoingRequest, HostOutgoingResponse},
        types::{HostOutgoingRequest as OutgoingRequest, HostOutgoingResponse as OutgoingResponse},
    },
};
use wasmtime_wasi_io::poll::DynPollable;

/// One in this many resources may be large.
const LARGE_PART: usize = 16;

/// The guest holds as many resources as it may.
#[derive(Debug, thiserror::Error)]
#[error("the guest holds more {what} than {most}, the limit that --guest-resources {resources} sets")]
pub(super) struct TooMany {
    what: &'static str,
    most: usize,
    resources: usize,
}

/// The most large resources among this many.
fn most_large(resources: usize) -> usize {
    resources.div_ceil(LARGE_PART)
}

/// The limit that an error of the engine is about, if it is one of these.
pub(super) fn exceeded(error: &wasmtime::Error, state: &State) -> Option<TooMany> {
    let resources = state.table.max_capacity();
    if let Some(TooMany { what, most, resources }) = error.downcast_ref() {
        return Some(TooMany { what, most: *most, resources: *resources });
    }
    if state.lacks_room_for_fields && matches!(error.downcast_ref(), Some(FieldMapError::TotalSizeTooBig)) {
        return Some(TooMany::large(resources));
    }
    let is_full = matches!(error.downcast_ref(), Some(ResourceTableError::Full))
        // The engine has no type for this error.
        || error.root_cause().to_string().ends_with("store handle limit exceeded");
    is_full.then_some(TooMany { what: "streams, pollables and other resources", most: resources, resources })
}

impl TooMany {
    fn large(resources: usize) -> Self {
        Self { what: "streams, bodies and collections of fields", most: most_large(resources), resources }
    }
}

impl State {
    /// The number of large resources of the guest. Pollables, which may be many, do not count.
    fn large(&mut self) -> usize {
        self.table.iter_mut().filter(|entry| !entry.is::<DynPollable>()).count()
    }

    /// Whether it may have one more.
    pub(super) fn has_room_for_large(&mut self) -> bool {
        self.large() < most_large(self.table.max_capacity())
    }

    fn make_room_for_large(&mut self) -> Result<(), TooMany> {
        let resources = self.table.max_capacity();
        if self.has_room_for_large() {
            return Ok(());
        }
        Err(TooMany::large(resources))
    }
}

/// Replaces the engine's calls that make streams of files.
pub(super) fn link_files(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store, (descriptor, offset): (Resource<Descriptor>, u64)| {
            let state: &mut State = store.data_mut();
            state.make_room_for_large()?;
            Ok((match state.filesystem().read_via_stream(descriptor, offset) {
                Ok(stream) => Ok(stream),
                Err(error) => Err(error.downcast()?),
            },))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store, (descriptor, offset): (Resource<Descriptor>, u64)| {
            let state: &mut State = store.data_mut();
            state.make_room_for_large()?;
            Ok((match state.filesystem().write_via_stream(descriptor, offset) {
                Ok(stream) => Ok(stream),
                Err(error) => Err(error.downcast()?),
            },))
        },
    )?;
    types.func_wrap("[method]descriptor.append-via-stream", |mut store, (descriptor,): (Resource<Descriptor>,)| {
        let state: &mut State = store.data_mut();
        state.make_room_for_large()?;
        Ok((match state.filesystem().append_via_stream(descriptor) {
            Ok(stream) => Ok(stream),
            Err(error) => Err(error.downcast()?),
        },))
    })
}

/// Replaces the engine's calls that make bodies.
pub(super) fn link_bodies(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.func_wrap("[method]outgoing-request.body", |mut store, (request,): (Resource<OutgoingRequest>,)| {
        let state: &mut State = store.data_mut();
        state.make_room_for_large()?;
        Ok((HostOutgoingRequest::body(&mut state.http(), request)?,))
    })?;
    types.func_wrap("[method]outgoing-response.body", |mut store, (response,): (Resource<OutgoingResponse>,)| {
        let state: &mut State = store.data_mut();
        state.make_room_for_large()?;
        Ok((HostOutgoingResponse::body(&mut state.http(), response)?,))
    })
}
