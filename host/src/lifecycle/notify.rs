//! Notifications to the supervisor, in systemd's protocol (sd_notify(3)).
//!
//! Each notification is one datagram. Only [`Notifier::barrier`] waits for the supervisor, and no
//! failure here fails the host. Without a supervisor each call does nothing, and a supervisor that
//! does not listen costs a debug record.

use nix::time::{ClockId, clock_gettime};
use sendfd::SendWithFd;
use std::{
    ffi::{OsStr, OsString},
    fmt::Write,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::unix::pipe, time};
use tracing::debug;

/// How long after a full queue a send is retried.
const RETRY: Duration = Duration::from_millis(5);

/// The connection to the supervisor, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<OsString>,
    /// A notification of the main process for which the supervisor's queue had no room. Without it
    /// the supervisor would follow a process that ends, so the next barrier sends it first.
    unsent: Arc<Mutex<Option<String>>>,
}

/// The supervisor has not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error("NOTIFY_SOCKET {}: {source}", socket.display())]
    Unreachable {
        /// Its address.
        socket: OsString,
        /// The cause.
        source: io::Error,
    },
    /// It exists and has not answered in time.
    #[error("NOTIFY_SOCKET {}: the supervisor did not read the notification in time", socket.display())]
    Silent {
        /// Its address.
        socket: OsString,
    },
}

impl Notifier {
    /// `socket` is the supervisor's `NOTIFY_SOCKET`: an absolute path, or an abstract name after
    /// `@`.
    pub fn new(socket: Option<&OsStr>) -> Self {
        let socket = socket.filter(|socket| !socket.is_empty()).map(OsStr::to_owned);
        Self { socket, unsent: Arc::default() }
    }

    /// This process serves. Sent on a cold start and after a reload.
    pub fn ready(&self, status: &str) {
        self.say(&message("READY=1", status));
    }

    /// The process `main` serves from here on; the supervisor is to follow and signal that one.
    pub fn ready_as(&self, main: u32, status: &str) {
        let message = message(&format!("READY=1\nMAINPID={main}"), status);
        let unsent = if self.say(&message) { None } else { Some(message) };
        *self.unsent.lock().unwrap_or_else(PoisonError::into_inner) = unsent;
    }

    /// A reload or a restart is under way; `ready` or `ready_as` follows.
    pub fn reloading(&self, status: &str) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        let microseconds = now.as_micros();
        self.say(&message(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"), status));
    }

    /// This process finishes its connections and ends.
    pub fn stopping(&self, status: &str) {
        self.say(&message("STOPPING=1", status));
    }

    /// A status line for people, valid until the next one.
    pub fn status(&self, text: &str) {
        self.say(&format!("STATUS={}\n", one_line(text)));
    }

    /// This process is about to end with this code. An anchor that is not the parent needs it.
    pub fn ending(&self, code: i32) {
        self.say(&format!("EXIT_STATUS={code}\n"));
    }

    /// Relays a notification of another process, with its descriptors.
    pub(crate) fn relay(&self, message: &[u8], descriptors: &[OwnedFd]) {
        if self.socket.is_none() {
            return;
        }
        let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        // Only the anchor calls this, and it has no log.
        self.connected().and_then(|supervisor| supervisor.send_with_fd(message, &descriptors)).ok();
    }

    /// Waits until the supervisor has read every earlier notification.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or has not read them within `patience`.
    pub async fn barrier(&self, patience: Duration) -> Result<(), Error> {
        let Some(socket) = &self.socket else { return Ok(()) };
        match time::timeout(patience, self.confirmed()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(Error::Unreachable { socket: socket.clone(), source }),
            Err(_elapsed) => Err(Error::Silent { socket: socket.clone() }),
        }
    }

    async fn confirmed(&self) -> io::Result<()> {
        let unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(message) = unsent {
            retried(|| self.connected()?.send(message.as_bytes())).await?;
            self.unsent.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        let (reader, writer) = io::pipe()?;
        // Alone in its datagram and with one descriptor, or the supervisor would not recognise a
        // barrier.
        retried(|| self.connected()?.send_with_fd(b"BARRIER=1", &[writer.as_raw_fd()])).await?;
        drop(writer);
        // Only the supervisor has the other end. It closes that when it reaches the barrier, after
        // everything queued before.
        let hung_up = pipe::Receiver::from_owned_fd(reader.into())?;
        loop {
            hung_up.readable().await?;
            match hung_up.try_read(&mut [0; 16]) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    /// Whether the notification was sent, or there is no supervisor.
    fn say(&self, message: &str) -> bool {
        let Some(socket) = &self.socket else { return true };
        match self.connected().and_then(|supervisor| supervisor.send(message.as_bytes())) {
            Ok(_) => true,
            Err(error) => {
                debug!(socket = %socket.display(), %error, notification = message.trim_end(), "supervisor notification failed");
                false
            }
        }
    }

    /// Connects for each datagram: a supervisor may have replaced its socket since.
    fn connected(&self) -> io::Result<UnixDatagram> {
        let name = self.socket.as_ref().map(|socket| socket.as_bytes()).unwrap_or_default();
        let address = match name {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(OsStr::from_bytes(name))?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "is neither an absolute path nor an @name")),
        };
        let supervisor = UnixDatagram::unbound()?;
        supervisor.set_nonblocking(true)?;
        supervisor.connect_addr(&address)?;
        Ok(supervisor)
    }
}

/// Retries until the queue has room.
async fn retried(mut send: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    loop {
        match send() {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => time::sleep(RETRY).await,
            Err(error) => return Err(error),
        }
    }
}

fn message(state: &str, status: &str) -> String {
    let mut message = format!("{state}\n");
    // Writing to a string cannot fail.
    writeln!(message, "STATUS={}", one_line(status)).unwrap_or_default();
    message
}

/// A line break would end the status and start another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sendfd::RecvWithFd;
    use std::{os::unix::net::SocketAddr as Address, path::PathBuf};

    struct Supervisor {
        socket: UnixDatagram,
        path: PathBuf,
        _directory: tempfile::TempDir,
    }

    impl Supervisor {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Self { socket, path, _directory: directory }
        }

        fn notifier(&self) -> Notifier {
            Notifier::new(Some(self.path.as_os_str()))
        }

        fn next(&self) -> String {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        }

        /// Fills the queue, and returns the number of datagrams.
        fn fill(&self) -> usize {
            let notifier = self.notifier();
            (0..100_000).take_while(|_| notifier.say("X=1\n")).count()
        }
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn each_notification_is_one_datagram() {
        let supervisor = Supervisor::new();
        let notifier = supervisor.notifier();
        notifier.ready("generation 1 serves 1 listener");
        notifier.ready_as(77, "generation 2 serves 1 listener");
        notifier.stopping("stopping\nMAINPID=1");
        notifier.status("well");
        notifier.reloading("anew");
        assert_eq!(supervisor.next(), "READY=1\nSTATUS=generation 1 serves 1 listener\n");
        assert_eq!(supervisor.next(), "READY=1\nMAINPID=77\nSTATUS=generation 2 serves 1 listener\n");
        assert_eq!(supervisor.next(), "STOPPING=1\nSTATUS=stopping MAINPID=1\n");
        assert_eq!(supervisor.next(), "STATUS=well\n");
        let reloading = supervisor.next();
        let lines: Vec<&str> = reloading.lines().collect();
        assert_eq!((lines[0], lines[2]), ("RELOADING=1", "STATUS=anew"));
        // The kernel's own value of the same clock, in seconds.
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let said: f64 = lines[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((uptime - said / 1e6).abs() < 60.0, "{uptime} {said}");
    }

    #[test]
    fn an_abstract_socket_works() {
        let name = format!("uninterruptible-notify-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&Address::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::new(Some(OsStr::new(&format!("@{name}")))).status("well");
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=well\n");
    }

    #[tokio::test]
    async fn without_a_supervisor_notifications_do_nothing() {
        for socket in [None, Some(OsStr::new(""))] {
            let notifier = Notifier::new(socket);
            notifier.ready("unheard");
            notifier.ready_as(1, "unheard");
            notifier.barrier(SOON).await.unwrap();
        }
        for unreachable in ["/absent/notify", "relative", "vsock:2:1", &format!("/{}", "x".repeat(200))] {
            let notifier = Notifier::new(Some(OsStr::new(unreachable)));
            notifier.ready("unheard");
            let refusal = notifier.barrier(SOON).await.unwrap_err();
            assert!(matches!(refusal, Error::Unreachable { .. }) && refusal.to_string().contains(unreachable));
        }
    }

    #[tokio::test]
    async fn a_barrier_holds_until_its_descriptor_is_closed() {
        let supervisor = Supervisor::new();
        let notifier = supervisor.notifier();
        let early = notifier.barrier(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(early, Error::Silent { .. }), "{early}");
        let answering = tokio::task::spawn_blocking(move || {
            for _ in 0..2 {
                let mut bytes = [0; 64];
                let mut descriptors = [0; 2];
                let (length, count) = supervisor.socket.recv_with_fd(&mut bytes, &mut descriptors).unwrap();
                assert_eq!((&bytes[..length], count), (&b"BARRIER=1"[..], 1));
                nix::unistd::close(descriptors[0]).unwrap();
            }
        });
        notifier.barrier(SOON).await.unwrap();
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_does_not_lose_the_main_pid() {
        let supervisor = Supervisor::new();
        let notifier = supervisor.notifier();
        let queued = supervisor.fill();
        assert!(queued > 0);
        notifier.ready_as(77, "generation 2 serves 1 listener");
        let answering = tokio::task::spawn_blocking(move || {
            for _ in 0..queued {
                assert_eq!(supervisor.next(), "X=1\n");
            }
            assert_eq!(supervisor.next(), "READY=1\nMAINPID=77\nSTATUS=generation 2 serves 1 listener\n");
            let mut descriptors = [0; 1];
            supervisor.socket.recv_with_fd(&mut [0; 64], &mut descriptors).unwrap();
            nix::unistd::close(descriptors[0]).unwrap();
        });
        notifier.barrier(SOON).await.unwrap();
        answering.await.unwrap();
    }
}
