//! Clients of bulk `echo`: each sends much over one connection and reads it back at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task::JoinSet;

use super::outcome::{Outcome, Tally};
use super::{bounded, connect};

/// The most that is written or read at once.
const BUFFER: usize = 64 * 1024;

/// A round that moves less than a MiB a second has failed.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) async fn load(server: SocketAddr, clients: usize, bytes_per_client: u64) -> anyhow::Result<Outcome> {
    let pattern = Arc::new(Pattern::new());
    let start = Instant::now();
    let mut running = JoinSet::new();
    for index in 0..clients {
        running.spawn(client(server, index, bytes_per_client, Arc::clone(&pattern)));
    }
    let mut tally = Tally::new()?;
    while let Some(finished) = running.join_next().await {
        match finished? {
            Ok(latency) => tally.completed(latency),
            Err(error) => tally.failed(&error),
        }
    }
    Ok(tally.into_outcome(start.elapsed()))
}

async fn client(server: SocketAddr, index: usize, bytes: u64, pattern: Arc<Pattern>) -> anyhow::Result<Duration> {
    // Each client starts elsewhere in the pattern, so that bytes of another connection would be
    // noticed.
    let first = index as u64 * 4099;
    let start = Instant::now();
    bounded(LIMIT, async {
        let mut connection = connect(server, index).await?;
        let (mut reader, mut writer) = connection.split();
        tokio::try_join!(send(&mut writer, &pattern, first, bytes), receive(&mut reader, &pattern, first, bytes))?;
        Ok(start.elapsed())
    })
    .await
}

async fn send(writer: &mut WriteHalf<'_>, pattern: &Pattern, first: u64, bytes: u64) -> anyhow::Result<()> {
    let mut sent = 0;
    while sent < bytes {
        let piece = pattern.at(first + sent, BUFFER.min(usize::try_from(bytes - sent).unwrap_or(usize::MAX)));
        sent += writer.write(piece).await.with_context(|| format!("send after {sent} bytes"))? as u64;
    }
    Ok(writer.shutdown().await?)
}

async fn receive(reader: &mut ReadHalf<'_>, pattern: &Pattern, first: u64, bytes: u64) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut received = 0;
    loop {
        let count = reader.read(&mut buffer).await.with_context(|| format!("receive after {received} bytes"))?;
        if count == 0 {
            break;
        }
        ensure!(buffer[..count] == *pattern.at(first + received, count), "wrong bytes after {received} right ones");
        received += count as u64;
    }
    ensure!(received == bytes, "{received} of {bytes} bytes came back");
    Ok(())
}

/// Endless bytes. Any piece can be compared without a copy of it.
struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    /// After how many bytes it repeats: a prime, so that a piece that is lost, doubled or swapped
    /// in any size that a server's buffers have shows.
    const PERIOD: usize = 65_521;

    fn new() -> Self {
        // Any well-mixed bytes do: the high byte of a linear congruential generator (Knuth's
        // constants for MMIX).
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        let mut bytes: Vec<u8> = (0..Self::PERIOD).map(|_| next()).collect();
        // A piece may begin at the last byte of the period.
        bytes.extend_from_within(..);
        bytes.extend_from_within(..BUFFER);
        Self { bytes }
    }

    /// The `length` bytes, at most a buffer full, that follow the first `offset` ones.
    fn at(&self, offset: u64, length: usize) -> &[u8] {
        let begin = (offset % Self::PERIOD as u64) as usize;
        &self.bytes[begin..begin + length]
    }
}
