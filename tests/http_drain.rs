//! How a host tells HTTP clients to leave when a process ends, by a stop or a restart.

use crate::{
    frames::{
        ANY_STREAM, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, await_frame, head, last_stream,
        read_frame, write_frame,
    },
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
    time::Duration,
};

const ASK: &[u8] = b"GET /sized?1 HTTP/1.1\r\nhost: a\r\n\r\n";

/// Asks until a response says that it is the connection's last.
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
fn a_kept_connection_closes_with_its_next_response() {
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
fn a_connection_without_a_request_does_not_delay_the_end() {
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

/// Not by curl: that of Debian 12 loses data that arrives together with the GOAWAY frame.
#[test]
fn a_request_of_http_2_under_way_is_finished() {
    let mut host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream.write_all(PREFACE).unwrap();
    write_frame(&mut stream, HEADERS, END_HEADERS, 1, &head(3, "/echo"));
    write_frame(&mut stream, DATA, 0, 1, b"first");
    assert_eq!(await_frame(&mut stream, DATA).payload, b"first");
    host.signal(Signal::SIGTERM);
    assert_eq!(last_stream(&await_frame(&mut stream, GOAWAY)), ANY_STREAM);
    acknowledge(&mut stream);
    assert_eq!(last_stream(&await_frame(&mut stream, GOAWAY)), 1);
    write_frame(&mut stream, DATA, END_STREAM, 1, b"second");
    assert_eq!(await_frame(&mut stream, DATA).payload, b"second");
    assert_eq!(await_frame(&mut stream, HEADERS).flags & END_STREAM, END_STREAM, "its trailers end it");
    assert_eq!(read_to_end(&mut stream), b"", "the host ends the connection");
    assert_eq!(host.exit_code(), 0);
}

/// Answers the next PING.
fn acknowledge(stream: &mut Stream) {
    let ping = await_frame(stream, PING);
    write_frame(stream, PING, END_STREAM, 0, &ping.payload);
}

/// A regression: an HTTP/2 connection that had been idle for more than five seconds was closed
/// together with its first GOAWAY, and with the requests that crossed that frame.
#[test]
fn an_idle_http_2_client_has_a_round_trip_to_leave() {
    let mut host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream.write_all(PREFACE).unwrap();
    write_frame(&mut stream, HEADERS, END_HEADERS | END_STREAM, 1, &head(2, "/"));
    while await_frame(&mut stream, DATA).flags & END_STREAM == 0 {}
    crate::harness::pace(Duration::from_millis(5500), "the bug needs a connection that was idle for five seconds");
    host.signal(Signal::SIGTERM);
    acknowledge(&mut stream);
    assert_eq!(last_stream(&await_frame(&mut stream, GOAWAY)), ANY_STREAM);
    // This request crosses it.
    write_frame(&mut stream, HEADERS, END_HEADERS | END_STREAM, 3, &head(2, "/"));
    acknowledge(&mut stream);
    let (mut told, mut answered) = (None, false);
    while told.is_none() || !answered {
        let frame = read_frame(&mut stream);
        match frame.kind {
            GOAWAY => told = Some(last_stream(&frame)),
            _ => answered |= frame.on == 3 && frame.kind == DATA && frame.flags & END_STREAM != 0,
        }
    }
    assert_eq!(told, Some(3));
    assert_eq!(read_to_end(&mut stream), b"", "the host ends the connection");
    drop(stream);
    assert_eq!(host.exit_code(), 0);
}

/// A regression: the wait for the last connection stood in the queue for places, before requests
/// that came after it.
#[test]
fn a_draining_connection_answers_further_requests_while_places_are_free() {
    for guests in ["2", "50"] {
        let mut host = Setup::serving("http-wasi").option("--max-connections", guests).start();
        let mut stream = host.connect();
        stream.write_all(PREFACE).unwrap();
        write_frame(&mut stream, HEADERS, END_HEADERS, 1, &head(3, "/echo"));
        write_frame(&mut stream, DATA, 0, 1, b"first");
        assert_eq!(await_frame(&mut stream, DATA).payload, b"first");
        host.signal(Signal::SIGTERM);
        host.logged(&["stopping"]);
        write_frame(&mut stream, HEADERS, END_HEADERS | END_STREAM, 3, &head(2, "/"));
        let answer = await_frame(&mut stream, DATA);
        assert_eq!((answer.on, answer.payload), (3, b"hello\n".to_vec()));
        write_frame(&mut stream, DATA, END_STREAM, 1, b"second");
        let echo = std::iter::repeat_with(|| await_frame(&mut stream, DATA)).find(|frame| frame.on == 1);
        assert_eq!(echo.unwrap().payload, b"second");
        drop(stream);
        assert_eq!(host.exit_code(), 0);
    }
}

/// Some clients read only while they wait for a response, and take the first GOAWAY that they then
/// find for the last.
#[test]
fn an_idle_http_2_client_that_does_not_read_still_finds_its_last_request() {
    let mut host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream.write_all(PREFACE).unwrap();
    let ask = |stream: &mut Stream, on| write_frame(stream, HEADERS, END_HEADERS | END_STREAM, on, &head(2, "/"));
    ask(&mut stream, 1);
    while await_frame(&mut stream, DATA).flags & END_STREAM == 0 {}
    host.signal(Signal::SIGTERM);
    let ping = await_frame(&mut stream, PING);
    // It finds the GOAWAY only when it has sent its next request.
    ask(&mut stream, 3);
    write_frame(&mut stream, PING, END_STREAM, 0, &ping.payload);
    while await_frame(&mut stream, DATA).flags & END_STREAM == 0 {}
    // From here on it is idle and reads nothing. Then it sends a request, and finds that this was
    // too late, and no PING after that.
    let mut frames = Vec::new();
    let mut rest = read_to_end(&mut stream);
    while !rest.is_empty() {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        frames.push((rest[3], rest[9..9 + length].to_vec()));
        rest.drain(..9 + length);
    }
    let kinds: Vec<u8> = frames.iter().map(|(kind, _)| *kind).collect();
    assert!(kinds.ends_with(&[PING, GOAWAY, GOAWAY]), "{kinds:?}");
    let lasts: Vec<&[u8]> = frames.iter().rev().take(2).map(|(_, payload)| &payload[..4]).collect();
    assert_eq!(lasts, [3_u32.to_be_bytes(), ANY_STREAM.to_be_bytes()]);
    assert_eq!(host.exit_code(), 0);
}

#[test]
fn an_http_2_client_that_acknowledges_nothing_does_not_delay_the_end() {
    let mut host = Host::serving("http-wasi");
    let mut stream = host.connect();
    stream.write_all(PREFACE).unwrap();
    read_frame(&mut stream);
    host.signal(Signal::SIGTERM);
    await_frame(&mut stream, GOAWAY);
    drop(stream);
    assert_eq!(host.exit_code(), 0);
}

/// Clients that keep their connections, and leave when they are told to.
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
