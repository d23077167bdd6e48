//! Clients that ask all the time: each connects, sends a line, reads the answer to its end, and begins again.

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

/// A request that takes longer has failed. On a busy machine the longest of thousands takes seconds, with or without
/// restarts: that is measured, and must not be taken for a connection that was lost.
const LIMIT: Duration = Duration::from_secs(60);

/// After a failure, so that one that repeats itself does not only keep the machine busy.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How often the kernel is asked what it knows of a connection that was not answered: to look for the culprit takes time
/// from all others.
const MOST_EVIDENCE: usize = 4;

/// Where a service listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// When one connection was answered, and from where it was made.
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

/// That a request has connected, and from which address, where the transport has any. Not set before that.
type Connected = OnceLock<Option<SocketAddr>>;

/// Running clients. Dropping it ends them.
pub(crate) struct Load {
    runtime: Option<Runtime>,
    clients: Vec<JoinHandle<()>>,
    seen: Arc<Seen>,
}

/// What the clients share.
struct Seen {
    address: Address,
    answers: Answers,
    stop: AtomicBool,
    refusals_expected: AtomicBool,
    asked_for_evidence: AtomicUsize,
    answered: AtomicU64,
    /// The part of the time to which requests belong that begin now, and the longest request of each.
    window: AtomicUsize,
    longest: Vec<AtomicU64>,
    remembered: Mutex<Vec<Answer>>,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Starts clients that remember the longest request of each of so many windows.
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

    /// Waits until so many more were answered.
    pub(crate) fn goes_on(&self, count: u64) -> anyhow::Result<()> {
        let goal = self.answered() + count;
        wait_for("answers to clients", PATIENCE, || Ok((self.answered() >= goal).then_some(())))
    }

    /// Requests that begin from now on belong to this window.
    pub(crate) fn enter(&self, window: usize) {
        self.seen.window.store(window, Ordering::Relaxed);
    }

    /// From now on a client that cannot connect has ended. One that was let in must still be answered.
    pub(crate) fn expect_refusals(&self) {
        self.seen.refusals_expected.store(true, Ordering::SeqCst);
    }

    /// The answers since they were last taken, where they are remembered.
    pub(crate) fn take_answers(&self) -> Vec<Answer> {
        std::mem::take(&mut *lock(&self.seen.remembered))
    }

    /// Lets every client finish the request that it is at.
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

/// What the clients saw.
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
        // Kept beyond its time, so that what the kernel knows of a connection can be asked before it is closed.
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
        // Apart from the clients: the kernel's tables are long, and a client that is kept from reading fails as well.
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
    // One byte more than is due, so that what is too much is seen and the end is met.
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
    // Each is only pushed to or taken as a whole.
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
