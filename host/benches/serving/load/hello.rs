//! Clients of `hello`: connect, send a line, read the answer to its end, again and again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::outcome::Outcome;
use super::{connect, repeat};

pub(crate) const QUESTION: &[u8] = b"bob\n";
const ANSWER: &[u8] = b"Hello bob!\n";

/// For a single question, after a start.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn load(server: SocketAddr, clients: usize, time: Duration) -> anyhow::Result<Outcome> {
    repeat(clients, time, move |index| ask(server, index)).await
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
            0 => return compare_answer(&buffer[..length]),
            count => length += count,
        }
        // A wrong answer fails at once: it may never end.
        compare(&buffer[..length], &ANSWER[..length.min(ANSWER.len())])?;
    }
    compare_answer(&buffer)
}

/// Asks one question, in this process.
pub(crate) fn ask_once(server: SocketAddr) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect_timeout(&server, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(QUESTION)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).with_context(|| format!("read an answer, for at most {PATIENCE:?}"))?;
    compare_answer(&answer)
}

/// Compares a whole answer.
pub(super) fn compare_answer(answer: &[u8]) -> anyhow::Result<()> {
    compare(answer, ANSWER)
}

fn compare(answer: &[u8], expected: &[u8]) -> anyhow::Result<()> {
    ensure!(answer == expected, "answered `{}` instead of `{}`", answer.escape_ascii(), ANSWER.escape_ascii());
    Ok(())
}
