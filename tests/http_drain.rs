//! How clients of HTTP are told to go when a process ends, by its stop or by a restart.

use crate::{
    harness::{Address, Host, Setup, Stream, Transport, connect, read_to_end},
    http::response,
    service::Service,
};
use nix::sys::signal::Signal;
use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

const ASK: &[u8] = b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n";

/// Asks until it is told that this was the last answer.
fn ask_until_told(stream: &mut Stream) {
    loop {
        stream.write_all(ASK).unwrap();
        let (head, body) = response(stream);
        assert_eq!(body, "x");
        if head.contains("connection: close") {
            break;
        }
    }
    assert_eq!(read_to_end(stream), b"");
}

#[test]
fn a_connection_that_is_kept_is_told_by_its_next_response() {
    for transport in Transport::ALL {
        let mut host = Host::serving_over(transport, "http-wasi");
        let mut stream = host.connect();
        stream.write_all(ASK).unwrap();
        assert_eq!(response(&mut stream).1, "x");
        host.signal(Signal::SIGTERM);
        ask_until_told(&mut stream);
        assert_eq!(host.exit_code(), 0);
    }
}

#[test]
fn a_connection_without_a_request_does_not_hold_up_the_end() {
    let mut host = Host::serving("http-wasi");
    let mut unused = host.connect();
    let mut kept = host.connect();
    kept.write_all(ASK).unwrap();
    assert_eq!(response(&mut kept).1, "x");
    host.signal(Signal::SIGTERM);
    assert_eq!(read_to_end(&mut unused), b"");
    assert_eq!(read_to_end(&mut kept), b"");
    assert_eq!(host.exit_code(), 0);
}

#[test]
fn a_response_under_way_is_finished() {
    let mut host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream.write_all(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n").unwrap();
    let mut begun = Vec::new();
    while !begun.ends_with(b"begun\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        begun.push(byte[0]);
    }
    host.signal(Signal::SIGTERM);
    host.logged(&["stopping"]);
    stream.write_all(b"done").unwrap();
    assert_eq!(read_to_end(&mut stream), b"0\r\n\r\n");
    assert_eq!(host.exit_code(), 0);
}

/// What a client of HTTP/2 begins with: the preface, and settings that change nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// A frame of HTTP/2, its length first.
fn write_frame(stream: &mut Stream, kind: u8, flags: u8, on: u8, payload: &[u8]) {
    let head = [0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, on];
    stream.write_all(&[&head, payload].concat()).unwrap();
}

/// The next frame: its kind, its flags and what is in it.
fn read_frame(stream: &mut Stream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).unwrap();
    (head[3], head[4], payload)
}

fn await_frame(stream: &mut Stream, kind: u8) -> (u8, Vec<u8>) {
    loop {
        let (found, flags, payload) = read_frame(stream);
        if found == kind {
            return (flags, payload);
        }
    }
}

/// Not by curl: that of Debian 12 loses what comes together with the frame that tells it to go.
#[test]
fn a_request_of_http_2_under_way_is_finished() {
    const END: u8 = 1;
    let mut host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream.write_all(PREFACE).unwrap();
    // POST http://a/echo, in HPACK's plainest form.
    write_frame(&mut stream, HEADERS, 4, 1, b"\x83\x86\x04\x05/echo\x01\x01a");
    write_frame(&mut stream, DATA, 0, 1, b"first");
    assert_eq!(await_frame(&mut stream, DATA).1, b"first");
    host.signal(Signal::SIGTERM);
    await_frame(&mut stream, GOAWAY);
    let (_, ping) = await_frame(&mut stream, PING);
    write_frame(&mut stream, PING, END, 0, &ping);
    await_frame(&mut stream, GOAWAY);
    write_frame(&mut stream, DATA, END, 1, b"second");
    assert_eq!(await_frame(&mut stream, DATA).1, b"second");
    assert_eq!(await_frame(&mut stream, HEADERS).0 & END, END, "its trailers end it");
    drop(stream);
    assert_eq!(host.exit_code(), 0);
}

#[test]
fn a_client_of_http_2_is_told_by_a_frame() {
    let mut host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream.write_all(PREFACE).unwrap();
    read_frame(&mut stream);
    host.signal(Signal::SIGTERM);
    await_frame(&mut stream, GOAWAY);
    drop(stream);
    assert_eq!(host.exit_code(), 0);
}

/// Clients that keep their connections, and go where they are told to.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: Address) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut stream = connect(address);
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(ASK).unwrap();
                    let (head, body) = response(&mut stream);
                    assert_eq!(body, "x");
                    answered.fetch_add(1, Ordering::Relaxed);
                    if head.contains("connection: close") {
                        stream = connect(address);
                    }
                }
            })
        };
        Self { clients: (0..4).map(client).collect(), stop, answered }
    }

    fn goes_on(&self) {
        let goal = self.answered.load(Ordering::Relaxed) + 50;
        crate::harness::wait_for("answers", || (self.answered.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("every request is answered"));
    }
}

#[test]
fn no_request_is_lost_over_restarts() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let service = Service::start(Setup::serving_over(transport, "http-wasi").option("--rollback-window", "0s"));
        let load = Load::start(service.host.addresses[0]);
        for _ in 0..3 {
            load.goes_on();
            service.restart();
        }
        load.goes_on();
        load.stop();
    }
}
