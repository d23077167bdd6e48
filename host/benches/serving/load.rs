//! The load: clients that connect to a server, verify every byte of its answers, and print the
//! outcome in one line.

pub(crate) mod echo;
pub(crate) mod handshakes;
pub(crate) mod hello;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod outcome;
mod threads;

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::load::outcome::{Outcome, Tally};
use crate::options::{LoadOptions, Shape};
use crate::process;
use crate::sources::connect;

/// Does what the options say and prints the outcome.
pub(crate) fn run(options: &LoadOptions) -> anyhow::Result<()> {
    process::end_with_parent()?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let outcome = match options.shape {
        Shape::Handshakes { server, handshake, ref certificate, clients, seconds } => {
            runtime.block_on(handshakes::load(server, clients, seconds, certificate, handshake))?
        }
        Shape::Hello { server, clients, seconds, threads: false } => {
            runtime.block_on(hello::load(server, clients, seconds))?
        }
        Shape::Hello { server, clients, seconds, threads: true } => threads::load(server, clients, seconds)?,
        Shape::Http { server, clients, seconds, keep_alive: false } => {
            runtime.block_on(http::load(server, clients, seconds))?
        }
        Shape::Http { server, clients, seconds, keep_alive: true } => {
            runtime.block_on(http::load_kept(server, clients, seconds))?
        }
        Shape::Echo { server, clients, bytes_per_client } => {
            runtime.block_on(echo::load(server, clients, bytes_per_client))?
        }
        Shape::Idle { server } => idle::load(&runtime, server)?,
    };
    println!("{outcome}");
    // Without waiting for clients that hang: the outcome counts them already.
    runtime.shutdown_background();
    Ok(())
}

/// The longest that a short connection may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Clients that do the same again and again, for a time.
async fn repeat<F, A>(clients: usize, time: Duration, ask: F) -> anyhow::Result<Outcome>
where
    F: Fn(usize) -> A + Clone + Send + 'static,
    A: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let start = Instant::now();
    let mut running = JoinSet::new();
    for index in 0..clients {
        running.spawn(client(index, start + time, ask.clone()));
    }
    let mut tally = Tally::new()?;
    while let Some(finished) = running.join_next().await {
        tally.add(finished??)?;
    }
    Ok(tally.into_outcome(start.elapsed()))
}

async fn client<A>(index: usize, deadline: Instant, ask: impl Fn(usize) -> A) -> anyhow::Result<Tally>
where
    A: Future<Output = anyhow::Result<()>>,
{
    let mut tally = Tally::new()?;
    loop {
        let start = Instant::now();
        if start >= deadline {
            return Ok(tally);
        }
        match bounded(LIMIT, ask(index)).await {
            Ok(()) => tally.completed(start.elapsed()),
            Err(error) => {
                // Enough to fail the run; a refused connection is fast and would only keep the
                // machine busy.
                tally.failed(&error);
                return Ok(tally);
            }
        }
    }
}

/// Fails an operation that takes longer than `limit`.
async fn bounded<T>(limit: Duration, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(limit, what).await.unwrap_or_else(|_| Err(anyhow!("no complete answer within {limit:?}")))
}
