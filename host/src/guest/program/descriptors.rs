//! A program's descriptors: the connection as its standard input and output, the log as its
//! standard error, the granted directories after them, then the files that it opens.
//!
//! The table is bounded: each opened file takes one of the guest's places (`places`), and
//! `fd_renumber` accepts only a target that is open.

use super::{
    errno::{Answer, Errno},
    listing::Listing,
    memory::Span,
    parts,
};
use crate::{component::grants::Granted, guest::state::State};
use rustix::fs::OFlags;
use std::{fs::File, sync::Arc};
use wasmtime::Caller;

/// Bits of a descriptor's flags.
pub(super) const APPEND: u16 = 1;
pub(super) const NONBLOCK: u16 = 4;

/// Kinds of files.
pub(super) const UNKNOWN: u8 = 0;
pub(super) const DIRECTORY: u8 = 3;
pub(super) const REGULAR_FILE: u8 = 4;

/// Bits of a descriptor's rights. They describe the kind of descriptor; grants decide about access.
pub(super) mod rights {
    pub(in super::super) const FD_READ: u64 = 1 << 1;
    pub(in super::super) const FD_WRITE: u64 = 1 << 6;
    pub(in super::super) const FD_ALLOCATE: u64 = 1 << 8;
    pub(in super::super) const FD_READDIR: u64 = 1 << 14;
    pub(in super::super) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    /// Seek, tell, advise.
    const OF_FILES: u64 = 1 << 2 | 1 << 5 | 1 << 7;
    /// Set flags, get status, set times, poll, synchronize.
    const OF_ALL: u64 = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 21 | 1 << 23 | 1 << 27;
    /// Everything that begins with `path_`, except `path_filestat_set_size`, and `fd_readdir`.
    /// Truncation needs no right here.
    pub(super) const OF_DIRECTORY: u64 = 0b11_1111_1111 << 9 | 1 << 20 | 0b111 << 24 | OF_ALL;

    pub(super) fn of_file(readable: bool, writable: bool) -> u64 {
        let read = if readable { FD_READ } else { 0 };
        let write = if writable { FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE } else { 0 };
        OF_ALL | OF_FILES | read | write
    }

    pub(super) fn of_stream(readable: bool) -> u64 {
        OF_ALL | if readable { FD_READ } else { FD_WRITE }
    }
}

/// An open descriptor.
pub(super) enum Descriptor {
    /// Standard input: the bytes that the peer sends.
    Input {
        flags: u16,
    },
    /// Standard output: the bytes that go to the peer.
    Output {
        flags: u16,
    },
    /// Standard error: the host's log.
    Log {
        flags: u16,
    },
    Directory(Directory),
    File(OpenFile),
}

/// A directory that was granted, or opened beneath one.
pub(super) struct Directory {
    pub(super) dir: Arc<File>,
    /// Whether the grant allows changes beneath it.
    pub(super) writable: bool,
    /// The path of the grant; `None` for a directory that the program opened or renumbered.
    pub(super) granted_as: Option<String>,
    pub(super) listing: Option<Listing>,
    pub(super) _place: Option<Arc<()>>,
}

/// A file that was opened.
pub(super) struct OpenFile {
    pub(super) file: Arc<File>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Whether the grant allows changes. The file may still be open for reading only.
    pub(super) grant_writable: bool,
    pub(super) flags: u16,
    pub(super) _place: Arc<()>,
}

/// All of a program's descriptors, by their numbers.
pub(super) struct Descriptors(Vec<Option<Descriptor>>);

impl Descriptors {
    pub(super) fn new(granted: &Granted) -> Self {
        let mut table = vec![
            Some(Descriptor::Input { flags: 0 }),
            Some(Descriptor::Output { flags: 0 }),
            Some(Descriptor::Log { flags: 0 }),
        ];
        table.extend(granted.directories().iter().map(|(dir, path)| {
            Some(Descriptor::Directory(Directory {
                dir: Arc::clone(&dir.dir),
                writable: !dir.perms.write_not_permitted(),
                granted_as: Some(path.clone()),
                listing: None,
                _place: None,
            }))
        }));
        Self(table)
    }

    pub(super) fn get(&self, number: u32) -> Answer<&Descriptor> {
        self.0.get(number as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Answer<&mut Descriptor> {
        self.0.get_mut(number as usize).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    pub(super) fn directory(&mut self, number: u32) -> Answer<&mut Directory> {
        match self.get_mut(number)? {
            Descriptor::Directory(directory) => Ok(directory),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Takes the lowest number that is free.
    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Answer<u32> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        match self.0.get_mut(free) {
            Some(slot) => *slot = Some(descriptor),
            None => self.0.push(Some(descriptor)),
        }
        Ok(u32::try_from(free)?)
    }

    fn remove(&mut self, number: u32) -> Answer<Descriptor> {
        self.0.get_mut(number as usize).and_then(Option::take).ok_or(Errno::BADF)
    }

    /// Moves a descriptor to another number, closes the one that was there, and frees the old
    /// number.
    fn renumber(&mut self, from: u32, to: u32) -> Answer {
        self.get(to)?;
        let mut moved = self.remove(from)?;
        if let Descriptor::Directory(directory) = &mut moved
            && from != to
        {
            directory.granted_as = None;
        }
        if let Some(slot) = self.0.get_mut(to as usize) {
            *slot = Some(moved);
        }
        Ok(())
    }
}

impl Descriptor {
    pub(super) fn flags(&self) -> u16 {
        match self {
            Self::Input { flags } | Self::Output { flags } | Self::Log { flags } => *flags,
            Self::Directory(_) => 0,
            Self::File(file) => file.flags,
        }
    }

    /// The file. The caller passes its errors for the other kinds.
    pub(super) fn file(&self, of_stream: Errno, of_directory: Errno) -> Answer<&OpenFile> {
        match self {
            Self::File(file) => Ok(file),
            Self::Directory(_) => Err(of_directory),
            Self::Input { .. } | Self::Output { .. } | Self::Log { .. } => Err(of_stream),
        }
    }

    /// The file or directory behind it; `None` for the standard streams.
    pub(super) fn on_disk(&self) -> Option<&Arc<File>> {
        match self {
            Self::File(file) => Some(&file.file),
            Self::Directory(directory) => Some(&directory.dir),
            Self::Input { .. } | Self::Output { .. } | Self::Log { .. } => None,
        }
    }

    fn status(&self) -> (u8, u64, u64) {
        match self {
            Self::Input { .. } => (UNKNOWN, rights::of_stream(true), 0),
            Self::Output { .. } | Self::Log { .. } => (UNKNOWN, rights::of_stream(false), 0),
            // Libraries do not ask for rights that are not inherited: a read-only grant must fail
            // in `path_open`, with its own error.
            Self::Directory(_) => (DIRECTORY, rights::OF_DIRECTORY, rights::OF_DIRECTORY | rights::of_file(true, true)),
            Self::File(file) => (REGULAR_FILE, rights::of_file(file.readable, file.writable), 0),
        }
    }
}

pub(super) fn close(caller: &mut Caller<'_, State>, number: u32) -> Answer {
    let (_, program) = parts(caller)?;
    program.descriptors.remove(number).map(drop)
}

pub(super) fn renumber(caller: &mut Caller<'_, State>, from: u32, to: u32) -> Answer {
    let (_, program) = parts(caller)?;
    program.descriptors.renumber(from, to)
}

pub(super) fn status(caller: &mut Caller<'_, State>, number: u32, out: u32) -> Answer {
    let (mut view, program) = parts(caller)?;
    let descriptor = program.descriptors.get(number)?;
    let (kind, base, inheriting) = descriptor.status();
    view.check(out, 24)?;
    view.put_u64(out, u64::from(kind) | u64::from(descriptor.flags()) << 16)?;
    view.put_u64(out + 8, base)?;
    view.put_u64(out + 16, inheriting)
}

pub(super) fn set_flags(caller: &mut Caller<'_, State>, number: u32, new: u32) -> Answer {
    let (_, program) = parts(caller)?;
    let descriptor = program.descriptors.get_mut(number)?;
    let new = u16::try_from(new)?;
    if new & !(APPEND | NONBLOCK) != 0 {
        return Err(if new < 1 << 5 { Errno::NOTSUP } else { Errno::INVAL });
    }
    match descriptor {
        Descriptor::Input { flags } | Descriptor::Output { flags } | Descriptor::Log { flags } => *flags = new,
        Descriptor::Directory(_) => return Err(Errno::BADF),
        Descriptor::File(file) => {
            let mut system = OFlags::NONBLOCK;
            system.set(OFlags::APPEND, new & APPEND != 0);
            rustix::fs::fcntl_setfl(&file.file, system)?;
            file.flags = new;
        }
    }
    Ok(())
}

/// Rights cannot be dropped: grants decide about access.
pub(super) fn set_rights(caller: &mut Caller<'_, State>, number: u32) -> Answer {
    let (_, program) = parts(caller)?;
    program.descriptors.get(number)?;
    Err(Errno::NOTSUP)
}

/// The path by which a directory was granted.
fn granted_as(descriptors: &Descriptors, number: u32) -> Answer<&str> {
    match descriptors.get(number)? {
        Descriptor::Directory(Directory { granted_as: Some(path), .. }) => Ok(path),
        _ => Err(Errno::BADF),
    }
}

pub(super) fn prestat(caller: &mut Caller<'_, State>, number: u32, out: u32) -> Answer {
    let (mut view, program) = parts(caller)?;
    let length = u32::try_from(granted_as(&program.descriptors, number)?.len())?;
    view.check(out, 8)?;
    // The tag for a directory, the only kind.
    view.put_u32(out, 0)?;
    view.put_u32(out + 4, length)
}

pub(super) fn prestat_name(caller: &mut Caller<'_, State>, number: u32, at: u32, length: u32) -> Answer {
    let (mut view, program) = parts(caller)?;
    let path = granted_as(&program.descriptors, number)?;
    if path.len() > length as usize {
        return Err(Errno::NAMETOOLONG);
    }
    view.check(at, Span { at, length }.length.min(u32::try_from(path.len()).unwrap_or(u32::MAX)))?;
    view.put(at, path.as_bytes())
}

/// The socket functions: to a program, no descriptor is a socket.
pub(super) fn not_a_socket(caller: &mut Caller<'_, State>, number: u32) -> Answer {
    let (_, program) = parts(caller)?;
    program.descriptors.get(number)?;
    Err(Errno::NOTSOCK)
}
