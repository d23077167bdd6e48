//! The calls that take a path. `sandboxed_dir` and `entries` resolve it, and keep it inside its
//! directory.

use super::{
    descriptors::{APPEND, Descriptor, Directory, NONBLOCK, OpenFile, rights},
    errno::{Answer, Errno},
    file_io::{Times, described},
    memory::Span,
    parts,
};
use crate::{
    component::sandboxed_dir::{self, OpenRequest},
    guest::{
        state::State,
        wasi::{entries, files::apart},
    },
};
use rustix::fs::{FileType, Timestamps};
use std::{fs::File, io, sync::Arc};
use wasmtime::Caller;

/// A path, as the program passes it.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub(super) fd: u32,
    pub(super) at: u32,
    pub(super) length: u32,
}

/// The arguments of `path_open`.
pub(super) struct Opening {
    pub(super) follow: u32,
    pub(super) open: u32,
    pub(super) rights: u64,
    pub(super) flags: u32,
}

/// A path and the directory in which it begins.
struct Found {
    dir: Arc<File>,
    path: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Look,
    Change,
}

/// Reads a path and finds its directory. A read-only grant rejects changes before the path is
/// resolved.
fn find(caller: &mut Caller<'_, State>, Name { fd, at, length }: Name, access: Access) -> Answer<Found> {
    let (view, program) = parts(caller)?;
    let directory = program.descriptors.directory(fd)?;
    let path = view.text(at, length)?;
    let (dir, writable) = (Arc::clone(&directory.dir), directory.writable);
    program.learner.observable();
    if access == Access::Change && !writable {
        caller.data().denials().change(&path);
        return Err(Errno::PERM);
    }
    Ok(Found { dir, path })
}

fn follows(flags: u32) -> Answer<bool> {
    match flags {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::INVAL),
    }
}

/// Runs a change to one name.
async fn change(
    caller: &mut Caller<'_, State>,
    name: Name,
    work: impl FnOnce(&File, &str) -> io::Result<()> + Send + 'static,
) -> Answer {
    let Found { dir, path } = find(caller, name, Access::Change)?;
    Ok(apart(move || work(&dir, &path)).await?)
}

pub(super) async fn create_directory(caller: &mut Caller<'_, State>, name: Name) -> Answer {
    change(caller, name, entries::create_directory).await
}

pub(super) async fn remove_directory(caller: &mut Caller<'_, State>, name: Name) -> Answer {
    change(caller, name, entries::remove_directory).await
}

pub(super) async fn unlink(caller: &mut Caller<'_, State>, name: Name) -> Answer {
    change(caller, name, entries::unlink).await
}

pub(super) async fn set_times(caller: &mut Caller<'_, State>, name: Name, follow: u32, times: Times) -> Answer {
    let (follow, times) = (follows(follow)?, Timestamps::try_from(times)?);
    change(caller, name, move |dir, path| sandboxed_dir::set_times(dir, path, follow, &times)).await
}

pub(super) async fn symlink(caller: &mut Caller<'_, State>, target: Span, name: Name) -> Answer {
    let target = parts(caller)?.0.text(target.at, target.length)?;
    change(caller, name, move |dir, path| entries::symlink(&target, dir, path)).await
}

pub(super) async fn rename(caller: &mut Caller<'_, State>, from: Name, to: Name) -> Answer {
    let (from, to) = (find(caller, from, Access::Change)?, find(caller, to, Access::Change)?);
    Ok(apart(move || entries::rename((&from.dir, &from.path), (&to.dir, &to.path))).await?)
}

/// Makes a hard link. As in other implementations, following a symbolic link is not supported.
pub(super) async fn link(caller: &mut Caller<'_, State>, from: Name, follow: u32, to: Name) -> Answer {
    let (from, to) = (find(caller, from, Access::Change)?, find(caller, to, Access::Change)?);
    if follows(follow)? {
        return Err(Errno::INVAL);
    }
    Ok(apart(move || entries::link((&from.dir, &from.path), (&to.dir, &to.path))).await?)
}

pub(super) async fn status(caller: &mut Caller<'_, State>, name: Name, follow: u32, out: u32) -> Answer {
    let follow = follows(follow)?;
    let Found { dir, path } = find(caller, name, Access::Look)?;
    parts(caller)?.0.check(out, 64)?;
    let status = apart(move || entries::status(&dir, &path, follow)).await?;
    parts(caller)?.0.put(out, &described(&status))
}

/// Stores a link's target, truncated to the buffer.
pub(super) async fn read_link(caller: &mut Caller<'_, State>, name: Name, room: Span, out: u32) -> Answer {
    let Found { dir, path } = find(caller, name, Access::Look)?;
    let (view, _) = parts(caller)?;
    view.check(out, 4)?;
    view.bytes(room)?;
    let target = apart(move || entries::read_link(&dir, &path)).await?;
    let target = std::str::from_utf8(&target)?.as_bytes();
    let target = target.get(..room.length as usize).unwrap_or(target);
    let (mut view, _) = parts(caller)?;
    view.put(room.at, target)?;
    view.put_u32(out, u32::try_from(target.len()).unwrap_or(room.length))
}

pub(super) async fn open(caller: &mut Caller<'_, State>, name: Name, opening: Opening, out: u32) -> Answer {
    let request = request(&opening)?;
    let flags = u16::try_from(opening.flags)?;
    let Found { dir, path } = find(caller, name, if request.writes() { Access::Change } else { Access::Look })?;
    let (view, state) = super::memory_and_state(caller)?;
    view.check(out, 4)?;
    let place = state.places.take(&state.table).ok_or(Errno::MFILE)?;
    let grant_writable = state.program.as_mut().ok_or(Errno::BADF)?.descriptors.directory(name.fd)?.writable;
    let (opened, kind) = apart(move || sandboxed_dir::open(&dir, &path, request)).await?;
    let opened = Arc::new(opened);
    let descriptor = if kind == FileType::Directory {
        Descriptor::Directory(Directory {
            dir: opened,
            writable: grant_writable,
            granted_as: None,
            listing: None,
            _place: Some(place),
        })
    } else {
        Descriptor::File(OpenFile {
            file: opened,
            readable: request.reads(),
            writable: request.write,
            grant_writable,
            flags,
            _place: place,
        })
    };
    let (mut view, program) = parts(caller)?;
    let number = program.descriptors.insert(descriptor)?;
    view.put_u32(out, number)
}

fn request(Opening { follow, open, rights, flags }: &Opening) -> Answer<OpenRequest> {
    const CREATE: u32 = 1;
    const DIRECTORY: u32 = 2;
    const EXCLUSIVE: u32 = 4;
    const TRUNCATE: u32 = 8;
    if *open >= 1 << 4 || *flags >= 1 << 5 {
        return Err(Errno::INVAL);
    }
    if flags & !u32::from(APPEND | NONBLOCK) != 0 {
        return Err(Errno::NOTSUP);
    }
    let request = OpenRequest {
        follow: follows(*follow)?,
        create: open & CREATE != 0,
        exclusive: open & EXCLUSIVE != 0,
        truncate: open & TRUNCATE != 0,
        directory: open & DIRECTORY != 0,
        read: rights & (rights::FD_READ | rights::FD_READDIR) != 0,
        write: rights & (rights::FD_WRITE | rights::FD_ALLOCATE | rights::FD_FILESTAT_SET_SIZE) != 0,
        append: flags & u32::from(APPEND) != 0,
    };
    if request.directory && (request.create || request.exclusive || request.truncate) {
        return Err(Errno::INVAL);
    }
    Ok(request)
}
