//! Passes each connection on to an address, both ways at once: README.md describes how, and how the
//! end of one side reaches the other.
//!
//! It is a plugin of WASI 0.2, although it waits for two things at once: the SDK's `relay` waits
//! with one `poll` over both sockets. A proxy needs stability first, and the makers of the runtime
//! still call its WASI 0.3 experimental.

mod header;
mod options;

use options::Options;
use uninterruptible_guest::{Connection, Error, Outgoing, Relayed, relay};
use uninterruptible_guest_minimal as _;

#[uninterruptible_guest::handler]
fn handle_request(connection: Connection) -> Result<(), Error> {
    serve(connection, &Options::parse(std::env::args().skip(1))?)
}

fn serve(mut connection: Connection, options: &Options) -> Result<(), Error> {
    let target = &options.target;
    let mut upstream = Outgoing::connect(target, options.connect_timeout)
        .map_err(|error| Error::new(format!("cannot connect to {target}: {error}")))?;
    if options.proxy_header {
        use std::io::Write;
        let line = header::line(&connection.peer_address(), &connection.local_address());
        upstream.write_all(line.as_bytes()).map_err(|error| {
            Error::new(format!("{target} closed the connection before it took the header: {error}"))
        })?;
    }
    match relay(connection.halves(), upstream.halves()) {
        (Relayed::NotRead(error), _) => Err(Error::from(error)),
        (_, Relayed::NotRead(error)) => Err(Error::new(format!("the connection to {target} broke: {error}"))),
        (_, Relayed::NotWritten(error)) => Err(Error::from(error)),
        // The client has sent everything, so the connection ends well.
        (_, Relayed::Ended | Relayed::Abandoned) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{options::Options, serve};
    use uninterruptible_guest::testing::{Answer, Peer, Server};

    const TARGET: &str = "db.internal:5432";

    fn options(more: &[&str]) -> Options {
        Options::parse([TARGET].iter().chain(more).map(|word| (*word).to_owned())).unwrap()
    }

    fn pass(peer: Peer, server: &Server, more: &[&str]) -> Answer {
        peer.reaches(TARGET, server).meets(|connection| serve(connection, &options(more)))
    }

    #[test]
    fn both_directions_are_passed_on_with_their_ends() {
        let server = Server::new().sends("answer");
        let answer = pass(Peer::new().sends("question"), &server, &[]);
        assert_eq!(answer, Answer { bytes: b"answer".to_vec(), error: None });
        assert_eq!((server.got(), server.got_end()), (b"question".to_vec(), true));
    }

    #[test]
    fn a_header_goes_first() {
        let server = Server::new();
        pass(Peer::new().sends("question"), &server, &["--proxy-header"]);
        assert_eq!(server.got(), b"PROXY TCP4 127.0.0.1 127.0.0.1 40312 7000\r\nquestion");
    }

    #[test]
    fn errors_are_reported() {
        let refused = Peer::new().meets(|connection| serve(connection, &options(&[])));
        assert_eq!(refused.error.as_deref(), Some("cannot connect to db.internal:5432: connection refused"));
        let server = Server::new().sends("half").resets("connection reset");
        let answer = pass(Peer::new().stays_silent(), &server, &[]);
        assert_eq!(answer.text(), "half");
        assert_eq!(answer.error.as_deref(), Some("the connection to db.internal:5432 broke: connection reset"));
        let answer = pass(Peer::new().resets("reset by peer"), &Server::new().stays_silent(), &[]);
        assert_eq!(answer.error.as_deref(), Some("reset by peer"));
    }

    #[test]
    fn an_upstream_that_has_answered_may_stop_listening() {
        let server = Server::new().sends("enough").leaves_after(3);
        let answer = pass(Peer::new().sends("much too much"), &server, &[]);
        assert_eq!(answer, Answer { bytes: b"enough".to_vec(), error: None });
    }
}
