//! The connection of a 0.2 plugin, over a stand-in that is as strict as the host.
#![cfg(not(target_family = "wasm"))]

use std::io::{self, BufRead, ErrorKind, Read, Write};

use uninterruptible_guest::testing::{Facts, Peer};
use uninterruptible_guest::{Connection, Error, Ready};

#[test]
fn a_line_is_read_across_arrivals() {
    let handler = |mut connection: Connection| -> io::Result<()> {
        let mut lines = String::new();
        connection.read_line(&mut lines)?;
        lines.push('|');
        connection.read_to_string(&mut lines)?;
        connection.write_all(lines.as_bytes())
    };
    let answer = Peer::new().sends("fir").sends("st\nse").sends("cond").meets(handler);
    assert_eq!(answer.text(), "first\n|second");
    assert_eq!(answer.error, None);
}

#[test]
fn a_reset_is_an_error_on_every_read() {
    let mut kinds = Vec::new();
    Peer::new().sends("half").resets("reset by peer").meets(|mut connection: Connection| {
        let mut bytes = Vec::new();
        for _ in 0..3 {
            kinds.push(connection.read_to_end(&mut bytes).map_err(|error| (error.kind(), error.to_string())));
        }
        assert_eq!(bytes, b"half");
        io::Result::Ok(())
    });
    let reset = || Err((ErrorKind::ConnectionReset, "reset by peer".to_owned()));
    assert_eq!(kinds, [reset(), reset(), reset()]);
}

#[test]
fn a_reset_while_copying_is_an_error_and_stays_one() {
    let answer = Peer::new().sends("a").sends("b").resets("timed out").meets(|mut connection: Connection| {
        let (input, output) = connection.halves();
        let error = input.copy_to(output).map_or_else(|error| error.kind(), |_| ErrorKind::Other);
        assert_eq!(error, ErrorKind::ConnectionReset);
        input.copy_to(output).map(drop)
    });
    assert_eq!(answer.text(), "ab");
    assert_eq!(answer.error.as_deref(), Some("timed out"));
}

#[test]
fn writes_of_every_size_arrive_whole() {
    for size in [0, 1, 4095, 4096, 4097, 64 * 1024, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        let answer = Peer::new().meets(|mut connection: Connection| connection.write_all(&bytes));
        assert_eq!(answer.error, None, "{size}");
        assert!(answer.bytes == bytes, "{size}");
    }
}

#[test]
fn formatted_text_of_every_length_arrives_whole() {
    for length in [0, 1, 1023, 1024, 1025, 10_000] {
        let text = "é".repeat(length);
        let answer = Peer::new().meets(|mut connection: Connection| write!(connection, "<{text}{}>", length));
        assert_eq!(answer.text(), format!("<{text}{length}>"));
    }
}

#[test]
fn a_peer_that_leaves_breaks_the_pipe() {
    let answer = Peer::new().leaves_after(100_000).meets(|mut connection: Connection| {
        loop {
            match connection.write_all(&[b'x'; 10_000]) {
                Ok(()) => {}
                Err(error) => return Err::<(), _>(format!("{:?}", error.kind())),
            }
        }
    });
    assert_eq!(answer.bytes.len(), 100_000);
    assert_eq!(answer.error.as_deref(), Some("BrokenPipe"));
}

#[test]
fn copying_includes_bytes_read_ahead() {
    let answer = Peer::new().sends("line\nrest ").sends("and more").meets(|mut connection: Connection| {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let (input, output) = connection.halves();
        let copied = input.copy_to(output)?;
        assert_eq!(copied, 13);
        io::Result::Ok(())
    });
    assert_eq!(answer.text(), "rest and more");
}

#[test]
fn a_finished_output_leaves_the_input_readable() {
    let answer = Peer::new().sends("still here").meets(|mut connection: Connection| {
        connection.write_all(b"bye")?;
        connection.finish()?;
        connection.finish()?;
        let kind = connection.write_all(b"!").map_or_else(|error| error.kind(), |()| ErrorKind::Other);
        assert_eq!(kind, ErrorKind::BrokenPipe);
        let mut rest = String::new();
        connection.read_to_string(&mut rest)?;
        assert_eq!(rest, "still here");
        io::Result::Ok(())
    });
    assert_eq!((answer.text().as_str(), answer.error), ("bye", None));
}

#[test]
fn the_halves_are_independent() {
    let answer = Peer::new().sends("abc").meets(|connection: Connection| {
        let (facts, mut input, output) = connection.split();
        drop(output);
        let mut text = String::new();
        input.read_to_string(&mut text)?;
        Err::<(), Error>(Error::new(format!("{} from {}", text, facts.peer_address())))
    });
    assert_eq!(answer.error.as_deref(), Some("abc from tcp://127.0.0.1:40312"));
}

#[test]
fn an_error_includes_its_causes() {
    let handler = |_: Connection| -> Result<(), Error> {
        Err(io::Error::other(Box::<dyn std::error::Error + Send + Sync>::from("disk full")))?;
        Ok(())
    };
    assert_eq!(Peer::new().meets(handler).error.as_deref(), Some("disk full"));
    let handler =
        |_: Connection| -> Result<(), Error> { Err("x".parse::<u8>().map_or_else(Error::from, |_| Error::new(""))) };
    assert_eq!(Peer::new().meets(handler).error.as_deref(), Some("invalid digit found in string"));
}

#[test]
fn a_drain_is_noticed_between_two_messages() {
    let handler = |mut connection: Connection| -> io::Result<()> {
        assert!(!connection.is_draining());
        let mut line = String::new();
        while connection.ready() == Ready::Input {
            line.clear();
            if connection.read_line(&mut line)? == 0 {
                return Ok(());
            }
            write!(connection, "got {line}")?;
        }
        assert!(connection.is_draining());
        connection.write_all(b"bye\n")
    };
    assert_eq!(
        Peer::new().sends("a\n").sends("b\n").drains().stays_silent().meets(handler).text(),
        "got a\ngot b\nbye\n"
    );
    assert_eq!(Peer::new().sends("a\n").meets(handler).text(), "got a\n");
}

#[test]
#[should_panic(expected = "the peer stays silent")]
fn an_endless_wait_fails_the_test() {
    Peer::new().stays_silent().meets(|mut connection: Connection| connection.read_to_end(&mut Vec::new()).map(drop));
}

#[test]
fn facts_are_those_of_the_test() {
    let facts = Facts {
        id: "7".to_owned(),
        tls_version: Some("TLSv1.3".to_owned()),
        tls_server_name: Some("example.org".to_owned()),
        tls_alpn: Some(b"h2".to_vec()),
        tls_peer_certificates: vec![vec![1, 2], vec![3]],
        ..Facts::default()
    };
    let expected = facts.clone();
    Peer::new().known_by(facts).meets(|connection: Connection| {
        let found = Facts {
            id: connection.id(),
            peer_address: connection.peer_address(),
            local_address: connection.local_address(),
            listener: connection.listener(),
            tls_version: connection.tls_version(),
            tls_server_name: connection.tls_server_name(),
            tls_alpn: connection.tls_alpn(),
            tls_peer_certificates: connection.tls_peer_certificates(),
        };
        assert_eq!(found, expected);
        io::Result::Ok(())
    });
}
