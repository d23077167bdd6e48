//! A client's end of a TLS connection. One thread can write to it while another reads, as with a
//! socket.

use crate::certificates;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, OnceLock},
};

#[derive(Clone)]
pub struct Secure {
    pub socket: Arc<TcpStream>,
    connection: Arc<Mutex<ClientConnection>>,
    /// Encrypted bytes that the kernel has not taken yet.
    unsent: Arc<Mutex<Vec<u8>>>,
}

/// A configuration that trusts the authority of the tests, and resumes no session.
pub fn configuration() -> Arc<ClientConfig> {
    static CONFIGURATION: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = || {
        let mut authorities = RootCertStore::empty();
        authorities.add(CertificateDer::from(certificates::trusted().der())).unwrap();
        let mut configuration = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(authorities)
            .with_no_client_auth();
        configuration.resumption = rustls::client::Resumption::disabled();
        Arc::new(configuration)
    };
    Arc::clone(CONFIGURATION.get_or_init(make))
}

impl Secure {
    /// Performs the handshake.
    pub fn over(socket: TcpStream) -> io::Result<Self> {
        let mut connection =
            ClientConnection::new(configuration(), "localhost".try_into().unwrap()).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut &socket)?;
        }
        Ok(Self { socket: Arc::new(socket), connection: Arc::new(Mutex::new(connection)), unsent: Arc::default() })
    }

    /// Sends close_notify, and closes the sending side.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            self.connection.lock().unwrap().send_close_notify();
            self.send(&mut self.unsent.lock().unwrap())?;
        }
        self.socket.shutdown(how)
    }

    /// Reader and writer must not wait for each other, so the connection is locked only while bytes
    /// are encrypted.
    fn send(&self, unsent: &mut Vec<u8>) -> io::Result<()> {
        loop {
            {
                let mut connection = self.connection.lock().unwrap();
                while connection.wants_write() {
                    connection.write_tls(unsent)?;
                }
            }
            if unsent.is_empty() {
                return Ok(());
            }
            let count = (&*self.socket).write(unsent)?;
            unsent.drain(..count);
        }
    }
}

impl Read for Secure {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.lock().unwrap().reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            // At most the amount that the library takes at once.
            let mut encrypted = [0; 4096];
            let count = (&*self.socket).read(&mut encrypted)?;
            let mut connection = self.connection.lock().unwrap();
            let mut rest = &encrypted[..count];
            loop {
                connection.read_tls(&mut rest)?;
                connection.process_new_packets().map_err(io::Error::other)?;
                if rest.is_empty() {
                    break;
                }
            }
        }
    }
}

impl Write for Secure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut unsent = self.unsent.lock().unwrap();
        self.send(&mut unsent)?;
        let count = self.connection.lock().unwrap().writer().write(bytes)?;
        match self.send(&mut unsent) {
            // It goes out with the next write.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(count),
            sent => sent.map(|()| count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send(&mut self.unsent.lock().unwrap())
    }
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.socket.fmt(f)
    }
}
