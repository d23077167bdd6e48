//! Sends back every byte that it receives, until the input ends.

use std::io;

use uninterruptible_guest::Connection;
use uninterruptible_guest_minimal as _;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let (input, output) = connection.halves();
    input.copy_to(output)?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::handle_request;
    use uninterruptible_guest::testing::Peer;

    #[test]
    fn every_byte_is_sent_back() {
        let bytes: Vec<u8> = (0..300_000).map(|index| (index % 251) as u8).collect();
        let answer = Peer::new().sends("a").sends(&bytes).sends("z").meets(handle_request);
        assert!(answer.bytes == [b"a", bytes.as_slice(), b"z"].concat());
        assert_eq!(answer.error, None);
    }

    #[test]
    fn an_empty_input_gets_an_empty_answer() {
        let answer = Peer::new().meets(handle_request);
        assert_eq!((answer.bytes, answer.error), (Vec::new(), None));
    }

    #[test]
    fn bytes_before_a_reset_are_sent_back_and_the_reset_is_reported() {
        let answer = Peer::new().sends("abc").sends("def").resets("reset by peer").meets(handle_request);
        assert_eq!((answer.text().as_str(), answer.error.as_deref()), ("abcdef", Some("reset by peer")));
    }

    #[test]
    fn a_peer_that_leaves_ends_the_guest() {
        let answer = Peer::new().sends("abc").sends("def").leaves_after(4).meets(handle_request);
        assert_eq!((answer.text().as_str(), answer.error.as_deref()), ("abcd", Some("the peer has gone")));
    }
}
