//! Facts about a connection. These methods are written and documented here once. The types that
//! offer them differ in their resource: two generations of the contract, and a connection or its
//! facts alone.

/// Gives a type the methods that ask the host for facts. `$path` leads from `self` to the host's resource.
macro_rules! facts {
    ($type:ty, $($path:ident).+) => {
        impl $type {
            /// The id of this connection in the host's log. Opaque: compare it, print it, do not
            /// parse it.
            #[must_use]
            pub fn id(&self) -> String {
                self.$($path).+.id()
            }

            /// The peer: `tcp://192.0.2.7:40312`, `tcp://[2001:db8::7]:40312`, `unix:///path`, or
            /// `unix://` if the peer's socket has no name.
            #[must_use]
            pub fn peer_address(&self) -> String {
                self.$($path).+.peer_address()
            }

            /// The local address of the connection, in the form of
            /// [`peer_address`](Self::peer_address).
            #[must_use]
            pub fn local_address(&self) -> String {
                self.$($path).+.local_address()
            }

            /// The listener that accepted the connection, for example `tcp://0.0.0.0:7000`.
            #[must_use]
            pub fn listener(&self) -> String {
                self.$($path).+.listener()
            }

            /// `TLSv1.2` or `TLSv1.3`; `None` without TLS.
            #[must_use]
            pub fn tls_version(&self) -> Option<String> {
                self.$($path).+.tls_version()
            }

            /// The server name (SNI) that the peer asked for.
            #[must_use]
            pub fn tls_server_name(&self) -> Option<String> {
                self.$($path).+.tls_server_name()
            }

            /// The application protocol (ALPN) that was negotiated, as the bytes of its registered name.
            #[must_use]
            pub fn tls_alpn(&self) -> Option<Vec<u8>> {
                self.$($path).+.tls_alpn()
            }

            /// The peer's certificate chain in DER, its own certificate first, if the host has
            /// verified it; otherwise empty.
            #[must_use]
            pub fn tls_peer_certificates(&self) -> Vec<Vec<u8>> {
                self.$($path).+.tls_peer_certificates()
            }

            /// Whether the host shuts down or has handed over to its successor, and waits for this
            /// connection to finish. Once true it stays true.
            #[must_use]
            pub fn is_draining(&self) -> bool {
                self.$($path).+.is_draining()
            }
        }
    };
}

pub(crate) use facts;
