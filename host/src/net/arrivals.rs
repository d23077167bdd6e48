//! The end of a listener's arrivals: how to stop the kernel from queueing more connections for a
//! retired listener, and how many it has queued.

use super::{address::ListenerAddress, listener::Listener};
use crate::system::kernel;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, netlink, recv, send, shutdown,
};
use socket2::{SockFilter, SockRef};
use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
};

/// The connections that the kernel holds for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait to be accepted.
    pub waiting: u32,
    /// Whether a handshake is in progress on the port. Always false on unix. Handshakes that the
    /// kernel tracks by SYN cookies alone, after its queue overflowed, are not in any table.
    pub handshakes: bool,
}

impl Listener {
    /// Stops the kernel from queueing more connections; queued ones stay. Acts on the socket itself
    /// and cannot be undone: call it only if no other process will serve the socket.
    ///
    /// On tcp the kernel drops every further SYN, and handshakes that have begun complete. A peer
    /// whose SYN is dropped retries, and finds the port closed or a successor on it. It is not
    /// reset. A unix socket refuses connections.
    ///
    /// # Errors
    ///
    /// If the system does not allow a socket filter.
    pub fn stop_arrivals(&self) -> io::Result<()> {
        match self.address() {
            ListenerAddress::Tcp(_) => drop_syns(self.as_fd()),
            ListenerAddress::Unix(_) => Ok(shutdown(self.as_fd(), Shutdown::Read)?),
        }
    }

    /// Whether the queue has ever overflowed. Then some peers may believe that they are connected
    /// although the kernel does not know them, until they send again. Ask before arrivals are
    /// stopped, because that drops packets too.
    pub fn has_overflowed(&self) -> bool {
        kernel::dropped(self.as_fd()).is_ok_and(|dropped| dropped > 0)
    }

    /// The connections that the kernel holds for this listener; `None` if the system does not say.
    pub fn queue(&self) -> Option<Queue> {
        let inode = rustix::fs::fstat(self.as_fd()).ok()?.st_ino;
        match self.address() {
            ListenerAddress::Tcp(address) => tcp_queue(inode, address.port()),
            ListenerAddress::Unix(_) => Some(Queue { waiting: unix_queue(inode)?, handshakes: false }),
        }
    }
}

fn drop_syns(socket: BorrowedFd<'_>) -> io::Result<()> {
    // Classic BPF. On a listening socket a packet begins with its TCP header, whose byte 13 holds
    // the flags.
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    SockRef::from(&socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

fn tcp_queue(inode: u64, port: u16) -> Option<Queue> {
    const SYN_RECEIVED: &str = "03";
    const LISTENING: &str = "0A";
    let (inode, port) = (inode.to_string(), format!(":{port:04X}"));
    let mut queue = Queue { waiting: 0, handshakes: false };
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let rows = match fs::read_to_string(table) {
            Ok(rows) => rows,
            // A system without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => continue,
            Err(_) => return None,
        };
        for row in rows.lines() {
            // Columns: ordinal, local, remote, state, queues (sending:receiving), three unused
            // ones, timeouts, inode. Nearly all rows are connections, which may be a hundred
            // thousand: of these only the state is read.
            let mut columns = row.split_ascii_whitespace();
            let (Some(local), Some(state)) = (columns.nth(1), columns.nth(1)) else { continue };
            if state == SYN_RECEIVED && local.ends_with(&port) {
                queue.handshakes = true;
            } else if state == LISTENING {
                let queues = columns.next().and_then(|queues| queues.split_once(':'));
                if columns.nth(4) != Some(inode.as_str()) {
                    continue;
                }
                let waiting = queues.and_then(|(_, waiting)| u32::from_str_radix(waiting, 16).ok());
                queue.waiting = waiting.unwrap_or_default();
            }
        }
    }
    Some(queue)
}

/// Asks sock_diag(7), which a kernel may lack and a sandbox may forbid. /proc does not show the
/// queue of a unix socket.
fn unix_queue(inode: u64) -> Option<u32> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const UDIAG_SHOW_RQLEN: u32 = 0x10;
    const UNIX_DIAG_RQLEN: u16 = 4;
    const REQUEST: u32 = 40;
    // struct nlmsghdr and struct unix_diag_msg.
    const HEADERS: usize = 16 + 16;
    let mut request = Vec::with_capacity(REQUEST as usize);
    // struct nlmsghdr: length, type, flags, sequence, port.
    request.extend(REQUEST.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    // struct unix_diag_req: family, protocol, padding, states (any), inode, what to show, cookie
    // (any).
    request.extend([AddressFamily::UNIX.as_raw().to_ne_bytes()[0], 0, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(u32::try_from(inode).ok()?.to_ne_bytes());
    request.extend(UDIAG_SHOW_RQLEN.to_ne_bytes());
    request.extend([0xFF; 8]);

    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .ok()?;
    send(&kernel, &request, SendFlags::empty()).ok()?;
    let mut answer = [0; 512];
    // The kernel answers within the call to send.
    let (length, _) = recv(&kernel, &mut answer, RecvFlags::DONTWAIT).ok()?;
    let answer = answer.get(..length)?;
    if answer.get(4..6)? != SOCK_DIAG_BY_FAMILY.to_ne_bytes() {
        return None; // An error.
    }
    let mut attributes = answer.get(HEADERS..)?;
    // struct nlattr: length with itself, type, value; padded to four bytes.
    while let [a, b, c, d, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        if u16::from_ne_bytes([c, d]) == UNIX_DIAG_RQLEN {
            return Some(u32::from_ne_bytes(attributes.get(4..8)?.try_into().ok()?));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}
