//! What needs `unsafe`: all of it, in one place.
#![expect(unsafe_code, reason = "each function says why it is sound, and what it leaves to its callers")]

use nix::libc;
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};
use tokio::io::unix::AsyncFd;
use wasmtime::{Engine, component::Component};

/// Has the runtime's reactor watch a non-blocking socket, for as long as the result lives.
///
/// # Errors
///
/// Where the reactor cannot take it.
pub(crate) fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` owns a valid descriptor, always the same one, and closes it only when the `AsyncFd` that owns it from
    // here on is dropped; `AsyncFd` gives out shared references, through which it cannot be replaced.
    unsafe { AsyncFd::register(socket) }.map_err(|error| error.into_parts().1)
}

/// Which network namespace a socket is in; `None` where the kernel (before 5.14) does not know the option.
///
/// # Errors
///
/// Where the descriptor is no socket.
pub(crate) fn network_namespace(socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the descriptor is open for as long as it is borrowed; the kernel writes at most `length` bytes, the size of
    // `cookie`, for which any bytes are a value.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 {
        return Ok(Some(cookie));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        error => Err(error),
    }
}

/// Machine code that this program's compiler made. Only the cache of compiled plugins makes values of this type: fresh from
/// the compiler, or read from a directory that nobody else can write and found undamaged.
#[derive(Debug)]
pub(crate) enum Artifact {
    /// Fresh from the compiler.
    Fresh(Vec<u8>),
    /// In the cache: opened, checked, and to be mapped.
    Kept(File),
}

impl Artifact {
    /// Makes it executable by `engine`.
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
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
