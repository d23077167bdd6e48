//! Hosts that serve the guest, and what came of a script.
//!
//! All that a peer sends is in the kernel before a host sees its connection: the host is stopped meanwhile. Otherwise it
//! would depend on chance how much a guest finds to read.

use super::script::Script;
use crate::harness::{Host, PATIENCE, Setup, unix_uri, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// The most connections that wait for a host: the kernel's queue takes them.
const BATCH: usize = 100;

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
    /// Whether the two are alike. Texts about traps may differ.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.bytes, &self.end, &self.reason) == (&other.bytes, &other.end, &other.reason)
            && (self.error == other.error || self.reason == "trap")
    }
}

/// What the scripts run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Tcp,
    Unix,
}

/// Runs the scripts on a host that starts and ends with them.
pub fn outcomes(plugin: &Path, options: &[&str], over: Over, scripts: &[Script]) -> Vec<Outcome> {
    let sockets = crate::harness::directory();
    let mut setup = Setup::serving_file(plugin)
        .option("--bind", unix_uri(&sockets.path().join("host.sock")))
        .option("--guest-start", "accept")
        .option("--guest-memory", "2MiB")
        .option("--guest-env", "FIRST=1")
        .option("--guest-env", "SECOND=a longer value, with ünicode")
        .option("--guest-arg", "one")
        .option("--guest-arg", "")
        .option("--log-format", "json");
    for option in options {
        setup = setup.argument(*option);
    }
    let host = setup.start();
    let mut outcomes = Vec::new();
    let mut peers = Vec::new();
    for batch in scripts.chunks(BATCH) {
        stop(&host);
        let mut connections = Vec::new();
        for script in batch {
            let (connection, peer) = connected(&host, over);
            (&connection).write_all(&script.encode()).unwrap();
            connection.shutdown(Shutdown::Write).unwrap();
            connections.push(Some(connection).filter(|_| !script.is_abandoned));
            peers.push(peer);
        }
        host.signal(Signal::SIGCONT);
        outcomes.extend(connections.into_iter().map(|connection| connection.map(heard).unwrap_or_default()));
    }
    let mut records = records(&host.whole_log());
    for (outcome, peer) in outcomes.iter_mut().zip(&peers) {
        let record = records.remove(peer).unwrap_or_else(|| panic!("no record of {peer}"));
        outcome.reason = record["reason"].as_str().unwrap_or_default().to_owned();
        outcome.error = record["error"].as_str().unwrap_or_default().to_owned();
    }
    outcomes
}

/// Stops each of its threads.
fn stop(host: &Host) {
    host.signal(Signal::SIGSTOP);
    let tasks = format!("/proc/{}/task", host.pid());
    let stopped = |task: fs::DirEntry| {
        // A thread may have ended meanwhile.
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    };
    wait_for("a host that stops", || fs::read_dir(&tasks).unwrap().all(|task| stopped(task.unwrap())).then_some(()));
}

/// A connection from a peer with a name of its own, and that name as records have it.
fn connected(host: &Host, over: Over) -> (Socket, String) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let name = format!("raw-{}-{:08}", std::process::id(), CONNECTIONS.fetch_add(1, Ordering::Relaxed));
    let (socket, to) = match over {
        Over::Unix => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.bind(&SockAddr::unix(format!("\0{name}")).unwrap()).unwrap();
            let crate::harness::Address::Unix(path) = host.addresses[1] else { panic!("not a path") };
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

fn heard(connection: Socket) -> Outcome {
    let mut bytes = Vec::new();
    let end = match (&connection).read_to_end(&mut bytes) {
        Ok(_) => "closed".to_owned(),
        Err(error) => error.kind().to_string(),
    };
    Outcome { bytes, end, ..Outcome::default() }
}

/// The records of connections by their peers.
fn records(log: &str) -> HashMap<String, Value> {
    let mut records = HashMap::new();
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Some(peer) = record["peer"].as_str()
            && matches!(record["message"].as_str(), Some("connection finished" | "connection failed"))
        {
            let earlier = records.insert(peer.to_owned(), record.clone());
            assert!(earlier.is_none(), "a second connection of {peer}");
        }
    }
    records
}
