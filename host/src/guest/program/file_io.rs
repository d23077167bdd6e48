//! Calls on open files and directories. The kernel keeps each file's position. Reads take cached
//! pages at once. Work that may wait for a disk runs on a blocking thread, so that other guests do
//! not wait for it.

use super::{
    TURN,
    descriptors::{Descriptor, OpenFile},
    errno::{Answer, Errno},
    memory::Span,
    parts,
};
use crate::{
    guest::{state::State, wasi::files::apart},
    wire::CHUNK,
};
use rustix::{
    fs::{Advice, FallocateFlags, FileType, SeekFrom, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT},
    io::{Errno as System, ReadWriteFlags},
};
use std::{
    fs::File,
    io::{IoSliceMut, Read, Write},
    num::NonZeroU64,
    os::unix::fs::FileExt,
    sync::Arc,
};
use wasmtime::Caller;

/// The offset that means the file's own position to `preadv2(2)`.
const OWN_POSITION: u64 = u64::MAX;

impl OpenFile {
    pub(super) fn to_read(&self) -> Answer<Arc<File>> {
        if self.readable { Ok(Arc::clone(&self.file)) } else { Err(Errno::BADF) }
    }

    pub(super) fn to_write(&self) -> Answer<Arc<File>> {
        if self.writable { Ok(Arc::clone(&self.file)) } else { Err(Errno::BADF) }
    }
}

pub(super) async fn read_at(
    caller: &mut Caller<'_, State>,
    fd: u32,
    spans: u32,
    count: u32,
    offset: u64,
    out: u32,
) -> Answer {
    let (view, program) = parts(caller)?;
    let file = program.descriptors.get(fd)?.file(Errno::SPIPE, Errno::ISDIR)?.to_read()?;
    let spans = view.spans(spans, count)?;
    view.check(out, 4)?;
    let read = read(caller, &file, &spans, Some(of_file(offset)?)).await?;
    parts(caller)?.0.put_u32(out, read)
}

pub(super) async fn write_at(
    caller: &mut Caller<'_, State>,
    fd: u32,
    spans: u32,
    count: u32,
    offset: u64,
    out: u32,
) -> Answer {
    let (view, program) = parts(caller)?;
    let file = program.descriptors.get(fd)?.file(Errno::SPIPE, Errno::ISDIR)?.to_write()?;
    let spans = view.spans(spans, count)?;
    view.check(out, 4)?;
    let written = write(caller, &file, &spans, Some(of_file(offset)?)).await?;
    parts(caller)?.0.put_u32(out, written)
}

/// The kernel's offsets and sizes are signed.
fn of_file(offset: u64) -> Answer<u64> {
    if i64::try_from(offset).is_ok() { Ok(offset) } else { Err(Errno::INVAL) }
}

/// Reads from a position, or from the file's own, which then advances.
pub(super) async fn read(
    caller: &mut Caller<'_, State>,
    file: &Arc<File>,
    spans: &[Span],
    from: Option<u64>,
) -> Answer<u32> {
    parts(caller)?.1.learner.observable();
    let (mut total, mut turn) = (0_u32, 0_u32);
    for span in spans {
        let mut rest = *span;
        while rest.length > 0 {
            let position = from.map(|from| from + u64::from(total));
            let count = match read_now(file, parts(caller)?.0.bytes_mut(rest.at_most(TURN))?, position) {
                Some(read) => read.map_err(Errno::from),
                None => read_apart(caller, file, rest, position).await,
            };
            match count {
                Ok(0) => return Ok(total),
                Ok(count) => (rest, total, turn) = (rest.after(count), total + count, turn + count),
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => return Ok(total),
            }
            if turn >= TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(total)
}

/// Reads cached pages; `None` if the read would wait, or the file system cannot tell.
fn read_now(file: &File, buffer: &mut [u8], position: Option<u64>) -> Option<Result<u32, System>> {
    let position = position.unwrap_or(OWN_POSITION);
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], position, ReadWriteFlags::NOWAIT) {
        Err(System::AGAIN | System::OPNOTSUPP | System::NOSYS | System::INTR) => None,
        read => Some(read.map(|count| u32::try_from(count).unwrap_or(u32::MAX))),
    }
}

async fn read_apart(
    caller: &mut Caller<'_, State>,
    file: &Arc<File>,
    span: Span,
    position: Option<u64>,
) -> Answer<u32> {
    let (file, length) = (Arc::clone(file), (span.length as usize).min(CHUNK));
    let bytes = apart(move || {
        let mut buffer = vec![0; length];
        let count = match position {
            Some(position) => file.read_at(&mut buffer, position)?,
            None => (&*file).read(&mut buffer)?,
        };
        buffer.truncate(count);
        Ok(buffer)
    })
    .await?;
    parts(caller)?.0.put(span.at, &bytes)?;
    Ok(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
}

/// Writes to a position, or to the file's own, which then advances.
pub(super) async fn write(
    caller: &mut Caller<'_, State>,
    file: &Arc<File>,
    spans: &[Span],
    to: Option<u64>,
) -> Answer<u32> {
    parts(caller)?.1.learner.observable();
    let mut total = 0_u32;
    for span in spans {
        let mut rest = *span;
        while rest.length > 0 {
            let bytes = parts(caller)?.0.bytes(rest.at_most(CHUNK as u32))?.to_vec();
            let (file, position) = (Arc::clone(file), to.map(|to| to + u64::from(total)));
            let written = apart(move || match position {
                Some(position) => file.write_at(&bytes, position),
                None => (&*file).write(&bytes),
            });
            match written.await {
                Ok(0) => return Ok(total),
                Ok(count) => {
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    (rest, total) = (rest.after(count), total + count);
                }
                Err(refusal) if total == 0 => return Err(refusal.into()),
                Err(_) => return Ok(total),
            }
        }
    }
    Ok(total)
}

pub(super) fn seek(caller: &mut Caller<'_, State>, fd: u32, offset: i64, whence: u32, out: u32) -> Answer {
    let (mut view, program) = parts(caller)?;
    let file = program.descriptors.get(fd)?.file(Errno::SPIPE, Errno::BADF)?;
    let position = match whence {
        0 => SeekFrom::Start(u64::try_from(offset)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(Errno::INVAL),
    };
    view.check(out, 8)?;
    program.learner.observable();
    view.put_u64(out, rustix::fs::seek(&file.file, position)?)
}

pub(super) fn tell(caller: &mut Caller<'_, State>, fd: u32, out: u32) -> Answer {
    let (mut view, program) = parts(caller)?;
    let file = program.descriptors.get(fd)?.file(Errno::SPIPE, Errno::BADF)?;
    view.check(out, 8)?;
    view.put_u64(out, rustix::fs::tell(&file.file)?)
}

pub(super) async fn advise(caller: &mut Caller<'_, State>, fd: u32, offset: u64, length: u64, advice: u32) -> Answer {
    let (_, program) = parts(caller)?;
    let file = Arc::clone(&program.descriptors.get(fd)?.file(Errno::SPIPE, Errno::BADF)?.file);
    let (offset, length) = (of_file(offset)?, NonZeroU64::new(of_file(length)?));
    let advice = match advice {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        5 => Advice::NoReuse,
        _ => return Err(Errno::INVAL),
    };
    program.learner.observable();
    Ok(apart(move || Ok(rustix::fs::fadvise(&file, offset, length, advice)?)).await?)
}

pub(super) async fn allocate(caller: &mut Caller<'_, State>, fd: u32, offset: u64, length: u64) -> Answer {
    let (_, program) = parts(caller)?;
    let file = program.descriptors.get(fd)?.file(Errno::SPIPE, Errno::BADF)?.to_write()?;
    let (offset, length) = (of_file(offset)?, of_file(length)?);
    program.learner.observable();
    Ok(apart(move || Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), offset, length)?)).await?)
}

/// How much of a file to flush to its disk.
pub(super) enum Sync {
    Data,
    All,
}

pub(super) async fn sync(caller: &mut Caller<'_, State>, fd: u32, what: Sync) -> Answer {
    let (_, program) = parts(caller)?;
    let file = Arc::clone(program.descriptors.get(fd)?.on_disk().ok_or(Errno::INVAL)?);
    program.learner.observable();
    Ok(apart(move || match what {
        Sync::Data => file.sync_data(),
        Sync::All => file.sync_all(),
    })
    .await?)
}

pub(super) async fn set_size(caller: &mut Caller<'_, State>, fd: u32, size: u64) -> Answer {
    let (_, program) = parts(caller)?;
    let file = program.descriptors.get(fd)?.file(Errno::INVAL, Errno::BADF)?.to_write()?;
    let size = of_file(size)?;
    program.learner.observable();
    Ok(apart(move || file.set_len(size)).await?)
}

/// New times, as the program passes them.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) accessed: u64,
    pub(super) modified: u64,
    pub(super) flags: u32,
}

impl TryFrom<Times> for Timestamps {
    type Error = Errno;

    fn try_from(Times { accessed, modified, flags }: Times) -> Answer<Self> {
        const SECOND: u64 = 1_000_000_000;
        let time = |set: u32, now: u32, at: u64| match (flags & set != 0, flags & now != 0) {
            (false, false) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
            (false, true) => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }),
            // 2⁶⁴ nanoseconds are fewer than 2³⁵ seconds.
            (true, false) => Ok(Timespec { tv_sec: (at / SECOND).cast_signed(), tv_nsec: (at % SECOND).cast_signed() }),
            (true, true) => Err(Errno::INVAL),
        };
        if flags >= 1 << 4 {
            return Err(Errno::INVAL);
        }
        Ok(Self { last_access: time(1, 2, accessed)?, last_modification: time(4, 8, modified)? })
    }
}

pub(super) async fn set_times(caller: &mut Caller<'_, State>, fd: u32, times: Times) -> Answer {
    let (_, program) = parts(caller)?;
    let descriptor = program.descriptors.get(fd)?;
    let times = Timestamps::try_from(times)?;
    let may = match descriptor {
        Descriptor::File(file) => file.grant_writable,
        Descriptor::Directory(directory) => directory.writable,
        _ => return Err(Errno::INVAL),
    };
    if !may {
        return Err(Errno::PERM);
    }
    let file = Arc::clone(descriptor.on_disk().ok_or(Errno::INVAL)?);
    program.learner.observable();
    Ok(apart(move || Ok(rustix::fs::futimens(&file, &times)?)).await?)
}

pub(super) async fn status(caller: &mut Caller<'_, State>, fd: u32, out: u32) -> Answer {
    let (mut view, program) = parts(caller)?;
    let file = program.descriptors.get(fd)?.on_disk().map(Arc::clone);
    view.check(out, 64)?;
    // The standard streams have no status.
    let Some(file) = file else { return view.put(out, &[0; 64]) };
    program.learner.observable();
    let status = apart(move || Ok(rustix::fs::fstat(&file)?)).await?;
    parts(caller)?.0.put(out, &described(&status))
}

/// A status as WASI 0.1 lays it out.
pub(super) fn described(status: &Stat) -> [u8; 64] {
    let time = |seconds: i64, nanoseconds: u64| {
        u64::try_from(seconds).unwrap_or_default().saturating_mul(1_000_000_000).saturating_add(nanoseconds)
    };
    let words = [
        status.st_dev,
        status.st_ino,
        kind(FileType::from_raw_mode(status.st_mode)).into(),
        status.st_nlink,
        u64::try_from(status.st_size).unwrap_or_default(),
        time(status.st_atime, status.st_atime_nsec),
        time(status.st_mtime, status.st_mtime_nsec),
        time(status.st_ctime, status.st_ctime_nsec),
    ];
    let mut bytes = [0; 64];
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    bytes
}

/// A kind of file by WASI's number.
pub(super) fn kind(kind: FileType) -> u8 {
    match kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => super::descriptors::DIRECTORY,
        FileType::RegularFile => super::descriptors::REGULAR_FILE,
        FileType::Socket => 6,
        FileType::Symlink => 7,
        FileType::Fifo | FileType::Unknown => super::descriptors::UNKNOWN,
    }
}
