//! Bytes: all of them, in order, held back for a slow peer, and never a reset instead of a reply.

use crate::{
    connections::drop_ends_without_bytes,
    harness::{Address, Host, Setup, Stream, Transport, read_line, read_to_end, wait_for},
};
use socket2::SockRef;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

/// Bytes that show their position.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|position| (position.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn echo(transport: Transport, name: &str) {
    let host = Host::serving_over(transport, name);
    let sent = pattern(20 << 20);
    let mut stream = host.connect();
    let mut writer = stream.try_clone().unwrap();
    let expected = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(read_to_end(&mut stream) == expected, "{name}: the echo equals the sent bytes");
    writing.join().unwrap();
}

#[test]
fn twenty_mebibytes_are_echoed_unchanged() {
    for transport in Transport::ALL {
        echo(transport, "echo");
        echo(transport, "echo-async");
        echo(transport, "cat");
        echo(transport, "cat-async");
    }
}

/// They are one packet, except where the guest was interrupted between the two.
#[test]
fn the_last_bytes_of_a_guest_and_the_end_come_together() {
    for name in ["hello", "hello-async"] {
        let host = Host::serving_over(Transport::Tcp, name);
        let Address::Tcp(address) = host.addresses[0] else { panic!("{:?}", host.addresses) };
        let together = |_: &u32| {
            let mut stream = TcpStream::connect(address).unwrap();
            drop_ends_without_bytes(&stream);
            stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            stream.write_all(b"bob\n").unwrap();
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer).is_ok();
            assert_eq!(answer, b"Hello bob!\n");
            ended
        };
        // Each connection where they do not come together takes until the read times out.
        assert_eq!((0..20).filter(together).take(5).count(), 5, "{name}: fewer than 5 of 20");
    }
}

#[test]
fn a_guest_that_computes_on_has_sent_what_it_has_written() {
    let mut host = Setup::serving("moody").option("--guest-cpu-time", "1h").start();
    let mut stream = host.connect();
    stream.write_all(b"answer and loop\n").unwrap();
    assert_eq!(read_line(&mut stream), "looping\n");
    assert!(!host.settled_log().contains("connection failed"), "it computes on");
    host.kill();
}

#[test]
fn unread_input_does_not_turn_the_reply_into_a_reset() {
    for transport in Transport::ALL {
        for name in ["hello", "hello-async", "drop-input"] {
            reply_in_spite_of_unread_input(transport, name);
        }
    }
}

fn reply_in_spite_of_unread_input(transport: Transport, name: &str) {
    let host = Host::serving_over(transport, name);
    for _ in 0..5 {
        let mut stream = host.connect();
        // Far more than hello reads, and more than all buffers hold.
        stream.write_all(b"bob\n").unwrap();
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&pattern(12 << 20)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let answer = read_to_end(&mut stream);
        assert_eq!(answer.len(), if name == "drop-input" { 100_000 } else { 11 }, "{name}");
        writing.join().unwrap();
    }
}

#[test]
fn a_finished_output_ends_at_once_and_input_goes_on() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "half-close");
        let mut stream = host.connect();
        assert_eq!(read_to_end(&mut stream), b"", "the end comes before anything was sent");
        stream.write_all(&pattern(1 << 20)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        host.logged(&["reason=error", "read 1048576 bytes"]);
    }
}

#[test]
fn a_reset_is_not_an_end() {
    // half-close reads to the end and reports success of reading; after a reset it must not.
    let host = Host::serving("half-close");
    let stream = host.connect();
    reset(stream);
    host.logged(&["connection failed", "reason=peer-reset"]);
    let log = host.whole_log();
    assert!(!log.contains("read 0 bytes"), "{log}");

    let host = Host::serving("input-end");
    let mut stream = host.connect();
    stream.write_all(b"some").unwrap();
    reset(stream);
    let line = host.logged(&["connection failed"]);
    assert!(line.contains("reason=peer-reset") && line.contains("err"), "{line}");

    assert_eq!(host.ask("all"), b"ok\n");
}

/// On Unix sockets, a peer that closes with unread bytes causes a reset.
#[test]
fn a_reset_of_a_unix_connection_is_not_an_end() {
    // It greets, waits for a line, and takes an end for an empty one.
    for late in ["accept", "first-byte"] {
        let host = Setup::serving_over(Transport::Unix, "speaks-first").option("--guest-start", late).start();
        let mut stream = host.connect();
        if late == "first-byte" {
            stream.write_all(b"no line yet").unwrap();
        }
        wait_for("a greeting in the client's buffer", || {
            (SockRef::from(&stream).peek(&mut [std::mem::MaybeUninit::uninit()]).unwrap() > 0).then_some(())
        });
        reset(stream);
        host.logged(&["connection failed", "reason=peer-reset"]);
    }
    let host = Host::serving_over(Transport::Unix, "input-end");
    assert_eq!(host.ask("all"), b"ok\n");
}

/// Closes so that the peer gets a reset: on Unix sockets, with unread bytes.
fn reset(stream: Stream) {
    if !matches!(stream, Stream::Unix(_)) {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(stream);
}

/// Writes to all connections until they take no more.
fn fill(streams: &mut [Stream]) {
    thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| fill_one(stream));
        }
    });
}

fn fill_one(stream: &mut Stream) {
    // On a slow machine a host that still reads may pause for longer than it needs for a block.
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let block = pattern(1 << 20);
    let mut written = 0;
    loop {
        match stream.write(&block) {
            Ok(count) => written += count,
            Err(error) => {
                assert!(
                    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
                    "{error}"
                );
                return;
            }
        }
        assert!(written < 256 << 20, "nothing holds the peer back");
    }
}

#[test]
fn a_guest_that_does_not_read_stops_its_peer() {
    Transport::ALL.into_iter().for_each(stops_its_peer);
}

fn stops_its_peer(transport: Transport) {
    let mut host = Host::serving_over(transport, "never-read");
    let before = host.status_kib("VmRSS");
    let mut streams: Vec<_> = (0..8).map(|_| host.connect()).collect();
    fill(&mut streams);
    let grown = host.status_kib("VmRSS").saturating_sub(before);
    assert!(grown < 8 * 1024, "8 connections cost {grown} KiB");
    drop(streams);
    // The guests wait for an hour; the second signal ends them.
    host.signal(nix::sys::signal::Signal::SIGTERM);
    host.logged(&["stopping"]);
    assert_eq!(host.terminate(), 1);
}

#[test]
fn a_peer_that_does_not_read_stops_its_guest() {
    for (transport, name) in [
        (Transport::Tcp, "flood"),
        (Transport::Tcp, "echo"),
        (Transport::Tcp, "echo-async"),
        (Transport::Unix, "flood"),
        (Transport::Unix, "echo"),
        (Transport::Unix, "echo-async"),
        (Transport::Tls, "flood"),
        (Transport::Tls, "echo"),
        (Transport::Tls, "echo-async"),
    ] {
        let host = Setup::serving_over(transport, name).option("--guest-cpu-time", "1s").start();
        let before = host.status_kib("VmRSS");
        let mut streams: Vec<_> = (0..8).map(|_| host.connect()).collect();
        if name == "flood" {
            // The first bytes prove that it runs.
            streams.iter_mut().for_each(|stream| stream.read_exact(&mut [0; 1024]).unwrap());
        } else {
            fill(&mut streams);
        }
        // Until then guests fill the buffers of the kernel.
        wait_for("connections that are held back and use less than a fifth of a CPU", || {
            let used = host.cpu_ticks();
            crate::harness::pace(Duration::from_secs(1), "CPU time is measured over a second");
            (host.cpu_ticks() - used < 20).then_some(())
        });
        let grown = host.status_kib("VmRSS").saturating_sub(before);
        assert!(grown < 16 * 1024, "{name}: 8 connections cost {grown} KiB");
        streams.into_iter().for_each(reset);
        wait_for("the end of every guest", || (host.log().matches("reason=peer-reset").count() >= 8).then_some(()));
        assert!(!host.whole_log().contains("reason=cpu-time"), "a guest that waits uses no CPU time");
    }
}

#[test]
fn a_slow_peer_gets_everything() {
    let host = Host::serving("drop-input");
    let mut stream = host.connect();
    SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut total = 0;
    let mut piece = [0; 997];
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            count => total += count,
        }
    }
    assert_eq!(total, 100_000);
}

/// A regression: bytes that the kernel had not taken at once were sent only when the guest came
/// back to its output.
#[test]
fn output_arrives_while_a_guest_waits_for_something_else() {
    let host = Host::serving("patient");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&host.addresses[0].tcp().into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let mut answer = vec![0; 200_000];
    stream.read_exact(&mut answer).unwrap();
    stream.write_all(b"thanks\n").unwrap();
    assert_eq!(read_to_end(&mut stream), b"you said: thanks\n");
}

/// The host closes a connection half a minute after its reply, even if the peer keeps sending.
#[test]
fn a_peer_that_floods_after_its_reply_is_closed() {
    let host = Host::serving("hello");
    let mut stream = host.connect();
    stream.write_all(b"bob\n").unwrap();
    let mut writer = stream.try_clone().unwrap();
    let flooding = thread::spawn(move || while writer.write_all(&[b'x'; 65536]).is_ok() {});
    assert_eq!(read_to_end(&mut stream), b"Hello bob!\n");
    flooding.join().unwrap();
}

#[test]
fn a_conversation_goes_back_and_forth() {
    for transport in Transport::ALL {
        let host = Host::serving_over(transport, "speaks-first");
        let mut stream = host.connect();
        assert_eq!(read_line(&mut stream), "ready\n");
        stream.write_all(b"well\n").unwrap();
        assert_eq!(read_line(&mut stream), "you said: well\n");
        assert_eq!(read_to_end(&mut stream), b"");
    }
}

/// A guest of WASI 0.3 may wait for input without reading it, cancel the wait, and pass the stream
/// on. The peer is silent until then: a wait that could not be cancelled would hold the guest until
/// a byte comes.
#[test]
fn a_cancelled_wait_for_input_blocks_and_loses_nothing() {
    let host = Host::serving("peek-async");
    for given_up in 1..=3 {
        let mut stream = host.connect();
        wait_for("a guest that gives up its wait", || {
            (host.log().matches("a read of nothing: Cancelled").count() == given_up).then_some(())
        });
        stream.write_all(b"well\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut stream), b"well\n");
    }
}
