//! Clients that ask without a pause and may lose their connection: which ones did, and which
//! process held it.

use crate::harness::{Address, PATIENCE, Stream, wait_for};
use rustix::{
    net::getpeername,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use std::{
    collections::HashSet,
    fs,
    io::{self, Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A connection whose answer was missing or wrong.
#[derive(Debug)]
pub struct Loss {
    /// The client's port; `None` where it could not even connect.
    pub port: Option<u16>,
    /// The time at which it had connected, or had tried to.
    pub at: Instant,
    #[expect(dead_code, reason = "shown by a failing test")]
    error: String,
}

/// Between a client's answer and its next request: a few hundred clients a second leave the
/// processes room to restart in.
const PAUSE: Duration = Duration::from_millis(5);

/// Clients of `hello`.
pub struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<Vec<Loss>>>,
}

impl Clients {
    /// Starts that many clients. Each asks until it is stopped or cannot connect.
    pub fn start(address: Address, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let threads = (0..count)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                thread::spawn(move || {
                    let mut losses = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match ask(address) {
                            Ok(()) => _ = answered.fetch_add(1, Ordering::Relaxed),
                            Err(loss) => {
                                losses.push(loss);
                                if losses.last().is_some_and(|loss| loss.port.is_none()) {
                                    break;
                                }
                            }
                        }
                        crate::harness::pace(PAUSE, "the hosts under test need the processor too");
                    }
                    losses
                })
            })
            .collect();
        Self { stop, answered, threads }
    }

    /// Waits until that many more requests are answered.
    pub fn goes_on(&self, count: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        wait_for("answers to clients", || (self.answered.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    /// Ends them, and returns their losses.
    pub fn stop(self) -> Vec<Loss> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

fn ask(address: Address) -> Result<(), Loss> {
    let at = Instant::now();
    let mut stream = address.try_connect().map_err(|error| Loss { port: None, at, error: error.to_string() })?;
    let (port, at) = (stream.tcp().local_addr().unwrap().port(), Instant::now());
    answer(&mut stream).map_err(|error| Loss { port: Some(port), at, error: error.to_string() })
}

fn answer(stream: &mut Stream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"bob\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer == "Hello bob!\n" { Ok(()) } else { Err(io::Error::other(format!("{answer:?}"))) }
}

/// The client ports of a process's connections. The process must be stopped for the answer to be
/// exact.
pub fn ports_of_connections(pid: i32) -> HashSet<u16> {
    descriptors(pid).into_iter().flatten().map(|peer| peer.port()).collect()
}

/// How many descriptors of a process are not client connections.
pub fn descriptors_of_its_own(pid: i32) -> usize {
    descriptors(pid).into_iter().filter(Option::is_none).count()
}

/// The descriptors of a process, with the peers of its TCP connections.
fn descriptors(pid: i32) -> Vec<Option<SocketAddr>> {
    // Not from /proc/net/tcp, which takes seconds after many connections have just been closed.
    let process = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    let listed = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    listed
        .filter_map(|entry| {
            let number = entry.unwrap().file_name().to_str()?.parse().ok()?;
            // It may have been closed meanwhile.
            let copy = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
            Some(getpeername(copy).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok()))
        })
        .collect()
}

/// Whether every thread of a process is stopped after STOP.
pub fn is_stopped(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| state(&thread.path().join("stat")) == Some('T'))
}

/// Whether a process has ended with all its threads, reaped or not.
pub fn has_ended(pid: i32) -> bool {
    match state(format!("/proc/{pid}/stat").as_ref()) {
        None => true,
        // The first thread may end before the others do.
        Some('Z' | 'X') => fs::read_dir(format!("/proc/{pid}/task")).map_or(true, |threads| threads.count() <= 1),
        Some(_) => false,
    }
}

fn state(stat: &std::path::Path) -> Option<char> {
    fs::read_to_string(stat).ok()?.rsplit_once(") ")?.1.chars().next()
}
