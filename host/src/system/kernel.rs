//! What needs `unsafe`: all of it, in one place.
#![expect(unsafe_code, reason = "each function says why it is sound, and what it leaves to its callers")]

pub(crate) mod artifact;

#[cfg(any(test, fuzzing))]
pub(crate) use artifact::undamaged;

use nix::{
    cmsg_space,
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg},
};
use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
};
use tokio::io::unix::AsyncFd;

/// Has the runtime's reactor watch a non-blocking socket, for as long as the result lives.
///
/// # Errors
///
/// Where the reactor cannot take it.
pub(crate) fn watched<T: Watchable>(socket: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: as a `Watchable` promises, until the `AsyncFd` that owns it from here on is dropped; that gives out shared references,
    // through which it cannot be replaced.
    unsafe { AsyncFd::register(socket) }.map_err(|error| error.into_parts().1)
}

/// An owner of a descriptor.
///
/// # Safety
///
/// The descriptor is open and the same for as long as there is this.
pub(crate) unsafe trait Watchable: AsRawFd {}

// SAFETY: it closes its descriptor when it is dropped, and gives it up only by being consumed.
unsafe impl Watchable for OwnedFd {}
// SAFETY: the owner lives as long as any share of it, and cannot be consumed meanwhile.
unsafe impl Watchable for Arc<OwnedFd> {}

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

/// How many packets a socket has dropped since it was made; a listening one does so when its queue is full.
///
/// # Errors
///
/// Where the kernel (before 4.12) does not know the option.
pub(crate) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut counters = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut length = size_of_val(&counters) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; the kernel writes at most `length` bytes, the size of
    // `counters`, for which any bytes are values.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counters.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    match answer {
        0 => Ok(counters[libc::SK_MEMINFO_DROPS as usize]),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes possession of a descriptor that this process was started with, where `is_it` recognises it, and closes it for processes
/// that this one starts. A number that was taken before, or that is this process's own, is not.
pub(crate) fn inherited(number: RawFd, is_it: impl FnOnce(BorrowedFd<'_>) -> bool) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: borrowed for system calls only, which report a number that is not open.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    // What this process opens is closed on exec from the start, and what has come through one is not.
    let flags = FdFlag::from_bits_retain(fcntl(probe, FcntlArg::F_GETFD).ok()?);
    if flags.contains(FdFlag::FD_CLOEXEC) || !is_it(probe) {
        return None;
    }
    fcntl(probe, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: it is open, as the calls above have shown; whoever started this process left it, as its flag has shown, and nobody
    // here has taken it before, or would again.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
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
