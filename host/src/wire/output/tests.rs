//! What leaves a wire, and when.

use super::*;
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    pin::pin,
    sync::Arc,
};
use tokio::runtime;

fn connected() -> (Arc<Wire>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    (Wire::new(near.into()), far)
}

/// Runs a test on a runtime that can watch a wire. The reactor has polled it before anything is
/// written.
fn with_a_wire(test: impl AsyncFnOnce(Arc<Wire>, UnixStream)) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (wire, far) = connected();
        wire.writable().await;
        test(wire, far).await;
    });
}

/// The bytes that have arrived; `None` if nothing has, empty at the end.
fn arrived(far: &mut UnixStream) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 1 << 20];
    match far.read(&mut buffer) {
        Ok(count) => {
            buffer.truncate(count);
            Some(buffer)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// What the host does when the guest waits.
fn waits(wire: &Wire) {
    let mut tending = pin!(wire.tend());
    assert!(tending.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
}

#[test]
fn pieces_go_out_together_when_the_guest_waits() {
    with_a_wire(async |wire, mut far| {
        wire.write(Bytes::from_static(b"one ")).unwrap();
        assert_eq!(wire.try_write(b"two").unwrap(), Some(3));
        assert!(wire.try_room().unwrap(), "there is room for more");
        assert_eq!(arrived(&mut far), None);
        waits(&wire);
        assert_eq!(arrived(&mut far).unwrap(), b"one two");
    });
}

#[test]
fn the_last_bytes_go_out_with_the_end() {
    with_a_wire(async |wire, mut far| {
        wire.write(Bytes::from_static(b"last")).unwrap();
        wire.finish_output();
        assert_eq!(arrived(&mut far).unwrap(), b"last");
        assert_eq!(arrived(&mut far).unwrap(), b"");
    });
}

#[test]
fn little_output_is_held_back() {
    with_a_wire(async |wire, mut far| {
        let piece = vec![b'x'; HELD_BACK / 2];
        for _ in 0..3 {
            assert_eq!(wire.try_write(&piece).unwrap(), Some(piece.len()));
        }
        assert_eq!(arrived(&mut far).unwrap().len(), HELD_BACK);
        // In the order in which they were written.
        let large = vec![b'y'; HELD_BACK + 1];
        assert_eq!(wire.try_write(&large).unwrap(), Some(large.len()));
        let arrived = arrived(&mut far).unwrap();
        assert!(arrived.starts_with(&piece) && arrived.ends_with(&large));
        assert_eq!(arrived.len(), piece.len() + large.len());
    });
}

#[test]
fn bytes_that_the_kernel_does_not_take_are_sent_later() {
    with_a_wire(async |wire, mut far| {
        let (mut sent, mut received) = (0, 0);
        while wire.try_room().unwrap() {
            wire.write(Bytes::from(vec![b'x'; 64 << 10])).unwrap();
            sent += 64 << 10;
        }
        wire.finish_output();
        while let Some(bytes) = arrived(&mut far) {
            received += bytes.len();
        }
        assert!(received < sent, "the kernel has taken all {sent} bytes");
        let tending = async { wire.tend().await };
        let reading = async {
            loop {
                match arrived(&mut far) {
                    Some(bytes) if bytes.is_empty() => return,
                    Some(bytes) => received += bytes.len(),
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::select! {
            never = tending => match never {},
            () = reading => {}
        }
        assert_eq!(received, sent);
    });
}

#[test]
fn the_next_write_reports_a_peer_that_is_gone() {
    with_a_wire(async |wire, mut far| {
        wire.write(Bytes::from_static(b"into the void")).unwrap();
        far.write_all(b"unread").unwrap();
        drop(far);
        waits(&wire);
        assert!(wire.broken());
        assert_eq!(wire.write(Bytes::from_static(b"more")).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_permit_holds_when_the_room_is_gone() {
    with_a_wire(async |wire, _far| {
        wire.write(Bytes::from_static(b"held back")).unwrap();
        let permitted = wire.permit().unwrap();
        assert_eq!(permitted, CHUNK - 9);
        // As if other bytes had filled the kernel's buffer.
        while wire.send(&[b'x'; 4096]).unwrap().is_some() {}
        wire.release();
        assert!(!wire.try_room().unwrap());
        assert_eq!(wire.take_permit().unwrap(), permitted);
        wire.write(Bytes::from(vec![b'x'; permitted])).unwrap();
        assert!(wire.state().unsent.len() <= CHUNK);
        assert_eq!(wire.take_permit().unwrap(), 0);
    });
}

#[test]
fn kept_bytes_are_sent_even_if_the_guest_does_not_write_again() {
    with_a_wire(async |wire, mut far| {
        while wire.send(&[b'x'; 4096]).unwrap().is_some() {}
        let mut tending = pin!(wire.tend());
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(tending.as_mut().poll(&mut context).is_pending());
        assert_eq!(wire.try_write(b"first").unwrap(), Some(5));
        // Too much to be held back after the first, so it is refused and the guest gives up.
        assert_eq!(wire.try_write(&[b'y'; HELD_BACK]).unwrap(), None);
        let reading = async {
            let mut all = Vec::new();
            while !all.ends_with(b"first") {
                match arrived(&mut far) {
                    Some(bytes) => all.extend(bytes),
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::select! {
            never = tending => match never {},
            () = reading => {}
        }
    });
}
