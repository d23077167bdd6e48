//! Clients that ask all the time: each connects, sends a line, reads the answer to its end, and
//! begins again.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::evidence;
use crate::patience::{PATIENCE, wait_for};
use crate::sources::connect;

const QUESTION: &[u8] = b"bob\n";
const ANSWER: &[u8] = b"Hello bob!\n";

/// A request that takes longer has failed. On a busy machine the longest of thousands takes
/// seconds, with or without restarts: the benchmark measures that, and must not take it for a lost
/// connection.
const LIMIT: Duration = Duration::from_secs(60);

/// A pause after a failure, so that a repeated one does not only keep the machine busy.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How often the benchmark asks the kernel about an unanswered connection: the search takes time
/// from all others.
const MOST_EVIDENCE: usize = 4;

/// The address of a service.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The time of an answer, and the client's address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) client: SocketAddr,
    pub(crate) complete: Instant,
}

/// Whether answers are remembered one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    Counted,
    Remembered,
}

/// Set once a request has connected, with its address if the transport has one.
type Connected = OnceLock<Option<SocketAddr>>;

/// Running clients. Dropping it ends them.
pub(crate) struct Load {
    runtime: Option<Runtime>,
    clients: Vec<JoinHandle<()>>,
    seen: Arc<Seen>,
}

/// The state that the clients share.
struct Seen {
    address: Address,
    answers: Answers,
    stop: AtomicBool,
    refusals_expected: AtomicBool,
    asked_for_evidence: AtomicUsize,
    answered: AtomicU64,
    /// The window of requests that begin now, and the longest request of each window.
    window: AtomicUsize,
    longest: Vec<AtomicU64>,
    remembered: Mutex<Vec<Answer>>,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Starts clients that remember the longest request of each of that many windows.
    pub(crate) fn start(address: &Address, clients: usize, windows: usize, answers: Answers) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("client").enable_all().build()?;
        let seen = Arc::new(Seen {
            address: address.clone(),
            answers,
            stop: AtomicBool::new(false),
            refusals_expected: AtomicBool::new(false),
            asked_for_evidence: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            window: AtomicUsize::new(0),
            longest: (0..windows).map(|_| AtomicU64::new(0)).collect(),
            remembered: Mutex::default(),
            failures: Mutex::default(),
        });
        let begin = Instant::now();
        let clients = (0..clients).map(|index| runtime.spawn(client(index, begin, Arc::clone(&seen)))).collect();
        Ok(Self { runtime: Some(runtime), clients, seen })
    }

    pub(crate) fn answered(&self) -> u64 {
        self.seen.answered.load(Ordering::Relaxed)
    }

    /// Waits until that many more requests are answered.
    pub(crate) fn goes_on(&self, count: u64) -> anyhow::Result<()> {
        let goal = self.answered() + count;
        wait_for("answers to clients", PATIENCE, || Ok((self.answered() >= goal).then_some(())))
    }

    /// Requests that begin from now on belong to this window.
    pub(crate) fn enter(&self, window: usize) {
        self.seen.window.store(window, Ordering::Relaxed);
    }

    /// From now on a client that cannot connect has ended. A connected client must still be
    /// answered.
    pub(crate) fn expect_refusals(&self) {
        self.seen.refusals_expected.store(true, Ordering::SeqCst);
    }

    /// The answers since the last call, where they are remembered.
    pub(crate) fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut *lock(&self.seen.remembered))
    }

    /// Lets every client finish its current request.
    pub(crate) fn stop(mut self) -> anyhow::Result<Outcome> {
        self.seen.stop.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut self.clients);
        let ended = || Ok(clients.iter().all(JoinHandle::is_finished).then_some(()));
        wait_for("the end of all clients", LIMIT + PATIENCE, ended)?;
        let longest = |nanoseconds: &AtomicU64| Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        Ok(Outcome {
            answered: self.answered(),
            longest: self.seen.longest.iter().map(longest).collect(),
            failures: lock(&self.seen.failures).clone(),
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The clients' results.
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// The longest request that began in each window.
    pub(crate) longest: Vec<Duration>,
    pub(crate) failures: Vec<String>,
}

async fn client(index: usize, begin: Instant, seen: Arc<Seen>) {
    while !seen.stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let window = seen.window.load(Ordering::Relaxed);
        let connected = Connected::new();
        // Kept open for longer, so that the kernel still knows the connection when the benchmark
        // asks.
        let mut asking = pin!(ask(&seen, index, &connected));
        let outcome = match timeout(LIMIT, &mut asking).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(late(&seen, &connected).await),
        };
        match outcome {
            Ok(()) => {
                seen.answered.fetch_add(1, Ordering::Relaxed);
                if let Some(longest) = seen.longest.get(window) {
                    longest.fetch_max(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
            }
            Err(_) if connected.get().is_none() && seen.refusals_expected.load(Ordering::SeqCst) => return,
            Err(error) => {
                let failure = format!(
                    "client {index} over {}, {}, begun {:?} after the load, failed after {:?}: {error:#}",
                    seen.address,
                    stage(&connected),
                    start.duration_since(begin),
                    start.elapsed()
                );
                eprintln!("{failure}");
                lock(&seen.failures).push(failure);
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn late(seen: &Seen, connected: &Connected) -> anyhow::Error {
    let mut evidence = String::new();
    if let Some(client) = connected.get().copied().flatten()
        && seen.asked_for_evidence.fetch_add(1, Ordering::Relaxed) < MOST_EVIDENCE
    {
        // In a thread apart from the clients: the kernel's tables are long, and a delayed client
        // fails as well.
        evidence = spawn_blocking(move || evidence::of(client)).await.unwrap_or_default();
    }
    anyhow!("no complete answer within {LIMIT:?}{evidence}")
}

fn stage(connected: &Connected) -> String {
    match connected.get() {
        None => "not connected".to_owned(),
        Some(None) => "connected".to_owned(),
        Some(Some(client)) => format!("connected from {client}"),
    }
}

async fn ask(seen: &Seen, index: usize, connected: &Connected) -> anyhow::Result<()> {
    match &seen.address {
        Address::Tcp(address) => {
            let connection = connect(*address, index).await.context("connect")?;
            let client = connection.local_addr().context("tell the client's own address")?;
            connected.set(Some(client)).ok();
            talk(connection).await?;
            if seen.answers == Answers::Remembered {
                lock(&seen.remembered).push(Answer { client, complete: Instant::now() });
            }
            Ok(())
        }
        Address::Unix(path) => {
            let connection = UnixStream::connect(path).await.context("connect")?;
            connected.set(None).ok();
            talk(connection).await
        }
    }
}

async fn talk(mut connection: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<()> {
    connection.write_all(QUESTION).await.context("send the question")?;
    // One byte more than expected, to notice a surplus and to reach the end.
    let mut answer = [0; ANSWER.len() + 1];
    let mut length = 0;
    loop {
        let place = answer.get_mut(length..).unwrap_or_default();
        match connection.read(place).await.with_context(|| format!("read after {length} bytes of the answer"))? {
            0 => break,
            count => length += count,
        }
    }
    let answer = answer.get(..length).unwrap_or_default();
    if answer != ANSWER {
        bail!("answered `{}` instead of `{}`", answer.escape_ascii(), ANSWER.escape_ascii());
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    // Other threads only push to these or take them whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "tcp",
            Self::Unix(_) => "unix",
        })
    }
}
