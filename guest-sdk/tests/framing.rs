//! Messages from a connection's bytes, by `read_frame`. `plugins/echo` tests it with parsers and
//! codecs of other crates.
#![cfg(not(target_family = "wasm"))]

use std::io::{self, ErrorKind, Read, Write};

use uninterruptible_guest::testing::Peer;
use uninterruptible_guest::{Connection, asynchronous};

/// A line, without its end.
fn line(bytes: &[u8]) -> io::Result<Option<(String, usize)>> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    Ok(Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), end + 1)))
}

#[test]
fn messages_are_found_wherever_they_were_cut() {
    let text = "one\ntwo\n\nfour\nbody";
    for size in 1..=text.len() {
        let peer = || text.as_bytes().chunks(size).fold(Peer::new(), Peer::sends);
        let answer = peer().meets(|mut connection: Connection| {
            for _ in 0..4 {
                let message = connection.read_frame(5, line)?.expect("a message");
                write!(connection, "<{message}>")?;
            }
            let mut rest = String::new();
            connection.read_to_string(&mut rest)?;
            connection.write_all(rest.as_bytes())
        });
        assert_eq!((answer.text().as_str(), answer.error), ("<one><two><><four>body", None), "{size}");
        let answer = peer().meets_async(async |mut connection: asynchronous::Connection| {
            for _ in 0..4 {
                let message = connection.read_frame(5, line).await?.expect("a message");
                write!(connection, "<{message}>").await?;
            }
            let mut rest = Vec::new();
            connection.read_to_end(&mut rest).await?;
            connection.write_all(&rest).await
        });
        assert_eq!((answer.text().as_str(), answer.error), ("<one><two><><four>body", None), "{size}");
    }
}

#[test]
fn an_end_a_half_message_and_a_too_long_one_differ() {
    for (peer, expected) in [
        (Peer::new(), Ok(None)),
        (Peer::new().sends("a\n"), Ok(Some("a".to_owned()))),
        (Peer::new().sends("abc"), Err(ErrorKind::UnexpectedEof)),
        (Peer::new().sends("abc").sends("d\n"), Err(ErrorKind::InvalidData)),
        (Peer::new().sends("abcdefgh\n"), Err(ErrorKind::InvalidData)),
        (Peer::new().sends("a").resets("reset by peer"), Err(ErrorKind::ConnectionReset)),
    ] {
        peer.meets(|mut connection: Connection| {
            assert_eq!(connection.read_frame(4, line).map_err(|error| error.kind()), expected);
            io::Result::Ok(())
        });
    }
    for (peer, expected) in [
        (Peer::new(), Ok(None)),
        (Peer::new().sends("abc"), Err(ErrorKind::UnexpectedEof)),
        (Peer::new().sends("abc").pauses().sends("d\n"), Err(ErrorKind::InvalidData)),
        (Peer::new().sends("a").resets("reset by peer"), Err(ErrorKind::ConnectionReset)),
    ] {
        peer.meets_async(async |mut connection: asynchronous::Connection| {
            assert_eq!(connection.read_frame(4, line).await.map_err(|error| error.kind()), expected);
            io::Result::Ok(())
        });
    }
}

#[test]
fn a_parser_may_return_errors_of_the_handlers_type() {
    #[derive(Debug)]
    struct Refused(String);
    impl From<io::Error> for Refused {
        fn from(error: io::Error) -> Self {
            Self(error.to_string())
        }
    }
    let answer = Peer::new().sends("?").meets(|mut connection: Connection| {
        let parse = |bytes: &[u8]| -> Result<Option<((), usize)>, Refused> { Err(Refused(format!("{bytes:?}"))) };
        connection.read_frame(100, parse).map(drop).map_err(|Refused(message)| message)
    });
    assert_eq!(answer.error.as_deref(), Some("[63]"));
}

#[test]
fn a_draining_handler_sees_whether_a_message_has_arrived() {
    for (peer, arrived) in [
        (Peer::new().sends("a").sends("b").drains().stays_silent(), true),
        (Peer::new().sends("ab").drains().stays_silent(), true),
        (Peer::new().sends("a").drains().stays_silent(), false),
        (Peer::new().sends("a").drains(), true),
    ] {
        peer.meets(|mut connection: Connection| {
            connection.read_exact(&mut [0])?;
            assert_eq!(connection.has_arrived(), arrived);
            io::Result::Ok(())
        });
    }
}
