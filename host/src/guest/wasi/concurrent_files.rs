//! The granted directories in WASI 0.3; `files` is for 0.2.

use super::files::{LONGEST_LISTING, Refusal, apart, impl_from_refusal, open_arguments, set_times, timestamps};
use crate::{component::sandboxed_dir, guest::state::State};
use rustix::fs::FileType;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};
use wasmtime::{
    StoreContextMut,
    component::{Destination, FutureReader, Linker, Resource, StreamProducer, StreamReader, StreamResult},
};
use wasmtime_wasi::{filesystem::Descriptor, p3::bindings::filesystem::types as p3};

impl_from_refusal!(p3);

/// Replaces some of the engine's own functions.
pub(in crate::guest) fn link_wasi_0_3(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker
        .instance("wasi:filesystem/preopens@0.3.0")?
        .func_wrap("get-directories", |mut store, (): ()| Ok((store.data_mut().preopened()?,)))?;
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor,
         (dir, path_flags, path, open_flags, flags): (
            Resource<Descriptor>,
            p3::PathFlags,
            String,
            p3::OpenFlags,
            p3::DescriptorFlags,
        )| {
            Box::pin(async move {
                let arguments = open_arguments!(p3, path_flags, open_flags, flags);
                let opening = match accessor.with(|mut store| store.get().begin_open(&dir, &path, arguments))? {
                    Ok(opening) => opening,
                    Err(refusal) => return Ok((Err(p3::ErrorCode::from(refusal)),)),
                };
                let opened = opening.open(path).await;
                let ended = accessor.with(|mut store| store.get().end_open(opening, opened))?;
                Ok((ended.map_err(p3::ErrorCode::from),))
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.set-times-at",
        |accessor,
         (dir, path_flags, path, accessed, modified): (
            Resource<Descriptor>,
            p3::PathFlags,
            String,
            p3::NewTimestamp,
            p3::NewTimestamp,
        )| {
            Box::pin(async move {
                let dir = match accessor.with(|mut store| store.get().dir(&dir))? {
                    Ok(dir) => dir,
                    Err(refusal) => return Ok((Err(p3::ErrorCode::from(refusal)),)),
                };
                let follow = path_flags.contains(p3::PathFlags::SYMLINK_FOLLOW);
                let set = set_times(dir, path, follow, timestamps!(p3, accessed, modified)).await;
                Ok((set.map_err(p3::ErrorCode::from),))
            })
        },
    )?;
    // The engine's own keeps a thread for each listing that a guest does not read.
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (descriptor,): (Resource<Descriptor>,)| {
            Box::new(async move {
                let state = store.data_mut();
                let listed = match state.dir(&descriptor)? {
                    Err(refusal) => Err(refusal),
                    Ok(dir) => match state.places.take(&state.table) {
                        None => Err(Refusal::TooMany),
                        Some(place) => match apart(move || sandboxed_dir::list(&dir.dir, LONGEST_LISTING)).await {
                            Ok(Some(entries)) => Ok(Listing { entries: entries.into_iter(), _place: place }),
                            Ok(None) => Err(Refusal::TooLong),
                            Err(refusal) => Err(refusal),
                        },
                    },
                };
                let (stream, outcome) = match listed {
                    Ok(listing) => (StreamReader::new(&mut store, listing)?, Ok(())),
                    Err(refusal) => {
                        let nothing = StreamReader::new(&mut store, std::iter::empty())?;
                        (nothing, Err(p3::ErrorCode::from(refusal)))
                    }
                };
                let outcome = FutureReader::new(&mut store, async move { wasmtime::error::Ok(outcome) })?;
                Ok(((stream, outcome),))
            })
        },
    )
}

/// The entries of a directory, on their way to the guest.
struct Listing {
    entries: vec::IntoIter<sandboxed_dir::Name>,
    _place: Arc<()>,
}

impl<D> StreamProducer<D> for Listing {
    type Item = p3::DirectoryEntry;
    type Buffer = Option<p3::DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // A read of zero bytes asks whether there is something.
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        // A name that is not text can be neither passed on nor opened.
        let next = self.entries.find_map(|entry| Some((String::from_utf8(entry.name).ok()?, entry.kind)));
        Poll::Ready(Ok(match next {
            Some((name, kind)) => {
                destination.set_buffer(Some(p3::DirectoryEntry { type_: described(kind), name }));
                StreamResult::Completed
            }
            None => StreamResult::Dropped,
        }))
    }
}

fn described(kind: FileType) -> p3::DescriptorType {
    match kind {
        FileType::RegularFile => p3::DescriptorType::RegularFile,
        FileType::Directory => p3::DescriptorType::Directory,
        FileType::Symlink => p3::DescriptorType::SymbolicLink,
        FileType::Fifo => p3::DescriptorType::Fifo,
        FileType::Socket => p3::DescriptorType::Socket,
        FileType::CharacterDevice => p3::DescriptorType::CharacterDevice,
        FileType::BlockDevice => p3::DescriptorType::BlockDevice,
        FileType::Unknown => p3::DescriptorType::Other(None),
    }
}
