//! Cases that a black-box test would meet only by chance.

use super::*;
use crate::wire::tls::{Acceptor, CertificateFiles, Settings, TicketKeys, Version};
use bytes::Bytes;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};
use std::{fs, os::unix::net::UnixStream, sync::Arc, thread, time::Duration};
use tokio::{runtime, time};

/// An acceptor with a certificate of its own, and a client that trusts it.
fn both_sides() -> (Acceptor, ClientConnection) {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = CertificateFiles { certificate: directory.path().join("pem"), key: directory.path().join("key") };
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let settings = Settings {
        certificates: vec![files],
        min_version: Version::Tls13,
        alpn: vec![],
        client_ca: None,
        handshake_timeout: Duration::from_secs(10),
    };
    let acceptor = Acceptor::load(&settings, &Arc::<TicketKeys>::default()).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    (acceptor, ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap())
}

/// A connection after its handshake, and its peer.
async fn connected() -> (Arc<Wire>, ClientConnection, UnixStream) {
    let (acceptor, mut client) = both_sides();
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let wire = Wire::new(near.into());
    let shaking = thread::spawn(move || {
        while client.is_handshaking() {
            client.complete_io(&mut &far).unwrap();
        }
        (client, far)
    });
    wire.secure(acceptor.session().unwrap()).await.unwrap();
    let (client, far) = shaking.join().unwrap();
    (wire, client, far)
}

/// Runs a future on a thread of its own, and fails if it keeps the thread.
fn in_time<F: Future<Output: Send>>(run: impl FnOnce() -> F + Send + 'static) -> F::Output
where
    F::Output: 'static,
{
    let (done, outcome) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        done.send(runtime.block_on(run())).unwrap();
    });
    outcome.recv_timeout(Duration::from_secs(30)).expect("the thread is not kept")
}

/// Regression: bytes encrypted for a peer that had gone were retried without end, and a guest that
/// waited for something else never ran.
#[test]
fn bytes_that_cannot_be_sent_are_not_retried_for_ever() {
    in_time(|| async {
        let (wire, _client, far) = connected().await;
        while wire.try_room().unwrap() {
            wire.write(Bytes::from(vec![b'x'; 64 << 10])).unwrap();
        }
        drop(far);
        time::timeout(Duration::from_millis(200), wire.tend()).await.unwrap_err();
        assert!(wire.broken());
    });
}

/// A reader that takes little at a time leaves the rest of a record in the session, where the
/// socket does not show it.
#[test]
fn decrypted_bytes_that_are_not_read_yet_are_readable() {
    in_time(|| async {
        let (wire, mut client, mut far) = connected().await;
        client.writer().write_all(b"abc").unwrap();
        client.write_tls(&mut far).unwrap();
        for expected in [b"a", b"b", b"c"] {
            time::timeout(Duration::from_secs(10), wire.readable()).await.unwrap();
            assert_eq!(wire.try_read(1).unwrap().unwrap(), &expected[..]);
        }
        assert_eq!(wire.try_read(1).unwrap(), None);
        client.send_close_notify();
        client.write_tls(&mut far).unwrap();
        wire.readable().await;
        assert_eq!(wire.try_read(1).unwrap().unwrap(), &b""[..]);
        assert!(!wire.broken());
    });
}

/// A peer may change keys after this side has ended its output. The answer is not sent, which is
/// not an error.
#[test]
fn a_change_of_keys_after_the_end_of_output_breaks_nothing() {
    in_time(|| async {
        let (wire, mut client, mut far) = connected().await;
        wire.finish_output();
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"still here").unwrap();
        while client.wants_write() {
            client.write_tls(&mut far).unwrap();
        }
        wire.readable().await;
        assert_eq!(wire.try_read(100).unwrap().unwrap(), &b"still here"[..]);
        assert!(!wire.broken());
    });
}
