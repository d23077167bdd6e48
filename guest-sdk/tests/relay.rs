//! Connections that a handler makes, and passing bytes both ways, over a stand-in that is as strict as the host.
#![cfg(not(target_family = "wasm"))]

use std::io::{self, Read, Write};
use std::time::Duration;

use uninterruptible_guest::testing::{Answer, Peer, Server};
use uninterruptible_guest::{Connection, Outgoing, Relayed, relay};

const ADDRESS: &str = "server:1";

fn proxy(mut connection: Connection) -> Result<(), String> {
    let mut server = Outgoing::connect(ADDRESS, Duration::from_secs(1)).map_err(|error| error.to_string())?;
    match relay(connection.halves(), server.halves()) {
        (Relayed::Ended, Relayed::Ended) => Ok(()),
        outcome => Err(format!("{outcome:?}")),
    }
}

fn pass(peer: Peer, server: &Server) -> Answer {
    peer.reaches(ADDRESS, server).meets(proxy)
}

#[test]
fn both_directions_arrive_whole_and_end_separately() {
    let bytes: Vec<u8> = (0..300_000).map(|index| (index % 251) as u8).collect();
    let server = Server::new().sends("hello ").sends(&bytes);
    let answer = pass(Peer::new().sends(&bytes).sends("end"), &server);
    assert!(answer.error.is_none() && answer.bytes == [b"hello ", bytes.as_slice()].concat());
    assert!(server.got() == [bytes.as_slice(), b"end"].concat() && server.got_end());
}

#[test]
fn bytes_read_before_are_passed_on() {
    let server = Server::new();
    Peer::new().sends("line\nrest").reaches(ADDRESS, &server).meets(|mut connection: Connection| {
        io::BufRead::read_line(&mut connection, &mut String::new()).map_err(|error| error.to_string())?;
        proxy(connection)
    });
    assert_eq!(server.got(), b"rest");
}

#[test]
fn a_reset_ends_both_directions_and_is_reported() {
    let server = Server::new().sends("half").resets("reset by the server");
    let answer = pass(Peer::new().sends("ask").stays_silent(), &server);
    assert_eq!(answer.text(), "half");
    let error = answer.error.unwrap();
    assert!(error.contains("Abandoned, NotRead") && error.contains("reset by the server"), "{error}");

    let server = Server::new().stays_silent();
    let error = pass(Peer::new().sends("ask").resets("reset by peer"), &server).error.unwrap();
    assert!(error.contains("NotRead") && error.contains("reset by peer") && error.contains("Abandoned"), "{error}");
    assert!(server.got() == b"ask" && server.got_end());
}

#[test]
fn a_receiver_that_has_gone_can_still_send() {
    let server = Server::new().sends("answer").leaves_after(2);
    let answer = pass(Peer::new().sends("a long question"), &server);
    assert_eq!(answer.text(), "answer");
    assert!(answer.error.unwrap().contains("(NotWritten"));
}

#[test]
fn an_outgoing_connection_works_like_any_other() {
    let server = Server::new().sends("pong\nmore");
    let answer = Peer::new().reaches(ADDRESS, &server).meets(|mut connection: Connection| {
        let mut outgoing = Outgoing::connect(ADDRESS, Duration::from_secs(1))?;
        writeln!(outgoing, "ping {}", 1)?;
        outgoing.flush()?;
        outgoing.finish()?;
        let mut text = String::new();
        outgoing.read_to_string(&mut text)?;
        let again = Outgoing::connect(ADDRESS, Duration::from_secs(1))
            .map_or_else(|error| error.kind(), |_| io::ErrorKind::Other);
        write!(connection, "{text} {again:?}")
    });
    assert_eq!((answer.text().as_str(), answer.error), ("pong\nmore ConnectionRefused", None));
    assert!(server.got() == b"ping 1\n" && server.got_end());
}
