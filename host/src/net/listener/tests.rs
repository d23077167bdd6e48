//! Listeners: bound, adopted, paused, drained and released.

use super::*;
use crate::net::Bound;
use nix::sched::{CloneFlags, unshare};
use rustix::net::{SocketAddrUnix, bind};
use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixListener},
    },
    path::Path,
    thread,
};

const BACKLOG: u32 = 16;

fn listener(uri: &str) -> Listener {
    let bind: Bind = uri.parse().unwrap();
    let [key] = Key::of(std::slice::from_ref(&bind)).try_into().unwrap();
    Bound::new(&bind, key).unwrap().listen(BACKLOG).unwrap()
}

fn copy(listener: &Listener) -> OwnedFd {
    listener.as_fd().try_clone_to_owned().unwrap()
}

fn adopt(socket: impl Into<OwnedFd>, key: &str) -> Result<Listener, AdoptError> {
    Listener::adopt(socket.into(), key.parse().unwrap(), None)
}

#[test]
fn adopting_a_listener_changes_nothing_on_it() {
    let bound = listener("tcp://127.0.0.1:0");
    let port = format!("tcp://{}", bound.address().to_string().strip_prefix("tcp://").unwrap());
    for key in [&*bound.key().to_string(), "tcp://127.0.0.1:0#7", &port] {
        let adopted = adopt(copy(&bound), key).unwrap();
        assert_eq!((adopted.key().to_string().as_str(), adopted.address()), (key, bound.address()));
    }
}

#[test]
fn the_queue_keeps_the_predecessors_length_until_the_listener_settles() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let uri = format!("unix://{}", path.display());
    let predecessor = listener(&uri);
    let successor = adopt(copy(&predecessor), &uri).unwrap();
    let client = || {
        let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
        client.connect(&SockAddr::unix(&path).unwrap()).map(|()| client)
    };
    // The kernel queues one more than the backlog.
    let _queued: Vec<_> = (0..=BACKLOG).map(|_| client().unwrap()).collect();
    assert_eq!(client().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    successor.settled(&uri.parse().unwrap(), BACKLOG + 1).unwrap();
    client().unwrap();
    assert_eq!(client().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn an_adopted_socket_does_not_block_and_is_not_inherited() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let key = format!("tcp://{}", plain.local_addr().unwrap());
    let socket = OwnedFd::from(plain);
    fcntl_setfd(&socket, FdFlags::empty()).unwrap();
    let adopted = adopt(socket, &key).unwrap();
    assert!(fcntl_getfd(&adopted.socket).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!(adopted.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_descriptor_that_does_not_match_its_key_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = |name: &str| format!("unix://{}", directory.path().join(name).display());
    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = {
        let listener = tcp();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    };
    let any = "tcp://127.0.0.1:0#0";
    assert!(matches!(adopt(File::open("/dev/null").unwrap(), any), Err(AdoptError::NoSocket(_))));
    assert!(matches!(adopt(UdpSocket::bind("127.0.0.1:0").unwrap(), any), Err(AdoptError::NoStream(_))));
    assert!(matches!(adopt(UnixDatagram::unbound().unwrap(), any), Err(AdoptError::NoStream(_))));
    assert!(matches!(adopt(connected, any), Err(AdoptError::NotListening(_))));
    let elsewhere = |socket: OwnedFd, key: &str| match adopt(socket, key) {
        Err(AdoptError::Elsewhere { found, .. }) => found,
        other => panic!("{key}: {other:?}"),
    };
    assert!(elsewhere(tcp().into(), "tcp://127.0.0.1:1").starts_with("tcp://127.0.0.1:"));
    assert!(elsewhere(tcp().into(), "tcp://127.0.0.2:0#0").starts_with("tcp://127.0.0.1:"));
    assert!(elsewhere(tcp().into(), "tcp://[::1]:0#0").starts_with("tcp://127.0.0.1:"));
    assert!(elsewhere(tcp().into(), &unix("socket")).starts_with("tcp://127.0.0.1:"));
    let socket = UnixListener::bind(&path).unwrap();
    assert_eq!(elsewhere(socket.try_clone().unwrap().into(), &unix("other")), unix("socket"));
    assert_eq!(elsewhere(socket.try_clone().unwrap().into(), any), unix("socket"));
    adopt(socket, &unix("socket")).unwrap();
}

#[test]
fn a_listener_of_another_network_namespace_is_rejected() {
    let elsewhere = thread::spawn(|| {
        // Needs root, and a kernel since 5.14.
        unshare(CloneFlags::CLONE_NEWNET).ok()?;
        Some(TcpListener::bind("0.0.0.0:0").unwrap())
    });
    let Some(elsewhere) = elsewhere.join().unwrap() else { return };
    if kernel::network_namespace(elsewhere.as_fd()).unwrap().is_some() {
        assert!(matches!(adopt(elsewhere, "tcp://0.0.0.0:0#0"), Err(AdoptError::OtherNetwork(_))));
    }
}

#[test]
fn a_bound_port_refuses_other_binds_and_clients_until_it_listens() {
    let bind: Bind = "tcp://127.0.0.1:0".parse().unwrap();
    let [key] = Key::of(std::slice::from_ref(&bind)).try_into().unwrap();
    let bound = Bound::new(&bind, key).unwrap();
    let ListenerAddress::Tcp(address) = *bound.address() else { panic!("a tcp listener") };
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    // The standard library binds it as this program does.
    for other in [address, SocketAddr::from(([0, 0, 0, 0], address.port()))] {
        assert_eq!(TcpListener::bind(other).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
    let listener = bound.listen(BACKLOG).unwrap();
    TcpStream::connect(address).unwrap();
    assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    listener.accept().unwrap();
}

#[test]
fn a_successor_does_not_remove_a_path_that_leads_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let uri = format!("unix://{}", path.display());
    let predecessor = listener(&uri);
    fs::remove_file(&path).unwrap();
    let theirs = UnixListener::bind(&path).unwrap();
    let successor = Listener::adopt(copy(&predecessor), uri.parse().unwrap(), predecessor.file()).unwrap();
    assert!(!successor.is_where_it_says());
    drop(predecessor);
    successor.settled(&format!("{uri}?mode=0600").parse().unwrap(), BACKLOG).unwrap();
    successor.unlink().unwrap();
    UnixStream::connect(&path).unwrap();
    theirs.accept().unwrap();
}

#[test]
fn a_path_belongs_to_one_generation_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let uri = format!("unix://{}", path.display());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

    let predecessor = listener(&format!("{uri}?mode=0600"));
    let successor = adopt(copy(&predecessor), &uri).unwrap();
    successor.unlink().unwrap();
    assert_eq!(mode(&path), 0o600, "not yet owned, and unchanged");

    // A predecessor that has handed over closes its copy, and removes nothing.
    drop(predecessor);
    successor.settled(&format!("{uri}?mode=0666").parse().unwrap(), BACKLOG).unwrap();
    assert_eq!(mode(&path), 0o666);
    assert!(path.exists());
    successor.unlink().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn accepting_can_pause_and_then_takes_the_connections_queued_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let uri = format!("unix://{}", directory.path().join("socket").display());
    for listener in [listener(&uri), listener("tcp://127.0.0.1:0")] {
        let connect = || -> Box<dyn std::any::Any> {
            match listener.address() {
                ListenerAddress::Tcp(address) => Box::new(TcpStream::connect(address).unwrap()),
                ListenerAddress::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
            }
        };
        let incoming = listener.incoming().unwrap();
        let _first = connect();
        incoming.ready().await.unwrap();
        incoming.accept().unwrap();
        drop(incoming);
        let _second = connect();
        let _third = connect();
        assert_eq!(listener.queue().unwrap().waiting, 2);
        let incoming = listener.incoming().unwrap();
        incoming.ready().await.unwrap();
        incoming.accept().unwrap();
        incoming.accept().unwrap();
        assert_eq!(incoming.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn a_unix_socket_that_stops_arrivals_refuses_and_keeps_its_queue() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = listener(&format!("unix://{}", path.display()));
    let _queued: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
    listener.stop_arrivals().unwrap();
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    for waiting in [3, 2, 1] {
        assert_eq!(listener.queue().unwrap().waiting, waiting);
        listener.accept().unwrap();
    }
    assert_eq!(listener.queue().unwrap().waiting, 0);
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn an_overflow_of_the_queue_is_remembered() {
    let bind: Bind = "tcp://127.0.0.1:0".parse().unwrap();
    let [key] = Key::of(std::slice::from_ref(&bind)).try_into().unwrap();
    let listener = Bound::new(&bind, key).unwrap().listen(1).unwrap();
    let ListenerAddress::Tcp(address) = *listener.address() else { panic!("a tcp listener") };
    let connect = || {
        let client = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
        client.connect(&SockAddr::from(address)).ok();
        client
    };
    // The kernel queues one more than the backlog.
    let mut clients = vec![connect(), connect()];
    assert!(!listener.has_overflowed());
    while !listener.has_overflowed() {
        clients.push(connect());
        assert!(clients.len() < 100, "more than a queue of one holds");
    }
}

/// The kernel accepts names of up to 108 bytes, and counts a final NUL beyond them.
#[test]
fn a_peer_with_the_longest_name_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = listener(&format!("unix://{}", path.display()));
    let room = 108 - directory.path().as_os_str().len() - 1;
    let name = directory.path().join("n".repeat(room));
    let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    bind(&client, &SocketAddrUnix::new(&name).unwrap()).unwrap();
    client.connect(&SockAddr::unix(&path).unwrap()).unwrap();
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer.to_string(), format!("unix://{}", name.display()));
}
