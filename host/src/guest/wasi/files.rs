//! The granted directories. The engine's functions, except where they would let a guest take more
//! than its share of this process. An open does not wait, and takes one of the guest's places. So
//! does a listing, and a long listing is rejected. This module has the parts that both generations
//! of WASI share, and 0.2; `concurrent_files` has 0.3.

use crate::{
    component::sandboxed_dir::{self, OpenRequest},
    guest::state::State,
};
use rustix::fs::{FileType, Timestamps};
use std::{fs::File as StdFile, io, sync::Arc};
use tokio::task::spawn_blocking;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    OpenMode,
    filesystem::{Descriptor, Dir, File, WasiFilesystemView},
    p2::bindings::filesystem::types as p2,
};

/// The most entries of one listing: all of them are in memory at once.
pub(in crate::guest) const LONGEST_LISTING: usize = 8192;

/// Why a guest's call is rejected, in the terms of neither generation.
pub(in crate::guest) enum Refusal {
    Invalid,
    NotDirectory,
    NotPermitted,
    /// It holds as many descriptors as it may.
    TooMany,
    /// The listing would be too long.
    TooLong,
    Unsupported,
    System(io::Error),
}

macro_rules! impl_from_refusal {
    ($generation:ident) => {
        impl From<$crate::guest::wasi::files::Refusal> for $generation::ErrorCode {
            fn from(refusal: $crate::guest::wasi::files::Refusal) -> Self {
                use self::Refusal;
                match refusal {
                    Refusal::Invalid => Self::Invalid,
                    Refusal::NotDirectory => Self::NotDirectory,
                    Refusal::NotPermitted => Self::NotPermitted,
                    Refusal::TooMany | Refusal::TooLong => Self::Quota,
                    Refusal::Unsupported => Self::Unsupported,
                    Refusal::System(error) => error.into(),
                }
            }
        }
    };
}
pub(in crate::guest) use impl_from_refusal;

impl_from_refusal!(p2);

/// Converts the arguments of an open from the types of each generation.
macro_rules! open_arguments {
    ($generation:ident, $path_flags:ident, $open_flags:ident, $flags:ident) => {
        $crate::guest::wasi::files::OpenArguments {
            request: $crate::component::sandboxed_dir::OpenRequest {
                follow: $path_flags.contains($generation::PathFlags::SYMLINK_FOLLOW),
                create: $open_flags.contains($generation::OpenFlags::CREATE),
                exclusive: $open_flags.contains($generation::OpenFlags::EXCLUSIVE),
                truncate: $open_flags.contains($generation::OpenFlags::TRUNCATE),
                directory: $open_flags.contains($generation::OpenFlags::DIRECTORY),
                read: $flags.contains($generation::DescriptorFlags::READ),
                write: $flags.contains($generation::DescriptorFlags::WRITE),
                append: false,
            },
            synchronous: $flags.intersects(
                $generation::DescriptorFlags::FILE_INTEGRITY_SYNC
                    | $generation::DescriptorFlags::DATA_INTEGRITY_SYNC
                    | $generation::DescriptorFlags::REQUESTED_WRITE_SYNC,
            ),
        }
    };
}
pub(in crate::guest) use open_arguments;

/// Converts two times from the types of each generation; `None` for one that is not a valid time.
macro_rules! timestamps {
    ($generation:ident, $accessed:ident, $modified:ident) => {{
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
        let time = |time| {
            Some(match time {
                $generation::NewTimestamp::NoChange => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                $generation::NewTimestamp::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
                $generation::NewTimestamp::Timestamp(at) if at.nanoseconds < 1_000_000_000 => {
                    Timespec { tv_sec: i64::try_from(at.seconds).ok()?, tv_nsec: at.nanoseconds.into() }
                }
                $generation::NewTimestamp::Timestamp(_) => return None,
            })
        };
        time($accessed)
            .zip(time($modified))
            .map(|(last_access, last_modification)| Timestamps { last_access, last_modification })
    }};
}
pub(in crate::guest) use timestamps;

/// An open that a guest asks for.
pub(in crate::guest) struct OpenArguments {
    pub(in crate::guest) request: OpenRequest,
    /// Whether each write should reach the disk, which the engine does not do either.
    pub(in crate::guest) synchronous: bool,
}

/// An open that may begin: its place is taken.
pub(in crate::guest) struct Opening {
    dir: Dir,
    request: OpenRequest,
    place: Arc<()>,
}

impl Opening {
    pub(in crate::guest) async fn open(&self, path: String) -> Result<(StdFile, FileType), Refusal> {
        let (dir, request) = (Arc::clone(&self.dir.dir), self.request);
        apart(move || sandboxed_dir::open(&dir, &path, request)).await
    }
}

impl State {
    /// The granted directories, as new descriptors of the guest.
    pub(in crate::guest) fn preopened(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let granted = Arc::clone(&self.granted);
        let descriptors = granted.directories().iter().map(|(dir, path)| {
            let descriptor = self.table.push(Descriptor::Dir(dir.clone()))?;
            Ok((descriptor, path.clone()))
        });
        descriptors.collect()
    }

    pub(in crate::guest) fn dir(
        &mut self,
        descriptor: &Resource<Descriptor>,
    ) -> wasmtime::Result<Result<Dir, Refusal>> {
        self.learner.observable();
        Ok(match self.table.get(descriptor)? {
            Descriptor::Dir(dir) => Ok(dir.clone()),
            Descriptor::File(_) => Err(Refusal::NotDirectory),
        })
    }

    pub(in crate::guest) fn begin_open(
        &mut self,
        descriptor: &Resource<Descriptor>,
        path: &str,
        OpenArguments { request, synchronous }: OpenArguments,
    ) -> wasmtime::Result<Result<Opening, Refusal>> {
        let dir = match self.dir(descriptor)? {
            Ok(dir) => dir,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(if synchronous {
            Err(Refusal::Unsupported)
        } else if request.directory && (request.create || request.exclusive || request.truncate) {
            Err(Refusal::Invalid)
        } else if request.writes() && dir.perms.write_not_permitted() {
            self.denials().change(path);
            Err(Refusal::NotPermitted)
        } else {
            self.places.take(&self.table).map(|place| Opening { dir, request, place }).ok_or(Refusal::TooMany)
        })
    }

    pub(in crate::guest) fn end_open(
        &mut self,
        Opening { dir, request, place }: Opening,
        opened: Result<(StdFile, FileType), Refusal>,
    ) -> wasmtime::Result<Result<Resource<Descriptor>, Refusal>> {
        let (opened, kind) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::READ, request.reads());
        mode.set(OpenMode::WRITE, request.writes());
        let descriptor = if kind == FileType::Directory {
            let opened = Dir::new(opened, dir.perms, mode, false);
            self.places.keep_for_file(place, &opened.dir);
            Descriptor::Dir(opened)
        } else {
            let opened = File::new(opened, dir.perms, mode, false);
            self.places.keep_for_file(place, &opened.file);
            Descriptor::File(opened)
        };
        Ok(Ok(self.table.push(descriptor)?))
    }
}

/// Runs work that may wait for a disk on a blocking thread, so that other guests do not wait.
pub(in crate::guest) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(Refusal::System),
        Err(ended) => Err(Refusal::System(io::Error::other(ended))),
    }
}

pub(in crate::guest) async fn set_times(
    dir: Dir,
    path: String,
    follow: bool,
    times: Option<Timestamps>,
) -> Result<(), Refusal> {
    if dir.perms.write_not_permitted() {
        return Err(Refusal::NotPermitted);
    }
    let times = times.ok_or(Refusal::Invalid)?;
    apart(move || sandboxed_dir::set_times(&dir.dir, &path, follow, &times)).await
}

/// Replaces some of the engine's own functions.
pub(in crate::guest) fn link_wasi_0_2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker
        .instance("wasi:filesystem/preopens@0.2.12")?
        .func_wrap("get-directories", |mut store, (): ()| Ok((store.data_mut().preopened()?,)))?;
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, State>,
         (dir, path_flags, path, open_flags, flags): (
            Resource<Descriptor>,
            p2::PathFlags,
            String,
            p2::OpenFlags,
            p2::DescriptorFlags,
        )| {
            Box::new(async move {
                let arguments = open_arguments!(p2, path_flags, open_flags, flags);
                let opening = match store.data_mut().begin_open(&dir, &path, arguments)? {
                    Ok(opening) => opening,
                    Err(refusal) => return Ok((Err(p2::ErrorCode::from(refusal)),)),
                };
                let opened = opening.open(path).await;
                Ok((store.data_mut().end_open(opening, opened)?.map_err(p2::ErrorCode::from),))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-times-at",
        |mut store: StoreContextMut<'_, State>,
         (dir, path_flags, path, accessed, modified): (
            Resource<Descriptor>,
            p2::PathFlags,
            String,
            p2::NewTimestamp,
            p2::NewTimestamp,
        )| {
            Box::new(async move {
                let dir = match store.data_mut().dir(&dir)? {
                    Ok(dir) => dir,
                    Err(refusal) => return Ok((Err(p2::ErrorCode::from(refusal)),)),
                };
                let follow = path_flags.contains(p2::PathFlags::SYMLINK_FOLLOW);
                let set = set_times(dir, path, follow, timestamps!(p2, accessed, modified)).await;
                Ok((set.map_err(p2::ErrorCode::from),))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (descriptor,): (Resource<Descriptor>,)| {
            Box::new(async move {
                let state = store.data_mut();
                let dir = match state.dir(&descriptor)? {
                    Ok(dir) => dir,
                    Err(refusal) => return Ok((Err(p2::ErrorCode::from(refusal)),)),
                };
                let Some(place) = state.places.take(&state.table) else {
                    return Ok((Err(Refusal::TooMany.into()),));
                };
                // The engine reads the whole directory, so its length is checked before.
                match apart(move || sandboxed_dir::list(&dir.dir, LONGEST_LISTING)).await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok((Err(Refusal::TooLong.into()),)),
                    Err(refusal) => return Ok((Err(refusal.into()),)),
                }
                let state = store.data_mut();
                match p2::HostDescriptor::read_directory(&mut state.filesystem(), descriptor).await {
                    Ok(listing) => {
                        state.places.keep_for_entry(place, &listing);
                        Ok((Ok(listing),))
                    }
                    Err(error) => Ok((Err(error.downcast()?),)),
                }
            })
        },
    )
}
