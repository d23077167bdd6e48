//! The native server: does by hand all that the host does for a plugin. It limits open connections,
//! and it drains each connection before it closes it, so that a client never loses the end of an
//! answer to a reset.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::SIGTERM;
use signal_hook::flag::register_conditional_shutdown;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::encryption::Files;
use crate::options::{NativeOptions, Work};
use crate::process;

/// The host has it from `--backlog`.
pub(crate) const BACKLOG: u32 = 4096;
/// The longest line that `hello` takes.
const LINE_LIMIT: usize = 4096;
/// What `echo` moves at once.
const ECHO_BUFFER: usize = 64 * 1024;
/// The most that is read and thrown away after the answer, so that closing does not reset the
/// connection.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &NativeOptions) -> anyhow::Result<()> {
    let tls = options.tls.as_ref().map(Files::acceptor).transpose()?;
    listen(options.workers, |listener| accept(listener, tls, options.work, options.max_connections))
}

/// Serves on the runtime that the host uses, with its number of workers and its socket options.
///
/// A worker accepts, as in the host. In `main` itself, a third thread would accept and wake a
/// worker for each connection, which makes a native server slower.
pub(crate) fn listen<F>(workers: usize, accept: impl FnOnce(TcpListener) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    process::end_with_parent()?;
    register_conditional_shutdown(SIGTERM, 0, Arc::new(AtomicBool::new(true)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it, which saves a system call for each.
        socket.set_nodelay(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(BACKLOG)?;
        println!("listening tcp://{}", listener.local_addr()?);
        tokio::spawn(accept(listener)).await?
    })
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    work: Work,
    max_connections: usize,
) -> anyhow::Result<()> {
    let free = Arc::new(Semaphore::new(max_connections));
    loop {
        let counted = Arc::clone(&free).acquire_owned().await.context("the semaphore is never closed")?;
        let (connection, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept: {error}");
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let tls = tls.clone();
        tokio::spawn(async move {
            // The load sees a failed connection, and reports more than this server could.
            drop(match tls {
                Some(tls) => serve_encrypted(connection, &tls, work).await,
                None => serve(connection, work).await,
            });
            drop(counted);
        });
    }
}

async fn serve(mut connection: TcpStream, work: Work) -> io::Result<()> {
    match work {
        Work::Hello => hello(&mut connection).await?,
        Work::Echo => echo(&mut connection).await?,
    }
    connection.shutdown().await?;
    timeout(DRAIN_TIME, drain(&mut connection)).await?
}

async fn serve_encrypted(connection: TcpStream, tls: &TlsAcceptor, work: Work) -> io::Result<()> {
    let mut session = tls.accept(connection).await?;
    match work {
        Work::Hello => hello(&mut session).await?,
        Work::Echo => echo(&mut session).await?,
    }
    session.shutdown().await?;
    let (mut connection, _) = session.into_inner();
    timeout(DRAIN_TIME, drain(&mut connection)).await?
}

/// Reads a line or to the end, and greets.
pub(crate) async fn hello(connection: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut line = Vec::with_capacity(64);
    while !line.contains(&b'\n') && line.len() < LINE_LIMIT {
        if connection.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    let end = line.iter().position(|&byte| byte == b'\n').unwrap_or(line.len());
    let name = line[..end].trim_ascii();
    let name: &[u8] = if name.is_empty() { b"world" } else { name };
    connection.write_all(&[b"Hello ", name, b"!\n"].concat()).await?;
    connection.flush().await
}

/// Sends back the received bytes.
async fn echo(connection: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; ECHO_BUFFER];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return Ok(()),
            count => connection.write_all(&buffer[..count]).await?,
        }
    }
}

async fn drain(connection: &mut TcpStream) -> io::Result<()> {
    let mut left = DRAIN_BYTES;
    while left > 0 {
        connection.readable().await?;
        // Not held while waiting: it must not count as memory of a waiting connection.
        let mut buffer = [0; 1024];
        match connection.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
