//! What needs `unsafe`: all of it, in one place.
#![expect(unsafe_code, reason = "each function says why it is sound, and what it leaves to its callers")]

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg},
};
use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
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

/// A packet that was received.
pub(crate) struct Packet {
    /// How much of the buffer it fills.
    pub(crate) length: usize,
    /// The descriptors that came with it, closed for processes that this one starts.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether more were sent than arrived.
    pub(crate) lost_descriptors: bool,
    /// Process and user that sent it, as the kernel says. A process that cannot be seen from here is 0.
    pub(crate) sender: Option<UnixCredentials>,
}

/// Receives one packet, with at most so many descriptors; the kernel closes those beyond.
///
/// # Errors
///
/// Whatever `recvmsg(2)` answers.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8], most_descriptors: usize) -> io::Result<Packet> {
    // The credentials come first and fill their part exactly, so that without room for descriptors none is installed.
    let mut control = cmsg_space!(UnixCredentials);
    if most_descriptors > 0 {
        control.resize(control.len() + rustix::cmsg_space!(ScmRights(most_descriptors)), 0);
    }
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut packet = Packet {
        length: received.bytes,
        descriptors: Vec::new(),
        lost_descriptors: received.flags.contains(MsgFlags::MSG_CTRUNC),
        sender: None,
    };
    // Where some were lost, the rest is not told: whoever has asked for any ends the exchange, and with it the process.
    for message in received.cmsgs().into_iter().flatten() {
        match message {
            ControlMessageOwned::ScmRights(numbers) => {
                // SAFETY: the kernel has just made these descriptors for this process, and nothing else knows them.
                packet.descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
            ControlMessageOwned::ScmCredentials(sender) => packet.sender = Some(sender),
            _ => {}
        }
    }
    Ok(packet)
}
