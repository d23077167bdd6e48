//! Clients of HTTP with a connection for each request: connect, send it, read the response to its end, again and again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::outcome::Outcome;
use super::{connect, repeat};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const STATUS: &[u8] = b"HTTP/1.1 200 ";
const BODY: &[u8] = b"hello\n";
/// More than any response to it.
const LONGEST: u64 = 4096;

pub(super) async fn load(server: SocketAddr, clients: usize, time: Duration) -> anyhow::Result<Outcome> {
    repeat(clients, time, move |index| ask(server, index)).await
}

async fn ask(server: SocketAddr, index: usize) -> anyhow::Result<()> {
    let mut connection = connect(server, index).await?;
    connection.write_all(REQUEST).await?;
    let mut response = Vec::with_capacity(512);
    (&mut connection).take(LONGEST).read_to_end(&mut response).await?;
    // The body may come in chunks, with their lengths around it.
    let answered = response.starts_with(STATUS) && response.windows(BODY.len()).any(|part| part == BODY);
    ensure!(answered, "answered `{}`", response.escape_ascii());
    Ok(())
}
