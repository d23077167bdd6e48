//! All code that needs `unsafe`, in one place.
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

/// Registers a non-blocking socket with the runtime's reactor, for as long as the result lives.
///
/// # Errors
///
/// If the reactor does not accept it.
pub(crate) fn watched<T: Watchable>(socket: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `Watchable` promises an open, unchanged descriptor until the `AsyncFd` that owns it
    // is dropped. The `AsyncFd` gives out shared references only, which cannot replace it.
    unsafe { AsyncFd::register(socket) }.map_err(|error| error.into_parts().1)
}

/// An owner of a descriptor.
///
/// # Safety
///
/// The descriptor stays open and the same for the life of the value.
pub(crate) unsafe trait Watchable: AsRawFd {}

// SAFETY: it closes its descriptor when it is dropped, and releases it only by being consumed.
unsafe impl Watchable for OwnedFd {}
// SAFETY: the owner lives as long as any share of it, and cannot be consumed meanwhile.
unsafe impl Watchable for Arc<OwnedFd> {}

/// The network namespace of a socket; `None` where the kernel (before 5.14) does not know the
/// option.
///
/// # Errors
///
/// If the descriptor is not a socket.
pub(crate) fn network_namespace(socket: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the descriptor is open while it is borrowed. The kernel writes at most `length`
    // bytes, the size of `cookie`, and any bytes are a valid value of it.
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

/// The number of packets that a socket has dropped since it was created. A listening socket drops
/// packets when its queue is full.
///
/// # Errors
///
/// If the kernel (before 4.12) does not know the option.
pub(crate) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut counters = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut length = size_of_val(&counters) as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed. The kernel writes at most `length`
    // bytes, the size of `counters`, and any bytes are valid values of it.
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

/// Takes ownership of a descriptor that this process inherited, if `is_it` recognises it, and sets
/// close-on-exec. Returns `None` for a number that was taken before or that this process opened
/// itself.
pub(crate) fn inherited(number: RawFd, is_it: impl FnOnce(BorrowedFd<'_>) -> bool) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: borrowed only for system calls, which fail on a number that is not open.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    // Whatever this process opens is close-on-exec from the start. An inherited descriptor is not.
    let flags = FdFlag::from_bits_retain(fcntl(probe, FcntlArg::F_GETFD).ok()?);
    if flags.contains(FdFlag::FD_CLOEXEC) || !is_it(probe) {
        return None;
    }
    fcntl(probe, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: it is open, as the calls above show. Its flag shows that the parent process left it
    // here, and that no code of this process has taken it before.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A received packet.
pub(crate) struct Packet {
    /// The number of bytes of the buffer that it fills.
    pub(crate) length: usize,
    /// The descriptors that came with it, with close-on-exec set.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether more descriptors were sent than arrived.
    pub(crate) lost_descriptors: bool,
    /// Process and user of the sender, from the kernel. The process id is 0 if the process is not
    /// visible from here.
    pub(crate) sender: Option<UnixCredentials>,
}

/// Receives one packet with at most `most_descriptors` descriptors. The kernel closes the rest.
///
/// # Errors
///
/// Any error of `recvmsg(2)`.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8], most_descriptors: usize) -> io::Result<Packet> {
    // The credentials come first and fill their part exactly. So without room for descriptors the
    // kernel installs none.
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
    // If descriptors were lost, the remaining messages are ignored: a caller that expects
    // descriptors ends the exchange, and its process.
    for message in received.cmsgs().into_iter().flatten() {
        match message {
            ControlMessageOwned::ScmRights(numbers) => {
                // SAFETY: the kernel has just made these descriptors for this process, and nothing
                // else knows them.
                packet.descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
            ControlMessageOwned::ScmCredentials(sender) => packet.sender = Some(sender),
            _ => {}
        }
    }
    Ok(packet)
}
