//! Hosts that serve the guest, and what came of a script.
//!
//! A host is stopped while peers send their scripts and the end of what they send, and the reactor watches each connection
//! before that. Otherwise it would depend on chance how much a guest finds to read.

use super::script::Script;
use crate::{
    certificates::{Authority, trusted, write},
    harness::{Address, Host, PATIENCE, Setup, directory, unix_uri, wait_for},
};
use nix::sys::signal::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    collections::HashMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The most connections that wait for a host: the kernel's queue takes them.
const BATCH: usize = 100;

/// The bytes that a guest sends before it waits for its script.
const GREETING: usize = 8;

/// What came of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub bytes: Vec<u8>,
    /// How the connection ended for its peer.
    pub end: String,
    /// The reason of the failure, if it was one.
    pub reason: String,
    pub error: String,
}

impl Outcome {
    /// Whether the two are alike. Texts about traps may differ, and so may the place in the guest.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.bytes, &self.end, &self.reason) == (&other.bytes, &other.end, &other.reason)
            && (self.error == other.error || self.is_limit_of(other) || (self.has_trapped() && other.has_trapped()))
    }

    /// Whether both reached the same limit, at whichever place, after the same output. A record has room for a part of it.
    fn is_limit_of(&self, other: &Self) -> bool {
        let parts = |error: &str| {
            let (before, last) = error.split_once("; ").unwrap_or((error, ""));
            (before.split(", in ").next().map(str::to_owned), last.to_owned())
        };
        let ((limit, last), (other_limit, other_last)) = (parts(&self.error), parts(&other.error));
        self.reason == "memory"
            && limit == other_limit
            && last.bytes().zip(other_last.bytes()).all(|(byte, other)| byte == other)
            && last.is_empty() == other_last.is_empty()
    }

    /// Whether the guest trapped. Once its peer is gone, the reason is another.
    pub fn has_trapped(&self) -> bool {
        let is_digest = self.error.len() == 16 && self.error.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.reason == "trap" || (self.reason == "peer-reset" && !self.error.is_empty() && !is_digest)
    }
}

/// What the scripts run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Tcp,
    Unix,
}

fn setup(plugin: &Path, options: &[&str]) -> Setup {
    let setup = Setup::serving_file(plugin)
        .option("--guest-start", "accept")
        .option("--guest-memory", "2MiB")
        .option("--guest-env", "FIRST=1")
        .option("--guest-env", "SECOND=a longer value, with ünicode")
        .option("--guest-arg", "one")
        .option("--guest-arg", "")
        .option("--log-format", "json");
    options.iter().fold(setup, |setup, option| setup.argument(*option))
}

/// Runs the scripts on a host that starts and ends with them.
pub fn outcomes(plugin: &Path, options: &[&str], over: Over, scripts: &[Script]) -> Vec<Outcome> {
    let sockets = directory();
    let setup = setup(plugin, options).option("--bind", unix_uri(&sockets.path().join("host.sock")));
    let host = setup.start();
    let mut outcomes = Vec::new();
    let mut peers = Vec::new();
    for batch in scripts.chunks(BATCH) {
        let connections: Vec<_> = batch.iter().map(|_| connected(&host, over)).collect();
        for (connection, _) in &connections {
            (&*connection).read_exact(&mut [0; GREETING]).unwrap();
        }
        stop(&host);
        let mut listening = Vec::new();
        for (script, (connection, peer)) in batch.iter().zip(connections) {
            (&connection).write_all(&script.encode()).unwrap();
            // Closing alone may come late: a process that another test starts has the descriptor for a moment.
            let how = if script.is_abandoned { Shutdown::Both } else { Shutdown::Write };
            connection.shutdown(how).unwrap();
            listening.push(Some(connection).filter(|_| !script.is_abandoned));
            peers.push(peer);
        }
        host.signal(Signal::SIGCONT);
        outcomes.extend(listening.into_iter().map(|connection| match connection {
            Some(mut connection) => heard(&mut connection),
            None => Outcome::default(),
        }));
    }
    explained(host, outcomes, &peers)
}

/// The same with what the log says.
fn explained(host: Host, mut outcomes: Vec<Outcome>, peers: &[String]) -> Vec<Outcome> {
    // A guest that has closed its output may still be at work, and must not see the host drain.
    let ended = || host.log().matches("\"connection f").count() >= peers.len();
    wait_for("a record of each connection", || ended().then_some(()));
    let mut records = records(&host.whole_log());
    for (outcome, peer) in outcomes.iter_mut().zip(peers) {
        let record = records.remove(peer).unwrap_or_else(|| panic!("no record of {peer}"));
        outcome.reason = record["reason"].as_str().unwrap_or_default().to_owned();
        outcome.error = record["error"].as_str().unwrap_or_default().to_owned();
    }
    outcomes
}

/// The certificates of a host and of its client.
pub struct Identities {
    options: Vec<String>,
    client: Arc<ClientConfig>,
    _directory: tempfile::TempDir,
}

impl Identities {
    pub fn new() -> Self {
        let directory = directory();
        let (certificate, key) = trusted().server(&["localhost"]).write(directory.path(), "server");
        let authority = Authority::new("clients");
        let authorities = write(&directory.path().join("clients.pem"), &authority.certificate());
        // A chain of two.
        let (intermediate, _) = authority.intermediate("some clients");
        let identity = intermediate.client("client");
        let chain = vec![CertificateDer::from(identity.der), CertificateDer::from(intermediate.der())];
        let mut trust = RootCertStore::empty();
        trust.add(CertificateDer::from(trusted().der())).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trust)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap())
            .unwrap();
        client.alpn_protocols = vec![b"acme/1".to_vec()];
        let paths = [("--tls-certificate", certificate), ("--tls-key", key), ("--client-ca", authorities)];
        let mut options: Vec<_> =
            paths.iter().flat_map(|(name, path)| [(*name).to_owned(), path.to_str().unwrap().to_owned()]).collect();
        options.extend(["--tls-alpn", "acme/1"].map(str::to_owned));
        Self { options, client: Arc::new(client), _directory: directory }
    }
}

/// The same over TLS, one after the other. What a script reads depends on chance here.
pub fn secure_outcomes(plugin: &Path, options: &[&str], identities: &Identities, scripts: &[Script]) -> Vec<Outcome> {
    let options: Vec<_> = options.iter().copied().chain(identities.options.iter().map(String::as_str)).collect();
    let host = setup(plugin, &options).start();
    let mut outcomes = Vec::new();
    let mut peers = Vec::new();
    for script in scripts {
        let socket = TcpStream::connect(host.addresses[0].tcp()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        peers.push(format!("tcp://{}", socket.local_addr().unwrap()));
        let client = ClientConnection::new(Arc::clone(&identities.client), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        stream.write_all(&script.encode()).unwrap();
        outcomes.push(heard(&mut stream));
    }
    explained(host, outcomes, &peers)
}

/// Stops each of its threads, when all have come to rest: a greeting may go out a moment before its guest waits.
fn stop(host: &Host) {
    wait_for("a host at rest", || (threads_are(host, 'S') && threads_are(host, 'S')).then_some(()));
    host.signal(Signal::SIGSTOP);
    wait_for("a host that stops", || threads_are(host, 'T').then_some(()));
}

/// Whether each of its threads is in this state.
fn threads_are(host: &Host, state: char) -> bool {
    fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap().all(|task| {
        // A thread may have ended meanwhile.
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(state))
    })
}

/// A connection from a peer with a name of its own, and that name as records have it.
fn connected(host: &Host, over: Over) -> (Socket, String) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let name = format!("raw-{}-{:08}", std::process::id(), CONNECTIONS.fetch_add(1, Ordering::Relaxed));
    let (socket, to) = match over {
        Over::Unix => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.bind(&SockAddr::unix(format!("\0{name}")).unwrap()).unwrap();
            let Address::Unix(path) = host.addresses[1] else { panic!("not a path") };
            (socket, SockAddr::unix(path).unwrap())
        }
        Over::Tcp => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
            (socket, host.addresses[0].tcp().into())
        }
    };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(&to).unwrap();
    let peer = match over {
        Over::Unix => format!("unix://@{name}"),
        Over::Tcp => format!("tcp://{}", socket.local_addr().unwrap().as_socket().unwrap()),
    };
    (socket, peer)
}

fn heard(connection: &mut impl Read) -> Outcome {
    let mut bytes = Vec::new();
    let end = match connection.read_to_end(&mut bytes) {
        Ok(_) => "closed".to_owned(),
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no end after {} bytes", bytes.len()),
        Err(error) => error.kind().to_string(),
    };
    Outcome { bytes, end, ..Outcome::default() }
}

/// The records of connections by their peers.
fn records(log: &str) -> HashMap<String, Value> {
    let mut records = HashMap::new();
    for line in log.lines() {
        // A panic of the host is not a record, but the connection's record has the reason `host`.
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        if let Some(peer) = record["peer"].as_str()
            && matches!(record["message"].as_str(), Some("connection finished" | "connection failed"))
        {
            let earlier = records.insert(peer.to_owned(), record.clone());
            assert!(earlier.is_none(), "a second connection of {peer}");
        }
    }
    records
}
