//! The socket between the two sides: complete messages with their descriptors, and their senders.
//!
//! A truncated packet, lost or surplus descriptors and bytes that are not a message are errors
//! here, and end the exchange. Only the successor receives descriptors. The kernel closes those
//! that are sent to the predecessor before they count against its limit.

use super::{
    fault,
    message::{Garbled, LONGEST, MOST_DESCRIPTORS, Message},
};
use crate::system::kernel;
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, setsockopt, shutdown, socketpair, sockopt};
use sendfd::SendWithFd;
use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixDatagram as Socket,
    },
    time::Duration,
};
use tokio::{io::Interest, net::UnixDatagram, time};

/// How long a message may take, from the moment at which it is due.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The side of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process that serves.
    Predecessor,
    /// The process that takes over.
    Successor,
}

/// One end of the exchange.
#[derive(Debug)]
pub struct Channel {
    // A packet socket that keeps the order and reports its end; tokio's datagram type handles it as
    // well.
    socket: UnixDatagram,
    side: Side,
}

/// A received message.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its descriptors, as many as it announces.
    pub descriptors: Vec<OwnedFd>,
    /// Its sender.
    pub sender: Sender,
}

/// The sender of a message, by the kernel's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its process id; `None` where it lives in a pid namespace that cannot be seen from here.
    pub pid: Option<i32>,
    /// Its user id.
    pub uid: u32,
}

/// Why a message was not received or not sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side has closed its end.
    #[error("the channel was closed by the other side")]
    Closed,
    /// It timed out.
    #[error("no {awaited} within {}", humantime::format_duration(*.within))]
    Late {
        /// The awaited message.
        awaited: &'static str,
        /// The timeout.
        within: Duration,
    },
    /// It is longer than any message.
    #[error("a message of more than {LONGEST} bytes")]
    TooLong,
    /// Descriptors are missing or surplus.
    #[error(
        "{came} descriptors instead of {announced}; if some are missing, the descriptor limit was reached (ulimit -n, or LimitNOFILE=)"
    )]
    Descriptors {
        /// The number that the message announces.
        announced: usize,
        /// The number that came.
        came: usize,
    },
    /// Descriptors came with a message that carries none.
    #[error("descriptors came with a message that must not have any")]
    Uninvited,
    /// It cannot be parsed.
    #[error(transparent)]
    Garbled(#[from] Garbled),
    /// It is not the one that is due.
    #[error("{came:?} instead of {awaited:?}")]
    Unexpected {
        /// The received message.
        came: &'static str,
        /// The awaited message.
        awaited: &'static str,
    },
    /// The kernel does not name its sender.
    #[error("a message without its sender's credentials")]
    Anonymous,
    /// The system refused.
    #[error("the channel failed: {0}")]
    System(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
        match error.kind() {
            BrokenPipe | ConnectionReset | NotConnected => Self::Closed,
            _ => Self::System(error),
        }
    }
}

impl Channel {
    /// A channel for one restart, and its far end, which the successor inherits.
    ///
    /// # Errors
    ///
    /// If the system has no descriptors left.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self::new(near, Side::Predecessor)?, far))
    }

    /// A channel on a connected, non-blocking packet socket.
    ///
    /// # Errors
    ///
    /// If the system refuses credentials or the reactor.
    pub fn new(socket: OwnedFd, side: Side) -> io::Result<Self> {
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self { socket: UnixDatagram::from_std(Socket::from(socket))?, side })
    }

    /// Sends a message, with the descriptors that it announces.
    ///
    /// # Errors
    ///
    /// If the other side is gone, or accepts nothing for [`MESSAGE_TIMEOUT`].
    pub async fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let mut packet = message.encode();
        let mut descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        fault::before_sending(self.side, message.name(), &mut packet, &mut descriptors);
        let sent = async {
            loop {
                self.socket.writable().await?;
                match self.socket.send_with_fd(&packet, &descriptors) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
            }
        };
        match time::timeout(MESSAGE_TIMEOUT, sent).await {
            Ok(Ok(_)) => {
                fault::after_sending(self.side, message.name());
                Ok(())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_elapsed) => Err(Error::Late { awaited: "room for a message", within: MESSAGE_TIMEOUT }),
        }
    }

    /// Sends a message without descriptors. Returns `false` if the channel has no room now. If the
    /// other side is gone, the message is lost.
    pub fn send_now(&self, message: &Message) -> bool {
        !matches!(self.socket.try_send(&message.encode()), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The next message. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// If it is not a valid message, or the other side is gone.
    pub async fn receive(&self) -> Result<Received, Error> {
        let packet = self.socket.async_io(Interest::READABLE, || self.take()).await;
        self.read(packet?)
    }

    /// The next message, if it has already arrived.
    ///
    /// # Errors
    ///
    /// As [`Self::receive`].
    pub fn receive_queued(&self) -> Result<Option<Received>, Error> {
        // Bypasses the reactor, which may not have noticed the message yet.
        match self.take() {
            Ok(packet) => self.read(packet).map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&self) -> io::Result<(Vec<u8>, kernel::Packet)> {
        // One byte more than the longest message, so that a longer one shows.
        let mut bytes = vec![0; LONGEST + 1];
        loop {
            match kernel::receive(&self.socket, &mut bytes, self.most_descriptors()) {
                // The other side closed before it had read everything. The kernel reports this
                // once, before the queued messages and the end.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Err(error),
                Ok(packet) => {
                    bytes.truncate(packet.length);
                    return Ok((bytes, packet));
                }
            }
        }
    }

    fn read(&self, (bytes, packet): (Vec<u8>, kernel::Packet)) -> Result<Received, Error> {
        match bytes.len() {
            0 => return Err(Error::Closed),
            1..=LONGEST => {}
            _ => return Err(Error::TooLong),
        }
        let message = Message::decode(&bytes)?;
        let kernel::Packet { descriptors, lost_descriptors, sender, .. } = packet;
        let announced = message.descriptors();
        if lost_descriptors && announced == 0 {
            return Err(Error::Uninvited);
        }
        if lost_descriptors || descriptors.len() != announced.min(self.most_descriptors()) {
            return Err(Error::Descriptors { announced, came: descriptors.len() });
        }
        let sender = sender.map(|sender| Sender { pid: Some(sender.pid()).filter(|pid| *pid > 0), uid: sender.uid() });
        fault::after_receiving(self.side, message.name());
        Ok(Received { message, descriptors, sender: sender.ok_or(Error::Anonymous)? })
    }

    fn most_descriptors(&self) -> usize {
        match self.side {
            Side::Predecessor => 0,
            Side::Successor => MOST_DESCRIPTORS,
        }
    }

    /// Stops receiving: messages sent before can still be read, later ones fail at their sender.
    pub fn stop_receiving(&self) {
        // It fails only if the other side is already gone.
        shutdown(self.socket.as_raw_fd(), Shutdown::Read).ok();
    }
}

impl AsFd for Channel {
    /// The socket, to hand it over.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits for the message that is due, for at most [`MESSAGE_TIMEOUT`].
///
/// # Errors
///
/// The error of the wait, or [`Error::Late`].
pub async fn in_time<T>(
    awaited: &'static str,
    within: Duration,
    wait: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    time::timeout(within, wait).await.unwrap_or(Err(Error::Late { awaited, within }))
}
