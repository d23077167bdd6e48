//! A supervisor from the host's side: a socket that keeps all messages in order with their senders,
//! and answers barriers.

use crate::harness::wait_for;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg,
    sockopt::{set_socket_passcred, set_socket_timeout},
};
use std::{
    io::{ErrorKind, IoSliceMut},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The sender's pid, from the kernel.
    pub sender: i32,
    pub uid: u32,
    pub lines: Vec<String>,
    /// Descriptors that came with it.
    pub descriptors: usize,
}

impl Notification {
    pub fn has(&self, line: &str) -> bool {
        self.lines.iter().any(|said| said == line)
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The supervisor's reaction to a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barriers {
    /// Closes its descriptor when it comes to it.
    Answered,
    /// Keeps it open until [`Supervisor::answer_barriers`].
    Held,
}

/// Listens from its creation on; hosts find it by `NOTIFY_SOCKET`.
pub struct Supervisor {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    receiving: Option<thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

struct State {
    said: Vec<Notification>,
    barriers: Barriers,
    held: Vec<OwnedFd>,
}

impl Supervisor {
    pub fn new(barriers: Barriers) -> Self {
        let directory = crate::harness::directory();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        set_socket_passcred(&socket, true).unwrap();
        // Lets its thread notice the end.
        set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(Duration::from_millis(20))).unwrap();
        let state = Arc::new(Mutex::new(State { said: Vec::new(), barriers, held: Vec::new() }));
        let over = Arc::new(AtomicBool::new(false));
        let receiving = thread::spawn({
            let (state, over) = (Arc::clone(&state), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Relaxed) {
                    if let Some((notification, descriptors)) = receive(&socket) {
                        let mut state = state.lock().unwrap();
                        state.said.push(notification);
                        if state.barriers == Barriers::Held {
                            state.held.extend(descriptors);
                        }
                    }
                }
            }
        });
        Self { path, state, over, receiving: Some(receiving), _directory: directory }
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn socket(&self) -> &Path {
        &self.path
    }

    /// All messages so far, in order.
    pub fn said(&self) -> Vec<Notification> {
        self.state.lock().unwrap().said.clone()
    }

    /// Waits for a message with this line, and returns it.
    pub fn told(&self, line: &str) -> Notification {
        wait_for(&format!("{line:?} among {:?}", self.said()), || self.said().into_iter().find(|said| said.has(line)))
    }

    /// Answers the held barriers, and all later ones.
    pub fn answer_barriers(&self) {
        let mut state = self.state.lock().unwrap();
        state.barriers = Barriers::Answered;
        state.held.clear();
    }

    /// The main process, if `first` was started: the one that the main process named last. Fails if
    /// another process named one, or said that it is ready, since a supervisor with
    /// NotifyAccess=main would miss that.
    pub fn main_process(&self, first: i32) -> i32 {
        self.said().iter().fold(first, |main, said| {
            let named = said.value("MAINPID").map(|pid| pid.parse().unwrap());
            if named.is_some() || said.has("READY=1") {
                assert_eq!(said.sender, main, "{said:?} comes from another than the main process");
            }
            named.unwrap_or(main)
        })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(receiving) = self.receiving.take() {
            let ended = receiving.join();
            assert!(thread::panicking() || ended.is_ok(), "the supervisor understood every message");
        }
    }
}

fn receive(socket: &UnixDatagram) -> Option<(Notification, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
        Ok(received) => received,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return None,
        Err(error) => panic!("{error}"),
    };
    assert!(!received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC), "a supervisor would drop this");
    let mut descriptors = Vec::new();
    let mut sender = None;
    for message in ancillary.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(received) => descriptors.extend(received),
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
            _ => {}
        }
    }
    let sender = sender.expect("the kernel adds the sender's credentials");
    let text = str::from_utf8(&bytes[..received.bytes]).expect("text");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.iter().any(|line| line == "BARRIER=1") {
        assert_eq!((lines.len(), descriptors.len()), (1, 1), "a barrier is alone, with one descriptor: {lines:?}");
    }
    let sender_pid = sender.pid.as_raw_nonzero().get();
    let notification =
        Notification { sender: sender_pid, uid: sender.uid.as_raw(), lines, descriptors: descriptors.len() };
    Some((notification, descriptors))
}
