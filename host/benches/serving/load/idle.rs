//! Many connections that are open at the same time. Standard input leads through what they do:
//!
//! ```text
//! opened  ← all are connected, nothing was sent
//! begin   → each sends a part of its line: a guest has to be there now, and waits for the rest
//! begun   ←
//! end     → each sends the rest and reads its answer to the end
//! …       ← the outcome
//! ```

use std::future::Future;
use std::io::stdin;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::hello::{QUESTION, expect_answer};
use super::outcome::{Outcome, Tally};
use super::{bounded, connect};

/// How many connections are opened at once: less than any backlog.
const OPENING: usize = 64;
/// For one connection, while all the others want to be served at the same time.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn load(runtime: &Runtime, server: SocketAddr, count: usize) -> anyhow::Result<Outcome> {
    let mut connections = runtime.block_on(open(server, count))?;
    println!("opened");

    told("begin")?;
    let (first, rest) = QUESTION.split_at(1);
    connections = runtime.block_on(each(connections, move |mut connection| async move {
        connection.write_all(first).await.context("send a part of the line")?;
        Ok(connection)
    }))?;
    println!("begun");

    told("end")?;
    let start = Instant::now();
    let tally = runtime.block_on(answers(connections, rest))?;
    Ok(tally.into_outcome(start.elapsed()))
}

async fn open(server: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut connections = Vec::with_capacity(count);
    for first in (0..count).step_by(OPENING) {
        let indices: Vec<usize> = (first..count.min(first + OPENING)).collect();
        connections.extend(each(indices, move |index| async move { Ok(connect(server, index).await?) }).await?);
    }
    Ok(connections)
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

async fn answers(connections: Vec<TcpStream>, rest: &'static [u8]) -> anyhow::Result<Tally> {
    let mut running: JoinSet<_> = connections
        .into_iter()
        .map(|mut connection| {
            bounded(LIMIT, async move {
                let start = Instant::now();
                connection.write_all(rest).await?;
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

fn told(expected: &str) -> anyhow::Result<()> {
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    ensure!(line.trim_end() == expected, "told {line:?} where {expected:?} comes next");
    Ok(())
}
