//! `fd_readdir`: a directory's entries, each once, with a buffer of any size.
//!
//! A read from the start reads the whole directory, and keeps the list until the program has seen
//! its end. A cookie is an index into that list. An entry that does not fit is truncated, as WASI
//! 0.1 specifies; the program asks for it again by its cookie.

use super::{
    errno::{Answer, Errno},
    file_io::kind,
    memory::Span,
    parts,
};
use crate::{
    component::sandboxed_dir::{self, Name},
    guest::{
        state::State,
        wasi::files::{LONGEST_LISTING, Refusal, apart},
    },
};
use rustix::fs::FileType;
use std::{fs::File, io, os::unix::fs::MetadataExt, sync::Arc};
use wasmtime::Caller;

/// The entries of a directory: `.` and `..` first.
pub(super) struct Listing(Vec<Name>);

impl Listing {
    /// `None` if there are too many entries.
    fn of(dir: &File) -> io::Result<Option<Self>> {
        let Some(rest) = sandboxed_dir::list(dir, LONGEST_LISTING)? else { return Ok(None) };
        // The parent may lie outside of the grant: `..` shows the directory itself, as at the root
        // of a file system.
        let inode = dir.metadata()?.ino();
        let special = |name: &[u8]| Name { name: name.to_vec(), kind: FileType::Directory, inode };
        let mut entries = vec![special(b"."), special(b"..")];
        // WASI cannot represent a name that is not UTF-8.
        entries.extend(rest.into_iter().filter(|entry| std::str::from_utf8(&entry.name).is_ok()));
        Ok(Some(Self(entries)))
    }

    /// As many entries from this index on as fit; the last one may be truncated.
    fn written(&self, from: u64, room: usize) -> Vec<u8> {
        let mut written = Vec::new();
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        for (number, entry) in self.0.iter().enumerate().skip(from) {
            if written.len() >= room {
                break;
            }
            written.extend(((number + 1) as u64).to_le_bytes());
            written.extend(entry.inode.to_le_bytes());
            // The longest name has 255 bytes.
            written.extend(u32::try_from(entry.name.len()).unwrap_or_default().to_le_bytes());
            written.extend(u32::from(kind(entry.kind)).to_le_bytes());
            written.extend_from_slice(&entry.name);
        }
        written.truncate(room);
        written
    }
}

pub(super) async fn read(caller: &mut Caller<'_, State>, fd: u32, room: Span, cookie: u64, out: u32) -> Answer {
    let (view, program) = parts(caller)?;
    view.check(out, 4)?;
    view.bytes(room)?;
    let directory = program.descriptors.directory(fd)?;
    let dir = Arc::clone(&directory.dir);
    if cookie == 0 || directory.listing.is_none() {
        program.learner.observable();
        let (_, state) = super::memory_and_state(caller)?;
        let _place = state.places.take(&state.table).ok_or(Errno::MFILE)?;
        let listing = apart(move || Listing::of(&dir)).await?.ok_or(Errno::from(Refusal::TooLong))?;
        parts(caller)?.1.descriptors.directory(fd)?.listing = Some(listing);
    }
    let (mut view, program) = parts(caller)?;
    let directory = program.descriptors.directory(fd)?;
    let written = directory.listing.as_ref().map(|listing| listing.written(cookie, room.length as usize));
    let written = written.unwrap_or_default();
    view.put(room.at, &written)?;
    let length = u32::try_from(written.len()).unwrap_or(room.length);
    // A buffer that is not full tells the program that the listing ends.
    if length < room.length {
        directory.listing = None;
    }
    view.put_u32(out, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes before a name.
    const HEAD: usize = 24;

    /// Reads everything as a C library does: it asks again for a truncated entry by the entry's
    /// number.
    fn names(listing: &Listing, room: usize) -> Vec<String> {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let written = listing.written(cookie, room);
            let mut rest = written.as_slice();
            let told = names.len();
            while let Some((head, behind)) = rest.split_at_checked(HEAD) {
                let length = u32::from_le_bytes(head[16..20].try_into().unwrap()) as usize;
                let Some((name, behind)) = behind.split_at_checked(length) else { break };
                names.push(String::from_utf8(name.to_vec()).unwrap());
                cookie = u64::from_le_bytes(head[..8].try_into().unwrap());
                rest = behind;
            }
            if written.len() < room {
                return names;
            }
            assert!(names.len() > told, "no entry fits into {room} bytes");
        }
    }

    #[test]
    fn each_entry_is_listed_once_with_any_buffer_size() {
        let files = tempfile::tempdir().unwrap();
        let mut expected: Vec<String> = (0..300).map(|number| format!("f{number}")).collect();
        expected.iter().for_each(|name| drop(File::create(files.path().join(name)).unwrap()));
        expected.extend([".".to_owned(), "..".to_owned()]);
        expected.sort();
        let listing = Listing::of(&File::open(files.path()).unwrap()).unwrap().unwrap();
        for room in (HEAD + 4..HEAD + 64).chain([100, 1000, 4096, 1 << 20]) {
            let mut found = names(&listing, room);
            assert_eq!(found[..2], [".", ".."], "{room}");
            found.sort();
            assert_eq!(found, expected, "{room}");
        }
        assert!(listing.written(302, 100).is_empty());
        assert!(listing.written(u64::MAX, 100).is_empty());
    }
}
