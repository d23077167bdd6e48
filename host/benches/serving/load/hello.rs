//! Clients of `hello`: connect, send a line, read the answer to its end, again and again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::outcome::{Outcome, Tally};
use super::{bounded, connect};

pub(crate) const QUESTION: &[u8] = b"bob\n";
pub(crate) const ANSWER: &[u8] = b"Hello bob!\n";

const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn load(server: SocketAddr, clients: usize, time: Duration) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for index in 0..clients {
        running.spawn(client(server, index, start + time));
    }
    let mut tally = Tally::new()?;
    while let Some(finished) = running.join_next().await {
        tally.add(finished??)?;
    }
    Ok(tally.into_outcome(start.elapsed()))
}

async fn client(server: SocketAddr, index: usize, deadline: Instant) -> anyhow::Result<Tally> {
    let mut tally = Tally::new()?;
    loop {
        let start = Instant::now();
        if start >= deadline {
            break;
        }
        match bounded(LIMIT, ask(server, index)).await {
            Ok(()) => tally.completed(start.elapsed()),
            Err(error) => {
                // Enough to fail the run; a refused connection is fast and would only keep the machine busy.
                tally.failed(&error);
                break;
            }
        }
    }
    Ok(tally)
}

async fn ask(server: SocketAddr, index: usize) -> anyhow::Result<()> {
    let mut connection = connect(server, index).await?;
    connection.write_all(QUESTION).await?;
    expect_answer(&mut connection).await
}

/// Reads to the end and compares.
pub(super) async fn expect_answer(connection: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<()> {
    let mut buffer = [0; 64];
    let mut length = 0;
    while length < buffer.len() {
        match connection.read(&mut buffer[length..]).await? {
            0 => return compare(&buffer[..length], ANSWER),
            count => length += count,
        }
        // A wrong answer is told at once: it may well be one that does not end.
        compare(&buffer[..length], &ANSWER[..length.min(ANSWER.len())])?;
    }
    compare(&buffer, ANSWER)
}

fn compare(answer: &[u8], expected: &[u8]) -> anyhow::Result<()> {
    ensure!(answer == expected, "answered `{}` instead of `{}`", answer.escape_ascii(), ANSWER.escape_ascii());
    Ok(())
}
