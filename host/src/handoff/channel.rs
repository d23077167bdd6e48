//! The socket between the two sides: whole messages with their descriptors, and who sent them.
//!
//! A packet that was cut, descriptors that were lost or are too many, bytes that are no message: each is an error here, and the
//! end of the exchange. Descriptors are taken by the successor only; whatever anyone sends to the predecessor is closed by the
//! kernel before it counts against its limit.

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

/// Which of the two this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that serves.
    Predecessor,
    /// The one that takes over.
    Successor,
}

/// One end of the exchange.
#[derive(Debug)]
pub struct Channel {
    // A packet socket that keeps the order and knows its end, which tokio's type for datagrams serves as well.
    socket: UnixDatagram,
    side: Side,
}

/// A message that came.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its descriptors, as many as it announces.
    pub descriptors: Vec<OwnedFd>,
    /// Who sent it.
    pub sender: Sender,
}

/// Who sent a message, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its process id; `None` where it lives in a pid namespace that cannot be seen from here.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: u32,
}

/// Why a message did not come, or did not go.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side has closed its end.
    #[error("the channel was closed by the other side")]
    Closed,
    /// It did not come in time.
    #[error("no {awaited} within {}", humantime::format_duration(*.within))]
    Late {
        /// What was waited for.
        awaited: &'static str,
        /// For how long.
        within: Duration,
    },
    /// It is longer than any message.
    #[error("a message of more than {LONGEST} bytes")]
    TooLong,
    /// Descriptors are missing, or are too many.
    #[error(
        "{came} descriptors instead of {announced}; if some are missing, the descriptor limit was reached (ulimit -n, or LimitNOFILE=)"
    )]
    Descriptors {
        /// How many the message speaks of.
        announced: usize,
        /// How many there are.
        came: usize,
    },
    /// Descriptors come with a message that has none.
    #[error("descriptors come with a message that has none")]
    Uninvited,
    /// It cannot be read.
    #[error(transparent)]
    Garbled(#[from] Garbled),
    /// It is not the one that is due.
    #[error("{came:?} instead of {awaited:?}")]
    Unexpected {
        /// What came.
        came: &'static str,
        /// What was due.
        awaited: &'static str,
    },
    /// The kernel does not say whose it is.
    #[error("a message without its sender's credentials")]
    Anonymous,
    /// The system refused.
    #[error("the channel fails: {0}")]
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
    /// Where the system has no descriptors left.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self::new(near, Side::Predecessor)?, far))
    }

    /// A channel on a connected packet socket that does not block.
    ///
    /// # Errors
    ///
    /// Where the system refuses credentials or the reactor.
    pub fn new(socket: OwnedFd, side: Side) -> io::Result<Self> {
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self { socket: UnixDatagram::from_std(Socket::from(socket))?, side })
    }

    /// Sends a message, with the descriptors that it announces.
    ///
    /// # Errors
    ///
    /// Where the other side is gone, or takes nothing for [`MESSAGE_TIMEOUT`].
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

    /// Sends a message without descriptors. Returns `false` where there is no room for it now; where the other side is gone, the
    /// message is lost.
    pub fn send_now(&self, message: &Message) -> bool {
        !matches!(self.socket.try_send(&message.encode()), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The next message. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// Where it is none, or the other side is gone.
    pub async fn receive(&self) -> Result<Received, Error> {
        let packet = self.socket.async_io(Interest::READABLE, || self.take()).await;
        self.read(packet?)
    }

    /// The next message, if it is there already.
    ///
    /// # Errors
    ///
    /// As [`Self::receive`].
    pub fn receive_queued(&self) -> Result<Option<Received>, Error> {
        // Past the reactor, which may not have seen yet what is there.
        match self.take() {
            Ok(packet) => self.read(packet).map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&self) -> io::Result<(Vec<u8>, kernel::Packet)> {
        // One byte more than the longest message has tells one that is longer.
        let mut bytes = vec![0; LONGEST + 1];
        loop {
            match kernel::receive(&self.socket, &mut bytes, self.most_descriptors()) {
                // The other side closed before it had read everything. This is told once, before what it sent and before its end.
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

    /// Lets nothing more be sent to this side: what was sent before can still be received, what comes later fails with its
    /// sender.
    pub fn stop_receiving(&self) {
        // It fails only where the other side is gone already.
        shutdown(self.socket.as_raw_fd(), Shutdown::Read).ok();
    }
}

impl AsFd for Channel {
    /// The socket, to be handed on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits for what a message is due to bring, for as long as messages may take.
///
/// # Errors
///
/// What the wait brings, or [`Error::Late`].
pub async fn in_time<T>(
    awaited: &'static str,
    within: Duration,
    wait: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    time::timeout(within, wait).await.unwrap_or(Err(Error::Late { awaited, within }))
}
