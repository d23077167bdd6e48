//! Clients of `hello` over TLS: a handshake, a line, the answer to its announced end, again and again.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::hello::{QUESTION, expect_answer};
use super::outcome::{Outcome, Tally};
use super::{bounded, connect};
use crate::encryption::{Handshake, connector};

const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn load(
    server: SocketAddr,
    clients: usize,
    time: Duration,
    certificate: &Path,
    handshake: Handshake,
) -> anyhow::Result<Outcome> {
    let mut ready = Vec::new();
    for index in 0..clients {
        let client = Client { server, index, handshake, tls: connector(certificate, handshake)? };
        if handshake == Handshake::Resumed {
            // There has to be a session first.
            bounded(LIMIT, client.ask(HandshakeKind::Full)).await?;
        }
        ready.push(client);
    }
    let start = Instant::now();
    let mut running = JoinSet::new();
    for client in ready {
        running.spawn(client.run(start + time));
    }
    let mut tally = Tally::new()?;
    while let Some(finished) = running.join_next().await {
        tally.add(finished??)?;
    }
    Ok(tally.into_outcome(start.elapsed()))
}

struct Client {
    server: SocketAddr,
    index: usize,
    handshake: Handshake,
    tls: (TlsConnector, ServerName<'static>),
}

impl Client {
    async fn run(self, deadline: Instant) -> anyhow::Result<Tally> {
        let expected = match self.handshake {
            Handshake::Full => HandshakeKind::Full,
            Handshake::Resumed => HandshakeKind::Resumed,
        };
        let mut tally = Tally::new()?;
        loop {
            let start = Instant::now();
            if start >= deadline {
                break;
            }
            match bounded(LIMIT, self.ask(expected)).await {
                Ok(()) => tally.completed(start.elapsed()),
                Err(error) => {
                    tally.failed(&error);
                    break;
                }
            }
        }
        Ok(tally)
    }

    async fn ask(&self, expected: HandshakeKind) -> anyhow::Result<()> {
        let (connector, name) = &self.tls;
        let socket = connect(self.server, self.index).await?;
        // As the servers do: the last flight and the question must not wait for each other's acknowledgement.
        socket.set_nodelay(true)?;
        let mut connection = connector.connect(name.clone(), socket).await?;
        connection.write_all(QUESTION).await?;
        expect_answer(&mut connection).await?;
        let kind = connection.get_ref().1.handshake_kind();
        ensure!(kind == Some(expected), "the handshake was {kind:?} instead of {expected:?}");
        Ok(())
    }
}
