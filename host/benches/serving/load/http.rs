//! Clients of HTTP: connect, send a request, read the response to its end, again and again; or the
//! same on one connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::outcome::Outcome;
use super::{connect, repeat};

const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const STATUS: &[u8] = b"HTTP/1.1 200 ";
const BODY: &[u8] = b"hello\n";
/// A response has either the body as a chunk with the last chunk, or its length.
const CHUNKS: &[u8] = b"\r\n\r\n6\r\nhello\n\r\n0\r\n\r\n";
const WHOLE: &[u8] = b"\r\n\r\nhello\n";
/// More than any response to it.
const LONGEST: u64 = 4096;

/// A connection for each request.
pub(super) async fn load(server: SocketAddr, clients: usize, time: Duration) -> anyhow::Result<Outcome> {
    repeat(clients, time, move |index| ask(server, index)).await
}

async fn ask(server: SocketAddr, index: usize) -> anyhow::Result<()> {
    let mut connection = connect(server, index).await?;
    connection.write_all(LAST_REQUEST).await?;
    let mut response = Vec::with_capacity(512);
    (&mut connection).take(LONGEST).read_to_end(&mut response).await?;
    // The body may come in chunks, with their lengths around it.
    let answered = response.starts_with(STATUS) && response.windows(BODY.len()).any(|part| part == BODY);
    ensure!(answered, "answered `{}`", response.escape_ascii());
    Ok(())
}

/// A connection for each client.
pub(super) async fn load_kept(server: SocketAddr, clients: usize, time: Duration) -> anyhow::Result<Outcome> {
    let kept: Arc<[Mutex<Option<TcpStream>>]> = (0..clients).map(|_| Mutex::default()).collect();
    repeat(clients, time, move |index| ask_again(server, index, Arc::clone(&kept))).await
}

async fn ask_again(server: SocketAddr, index: usize, kept: Arc<[Mutex<Option<TcpStream>>]>) -> anyhow::Result<()> {
    let mut place = kept[index].lock().await;
    let connection = match &mut *place {
        Some(connection) => connection,
        place => place.insert(connect(server, index).await?),
    };
    connection.write_all(REQUEST).await?;
    let mut response = Vec::with_capacity(512);
    while !(response.ends_with(WHOLE) || response.ends_with(CHUNKS)) {
        let length = response.len();
        let read = connection.read_buf(&mut response).await?;
        ensure!(read > 0 && length < 4096, "answered `{}`", response.escape_ascii());
    }
    ensure!(response.starts_with(STATUS), "answered `{}`", response.escape_ascii());
    Ok(())
}
