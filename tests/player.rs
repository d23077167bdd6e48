//! Plays either side of a handoff, message by message, against a real host.

use crate::harness::{PATIENCE, wait_for};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    setsockopt, socketpair, sockopt,
};
use serde_json::Value;
use std::{
    fs,
    io::{self, BufReader, IoSlice, IoSliceMut, Write},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
};

/// A successor in a process of its own, since a host kills a successor that breaks the protocol. It
/// takes no descriptors.
pub struct Player {
    process: Child,
    heard: mpsc::Receiver<Value>,
}

impl Player {
    /// Connects to a host's `--handoff-socket`.
    pub fn connect(path: &Path) -> Self {
        Self::connect_by_way_of(&[], path)
    }

    /// The same, started through another program.
    pub fn connect_by_way_of(wrapper: &[&str], path: &Path) -> Self {
        const SEQPACKET: &str = "type=5";
        let target = format!("UNIX-CONNECT:{},{SEQPACKET}", path.display());
        // The length of the longest message.
        let mut words = wrapper.iter().copied().chain(["socat", "-b", "65536", "-", &target]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("socat");
        let messages = serde_json::Deserializer::from_reader(BufReader::new(process.stdout.take().unwrap()));
        let (sender, heard) = mpsc::channel();
        thread::spawn(move || messages.into_iter().map_while(Result::ok).try_for_each(|message| sender.send(message)));
        Self { process, heard }
    }

    /// Sends a packet. The other side must have read the packet before, or both may become one.
    pub fn say(&mut self, packet: &str) {
        self.process.stdin.as_mut().unwrap().write_all(packet.as_bytes()).unwrap();
    }

    /// The next message; `None` where the channel is closed, or this player was killed.
    pub fn hear(&mut self) -> Option<Value> {
        match self.heard.recv_timeout(PATIENCE) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a message nor the end of the channel"),
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A predecessor's end of a channel. A host never harms it, so it lives in this process.
pub struct Predecessor(OwnedFd);

impl Predecessor {
    /// The player, and the end that the successor inherits.
    pub fn pair() -> (Self, OwnedFd) {
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        // Once one end has asked for credentials, every message carries its sender's, whenever the
        // other end asks.
        setsockopt(&near, sockopt::PassCred, &true).unwrap();
        setsockopt(&near, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(60, 0)).unwrap();
        (Self(near), far)
    }

    pub fn say(&self, packet: &str, descriptors: &[BorrowedFd<'_>]) {
        send(&self.0, packet.as_bytes(), descriptors).unwrap();
    }

    /// The next message; `None` where the channel is closed.
    pub fn hear(&self) -> Option<Value> {
        let mut packet = vec![0; 40 << 10];
        let mut parts = [IoSliceMut::new(&mut packet)];
        let mut control = nix::cmsg_space!([RawFd; 64]);
        match recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
            Ok(received) => {
                let rights = |control| matches!(control, ControlMessageOwned::ScmRights(_));
                assert!(!received.cmsgs().unwrap().any(rights), "a successor sends no descriptors");
                let length = received.bytes;
                (length > 0).then(|| serde_json::from_slice(&packet[..length]).unwrap())
            }
            // The other end closed with a message unread.
            Err(nix::errno::Errno::ECONNRESET) => None,
            Err(error) => panic!("no message: {error}"),
        }
    }
}

/// Sends a packet with descriptors.
pub fn send(socket: &OwnedFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// How many descriptors a process has.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Waits until a process has no more descriptors than before.
pub fn wait_for_descriptors(pid: i32, before: usize) {
    wait_for(&format!("{before} descriptors again"), || (descriptors(pid) <= before).then_some(()));
}
