//! Compiled plugins become executable here: the one place with `unsafe`.
#![expect(unsafe_code, reason = "the engine cannot check that machine code is what its compiler made, and leaves that to its caller")]

use std::{os::fd::AsRawFd, path::PathBuf};
use wasmtime::{Engine, component::Component};

/// Machine code that this program's compiler made. Only `cache` makes values of this type: fresh from the compiler, or read
/// from a directory that nobody else can write and found undamaged.
#[derive(Debug)]
pub(super) enum Artifact {
    /// Fresh from the compiler.
    Fresh(Vec<u8>),
    /// In the cache: opened, checked, and to be mapped.
    Kept(std::fs::File),
}

impl Artifact {
    /// Makes it executable by `engine`.
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        match self {
            // SAFETY: the bytes come from `Engine::precompile_component` of this process.
            Self::Fresh(bytes) => unsafe { Component::deserialize(engine, bytes) },
            Self::Kept(file) => {
                // The path of the descriptor names the very file that was checked, whatever has become of its name.
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                // SAFETY: the file was written by this program, found undamaged by its digest, and lies where nobody else can
                // write it or replace it; this program never writes to a file that has been given its final name.
                unsafe { Component::deserialize_file(engine, path) }
            }
        }
    }
}
