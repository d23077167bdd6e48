//! Clients of `hello` over TLS: a handshake, a line, the answer to its announced end, again and
//! again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;

use super::hello::{QUESTION, expect_answer};
use super::outcome::Outcome;
use super::{LIMIT, bounded, connect, repeat};
use crate::encryption::{Handshake, connector};

pub(super) async fn load(
    server: SocketAddr,
    clients: usize,
    time: Duration,
    certificate: &Path,
    handshake: Handshake,
) -> anyhow::Result<Outcome> {
    let expected = match handshake {
        Handshake::Full => HandshakeKind::Full,
        Handshake::Resumed => HandshakeKind::Resumed,
    };
    let mut ready = Vec::new();
    for index in 0..clients {
        let client = Client { server, index, tls: connector(certificate, handshake)? };
        if handshake == Handshake::Resumed {
            // There has to be a session first.
            bounded(LIMIT, client.ask(HandshakeKind::Full)).await?;
        }
        ready.push(client);
    }
    let ready = Arc::new(ready);
    let ask = move |index| {
        let ready = Arc::clone(&ready);
        async move {
            let client: &Client = ready.get(index).context("there is a client for each index")?;
            client.ask(expected).await
        }
    };
    repeat(clients, time, ask).await
}

struct Client {
    server: SocketAddr,
    index: usize,
    tls: (TlsConnector, ServerName<'static>),
}

impl Client {
    async fn ask(&self, expected: HandshakeKind) -> anyhow::Result<()> {
        let (connector, name) = &self.tls;
        let socket = connect(self.server, self.index).await?;
        // As the servers do: the last flight and the question must not wait for each other's
        // acknowledgement.
        socket.set_nodelay(true)?;
        let mut connection = connector.connect(name.clone(), socket).await?;
        connection.write_all(QUESTION).await?;
        expect_answer(&mut connection).await?;
        let kind = connection.get_ref().1.handshake_kind();
        ensure!(kind == Some(expected), "the handshake was {kind:?} instead of {expected:?}");
        Ok(())
    }
}
