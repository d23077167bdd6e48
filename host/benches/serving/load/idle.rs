//! Many connections that are open at the same time. Standard input gives them their steps:
//!
//! ```text
//! open 1000   → so many are connected; those that are new have sent nothing
//! opened      ←
//! begin 500   → so many have sent a part of their line: a guest has to be there, and waits for the rest
//! begun       ←
//! finish      → all send the rest of their lines at once, and read their answers to the end
//! …           ← the outcome
//! ```

use std::future::Future;
use std::io::stdin;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::hello::{QUESTION, expect_answer};
use super::outcome::{Outcome, Tally};
use super::{bounded, connect};

/// How many connections do something at once: less than any backlog.
const AT_ONCE: usize = 64;
/// For one connection, while all the others want to be served at the same time.
const LIMIT: Duration = Duration::from_secs(60);

/// A connection, and how much of its line it has sent.
struct Waiting {
    connection: TcpStream,
    sent: usize,
}

pub(super) fn load(runtime: &Runtime, server: SocketAddr) -> anyhow::Result<Outcome> {
    let mut all: Vec<Waiting> = Vec::new();
    loop {
        let mut line = String::new();
        stdin().read_line(&mut line)?;
        match line.trim_end().split_once(' ') {
            Some(("open", count)) => {
                runtime.block_on(open(&mut all, server, count.parse()?))?;
                println!("opened");
            }
            Some(("begin", count)) => {
                runtime.block_on(begin(&mut all, count.parse()?))?;
                println!("begun");
            }
            _ if line == "finish\n" => {
                let start = Instant::now();
                let tally = runtime.block_on(finish(all))?;
                return Ok(tally.into_outcome(start.elapsed()));
            }
            _ => bail!("{line:?} is not a step"),
        }
    }
}

async fn open(all: &mut Vec<Waiting>, server: SocketAddr, count: usize) -> anyhow::Result<()> {
    while all.len() < count {
        let indices: Vec<usize> = (all.len()..count.min(all.len() + AT_ONCE)).collect();
        let connected =
            each(
                indices,
                move |index| async move { Ok(Waiting { connection: connect(server, index).await?, sent: 0 }) },
            );
        all.extend(connected.await?);
    }
    Ok(())
}

/// Those that have begun are the first ones.
async fn begin(all: &mut [Waiting], count: usize) -> anyhow::Result<()> {
    for waiting in all.iter_mut().take(count).filter(|waiting| waiting.sent == 0) {
        // A socket that has sent nothing takes a byte without waiting.
        waiting.sent = waiting.connection.write(&QUESTION[..1]).await.context("send a part of the line")?;
    }
    Ok(())
}

/// Does the same to each at once.
async fn each<T, U, F>(items: Vec<T>, mut what: impl FnMut(T) -> F) -> anyhow::Result<Vec<U>>
where
    U: Send + 'static,
    F: Future<Output = anyhow::Result<U>> + Send + 'static,
{
    let mut running: JoinSet<_> = items.into_iter().map(|item| bounded(LIMIT, what(item))).collect();
    let mut done = Vec::with_capacity(running.len());
    while let Some(finished) = running.join_next().await {
        done.push(finished??);
    }
    Ok(done)
}

async fn finish(all: Vec<Waiting>) -> anyhow::Result<Tally> {
    let mut running: JoinSet<_> = all
        .into_iter()
        .map(|Waiting { mut connection, sent }| {
            bounded(LIMIT, async move {
                let start = Instant::now();
                connection.write_all(&QUESTION[sent..]).await?;
                expect_answer(&mut connection).await?;
                Ok(start.elapsed())
            })
        })
        .collect();
    let mut tally = Tally::new()?;
    while let Some(finished) = running.join_next().await {
        match finished? {
            Ok(latency) => tally.completed(latency),
            Err(error) => tally.failed(&error),
        }
    }
    Ok(tally)
}
