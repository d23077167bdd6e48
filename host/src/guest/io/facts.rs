//! The facts about its connection that a guest can ask for: the resource `connection` of both
//! contracts.

use crate::{
    guest::{
        bindings::{wasi_0_2, wasi_0_3},
        state::State,
    },
    net::{ListenerAddress, LocalAddress, PeerAddress},
    record::connection_id::ConnectionId,
    wire::{InputEnd, Wire, draining::Draining, tls::Session},
};
use std::{io, net::SocketAddr, os::unix::net::UnixStream, sync::Arc};
use wasmtime::component::{Access, FutureReader, HasSelf, Resource};

/// The facts about a connection.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its id.
    pub id: ConnectionId,
    /// The peer.
    pub peer: PeerAddress,
    /// The local address from a proxy's header; `None` without one.
    pub local: Option<LocalAddress>,
    /// The listener that accepted it.
    pub listener: ListenerAddress,
    /// Whether the process drains.
    pub draining: Draining,
    /// The socket, which knows its local address.
    pub wire: Arc<Wire>,
}

impl Facts {
    /// The facts of an artificial connection, for a trial guest that is never called. The
    /// connection lasts as long as the returned stream.
    ///
    /// # Errors
    ///
    /// If the system refuses a pair of sockets.
    pub(in crate::guest) fn of_trial() -> io::Result<(Self, UnixStream)> {
        let (this, peer) = UnixStream::pair()?;
        this.set_nonblocking(true)?;
        let nowhere = SocketAddr::from(([0; 4], 0));
        let facts = Self {
            id: ConnectionId::next(),
            peer: nowhere.into(),
            local: None,
            listener: nowhere.into(),
            draining: Draining::default(),
            wire: Wire::new(this.into()),
        };
        Ok((facts, peer))
    }

    /// The local address; `None` on unix, and if it is no longer known.
    pub(in crate::guest) fn local(&self) -> Option<LocalAddress> {
        self.local.or_else(|| self.wire.local_address().map(LocalAddress::from))
    }

    fn local_address(&self) -> String {
        match self.local() {
            Some(address) => address.to_string(),
            // On unix both ends share the listener's path. A tcp socket that was torn down no
            // longer knows its address: then the listener's is the closest known.
            None => self.listener.to_string(),
        }
    }
}

impl State {
    /// The facts, for a method whose answer may change what the guest does.
    fn facts(&mut self, connection: &Resource<Facts>) -> wasmtime::Result<&Facts> {
        self.learner.observable();
        Ok(self.table.get(connection)?)
    }
}

impl wasi_0_2::uninterruptible::server::types::Host for State {}

impl wasi_0_2::uninterruptible::server::types::HostConnection for State {
    fn id(&mut self, connection: Resource<Facts>) -> wasmtime::Result<String> {
        Ok(self.facts(&connection)?.id.to_string())
    }

    fn peer_address(&mut self, connection: Resource<Facts>) -> wasmtime::Result<String> {
        Ok(self.facts(&connection)?.peer.to_string())
    }

    fn local_address(&mut self, connection: Resource<Facts>) -> wasmtime::Result<String> {
        Ok(self.facts(&connection)?.local_address())
    }

    fn listener(&mut self, connection: Resource<Facts>) -> wasmtime::Result<String> {
        Ok(self.facts(&connection)?.listener.to_string())
    }

    fn tls_version(&mut self, connection: Resource<Facts>) -> wasmtime::Result<Option<String>> {
        Ok(self.facts(&connection)?.wire.session(|tls| tls.version().map(str::to_owned)).flatten())
    }

    fn tls_server_name(&mut self, connection: Resource<Facts>) -> wasmtime::Result<Option<String>> {
        Ok(self.facts(&connection)?.wire.session(|tls| tls.server_name().map(str::to_owned)).flatten())
    }

    fn tls_alpn(&mut self, connection: Resource<Facts>) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.facts(&connection)?.wire.session(|tls| tls.alpn().map(<[u8]>::to_vec)).flatten())
    }

    fn tls_peer_certificates(&mut self, connection: Resource<Facts>) -> wasmtime::Result<Vec<Vec<u8>>> {
        Ok(self.facts(&connection)?.wire.session(Session::peer_certificates).unwrap_or_default())
    }

    fn is_draining(&mut self, connection: Resource<Facts>) -> wasmtime::Result<bool> {
        Ok(self.facts(&connection)?.draining.begun())
    }

    fn drop(&mut self, connection: Resource<Facts>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl wasi_0_3::uninterruptible::server::types::Host for State {}

/// The nine methods that both contracts share are the same. The others follow.
impl wasi_0_3::uninterruptible::server::types::HostConnection for State {
    fn id(&mut self, connection: Resource<Facts>) -> wasmtime::Result<String> {
        wasi_0_2::uninterruptible::server::types::HostConnection::id(self, connection)
    }

    fn peer_address(&mut self, connection: Resource<Facts>) -> wasmtime::Result<String> {
        wasi_0_2::uninterruptible::server::types::HostConnection::peer_address(self, connection)
    }

    fn local_address(&mut self, connection: Resource<Facts>) -> wasmtime::Result<String> {
        wasi_0_2::uninterruptible::server::types::HostConnection::local_address(self, connection)
    }

    fn listener(&mut self, connection: Resource<Facts>) -> wasmtime::Result<String> {
        wasi_0_2::uninterruptible::server::types::HostConnection::listener(self, connection)
    }

    fn tls_version(&mut self, connection: Resource<Facts>) -> wasmtime::Result<Option<String>> {
        wasi_0_2::uninterruptible::server::types::HostConnection::tls_version(self, connection)
    }

    fn tls_server_name(&mut self, connection: Resource<Facts>) -> wasmtime::Result<Option<String>> {
        wasi_0_2::uninterruptible::server::types::HostConnection::tls_server_name(self, connection)
    }

    fn tls_alpn(&mut self, connection: Resource<Facts>) -> wasmtime::Result<Option<Vec<u8>>> {
        wasi_0_2::uninterruptible::server::types::HostConnection::tls_alpn(self, connection)
    }

    fn tls_peer_certificates(&mut self, connection: Resource<Facts>) -> wasmtime::Result<Vec<Vec<u8>>> {
        wasi_0_2::uninterruptible::server::types::HostConnection::tls_peer_certificates(self, connection)
    }

    fn is_draining(&mut self, connection: Resource<Facts>) -> wasmtime::Result<bool> {
        wasi_0_2::uninterruptible::server::types::HostConnection::is_draining(self, connection)
    }

    fn fail(&mut self, connection: Resource<Facts>, message: String) -> wasmtime::Result<()> {
        self.facts(&connection)?;
        self.declared_failure.get_or_insert(message);
        Ok(())
    }

    fn drop(&mut self, connection: Resource<Facts>) -> wasmtime::Result<()> {
        wasi_0_2::uninterruptible::server::types::HostConnection::drop(self, connection)
    }
}

impl wasi_0_3::uninterruptible::server::types::HostConnectionWithStore<State> for HasSelf<State> {
    fn input_end(
        mut host: Access<'_, State, Self>,
        connection: Resource<Facts>,
    ) -> wasmtime::Result<FutureReader<Result<(), String>>> {
        let wire = Arc::clone(&host.get().facts(&connection)?.wire);
        FutureReader::new(&mut host, async move {
            Ok::<_, wasmtime::Error>(match wire.input_end().await {
                InputEnd::Closed => Ok(()),
                InputEnd::Broken(kind) => Err(kind.to_string()),
            })
        })
    }
}
