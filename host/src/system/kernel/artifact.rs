//! Machine code that this process may execute: from its own compiler, or from a file that only this
//! user can write.
//!
//! Executing bytes from another user is undefined behaviour, so only this module makes an
//! [`Artifact`]: its fields are private, and so is the path from a file to it. A
//! [`TrustedDirectory`] is one that other users can neither write nor redirect. An entry in it
//! opens as an artifact only if its owner, its mode and its checksum are right. Only an artifact
//! that was compiled here is written there.
#![expect(unsafe_code, reason = "the constructors establish what the engine asks for")]

use rustix::{
    fs::{Mode, OFlags},
    process::geteuid,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::SystemTime,
};
use twox_hash::XxHash3_128;
use wasmtime::{Engine, Module, component::Component};

/// The number of bytes of an entry that are read at once.
const PIECE: usize = 64 << 10;

/// The end of an entry: the length of the data after the code, and the checksum of everything
/// before it.
const LENGTH: u64 = size_of::<u32>() as u64;
const CHECKSUM: u64 = size_of::<u128>() as u64;

/// Compiled code.
#[derive(Debug)]
pub(crate) struct Artifact(Code);

#[derive(Debug)]
enum Code {
    /// Fresh from the compiler.
    Compiled(Vec<u8>),
    /// In a file, to be mapped.
    Kept(File),
}

impl Artifact {
    /// Compiles a component.
    pub(crate) fn of_component(engine: &Engine, component: &[u8]) -> wasmtime::Result<Self> {
        Ok(Self(Code::Compiled(engine.precompile_component(component)?)))
    }

    /// Compiles a core module.
    pub(crate) fn of_module(engine: &Engine, module: &[u8]) -> wasmtime::Result<Self> {
        Ok(Self(Code::Compiled(engine.precompile_module(module)?)))
    }

    /// Whether this process has compiled it.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self.0, Code::Compiled(_))
    }

    /// Makes a component that `engine` can execute.
    pub(crate) fn load_component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        match &self.0 {
            // SAFETY: the bytes come from this process's compiler, as in every value of this
            // variant.
            Code::Compiled(bytes) => unsafe { Component::deserialize(engine, bytes) },
            // SAFETY: as for every value of this variant, this program wrote the file and its
            // checksum matches. Other users can neither write nor replace it, and this program does
            // not write to a file that has its final name.
            Code::Kept(file) => unsafe { Component::deserialize_file(engine, by_descriptor(file)) },
        }
    }

    /// Makes a core module that `engine` can execute.
    pub(crate) fn load_module(&self, engine: &Engine) -> wasmtime::Result<Module> {
        match &self.0 {
            // SAFETY: as for a component.
            Code::Compiled(bytes) => unsafe { Module::deserialize(engine, bytes) },
            // SAFETY: as for a component.
            Code::Kept(file) => unsafe { Module::deserialize_file(engine, by_descriptor(file)) },
        }
    }
}

/// The path of the open descriptor. It names the file that was checked, even if the file's own path
/// now leads elsewhere.
fn by_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A directory that other users cannot write, on a path that they cannot redirect.
#[derive(Debug)]
pub(crate) struct TrustedDirectory(PathBuf);

impl TrustedDirectory {
    /// Creates the directory if it is missing. The error says why it cannot be trusted.
    pub(crate) fn prepare(dir: &Path) -> Result<Self, String> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| format!("the directory cannot be created: {error}"))?;
        // Links are followed once, here. The checks and all later use apply to the resolved path.
        let dir = dir.canonicalize().map_err(|error| format!("the directory cannot be found: {error}"))?;
        let me = geteuid().as_raw();
        for part in dir.ancestors() {
            let metadata = fs::symlink_metadata(part)
                .map_err(|error| format!("{} cannot be inspected: {error}", part.display()))?;
            if metadata.uid() != me && metadata.uid() != 0 {
                return Err(format!("{} belongs to another user; use a directory of this user", part.display()));
            }
            // In a sticky directory, such as /tmp, other users can create entries but not replace
            // ours.
            let others_replace = metadata.mode() & 0o022 != 0 && (part == dir || metadata.mode() & 0o1000 == 0);
            if others_replace {
                return Err(format!("other users can write to {0}; run chmod go-w {0}", part.display()));
            }
        }
        Ok(Self(dir))
    }

    /// Its path, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens an entry and checks its owner, mode and checksum. Returns the code and the data after
    /// it. Opens without blocking, in case the path is a pipe.
    pub(crate) fn open(&self, name: &str) -> io::Result<(Artifact, Vec<u8>)> {
        let file = File::from(rustix::fs::open(
            self.0.join(name),
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        let metadata = file.metadata()?;
        if !metadata.is_file()
            || metadata.mode() & 0o022 != 0
            || (metadata.uid() != geteuid().as_raw() && metadata.uid() != 0)
        {
            return Err(io::Error::other("other users can write to it, or it is not a regular file of this user"));
        }
        let behind = undamaged(&file, metadata.len())?;
        // The time of modification shows which entries are in use.
        drop(file.set_modified(SystemTime::now()));
        Ok((Artifact(Code::Kept(file)), behind))
    }

    /// Writes an entry under `temporary`, a name that no other process uses, and renames it when it
    /// is complete. Does nothing for an artifact that was itself read from an entry.
    pub(crate) fn keep(&self, name: &str, temporary: &Path, artifact: &Artifact, behind: &[u8]) -> io::Result<()> {
        let Code::Compiled(code) = &artifact.0 else { return Ok(()) };
        let length = u32::try_from(behind.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut checksum = XxHash3_128::new();
        [code, behind, &length].into_iter().for_each(|piece| checksum.write(piece));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
            for piece in [code, behind, &length, &checksum.finish_128().to_le_bytes()] {
                file.write_all(piece)?;
            }
            file.sync_all()?;
            fs::rename(temporary, self.0.join(name))
        })();
        if written.is_err() {
            drop(fs::remove_file(temporary));
        }
        written
    }
}

/// Reads the data after the code of an undamaged entry. Does not map it: a disk error would then
/// end the process.
pub(crate) fn undamaged(entry: &File, length: u64) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::other("it is damaged");
    let end = length.checked_sub(CHECKSUM).ok_or_else(damaged)?;
    let mut checksum = XxHash3_128::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < end {
        let room = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..room).ok_or_else(damaged)?;
        entry.read_exact_at(piece, at)?;
        checksum.write(piece);
        at += room as u64;
    }
    let mut expected = [0; CHECKSUM as usize];
    entry.read_exact_at(&mut expected, end)?;
    if checksum.finish_128() != u128::from_le_bytes(expected) {
        return Err(damaged());
    }
    let mut length = [0; LENGTH as usize];
    let end = end.checked_sub(LENGTH).ok_or_else(damaged)?;
    entry.read_exact_at(&mut length, end)?;
    let length = u32::from_le_bytes(length);
    let start = end.checked_sub(length.into()).ok_or_else(damaged)?;
    let mut behind = vec![0; length as usize];
    entry.read_exact_at(&mut behind, start)?;
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> (tempfile::TempDir, TrustedDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let trusted = TrustedDirectory::prepare(directory.path()).unwrap();
        (directory, trusted)
    }

    #[test]
    fn an_entry_reads_back_unchanged_and_a_damaged_one_is_rejected() {
        let (_directory, trusted) = trusted();
        let engine = Engine::default();
        let compiled = Artifact::of_module(&engine, b"\0asm\x01\0\0\0").unwrap();
        trusted.keep("entry", &trusted.path().join("draft"), &compiled, b"behind").unwrap();
        let (artifact, behind) = trusted.open("entry").unwrap();
        assert_eq!(behind, b"behind");
        assert!(compiled.is_fresh() && !artifact.is_fresh());
        artifact.load_module(&engine).unwrap();
        assert!(artifact.load_component(&engine).is_err(), "it is not a component");

        let whole = fs::read(trusted.path().join("entry")).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 50).chain(whole.len() - 40..whole.len()) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(trusted.path().join("damaged"), &damaged).unwrap();
            assert!(trusted.open("damaged").is_err(), "byte {at}");
            fs::write(trusted.path().join("damaged"), &whole[..at]).unwrap();
            assert!(trusted.open("damaged").is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_entry_that_others_can_write_is_rejected() {
        let (_directory, trusted) = trusted();
        let compiled = Artifact::of_module(&Engine::default(), b"\0asm\x01\0\0\0").unwrap();
        trusted.keep("entry", &trusted.path().join("draft"), &compiled, b"").unwrap();
        let entry = trusted.path().join("entry");
        fs::set_permissions(&entry, std::os::unix::fs::PermissionsExt::from_mode(0o620)).unwrap();
        assert!(trusted.open("entry").is_err());
        fs::set_permissions(&entry, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&entry, trusted.path().join("link")).unwrap();
        assert!(trusted.open("link").is_err());
        trusted.open("entry").unwrap();
    }
}
