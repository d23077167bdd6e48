//! Greets by name: it answers `bob` and the end of the line, or of the input, with `Hello bob!`.
//!
//! Without a name the answer is `Hello world!`. A name is the line without the spaces around it. Of
//! a line longer than [`LONGEST_LINE`] only the beginning counts, since the peer must not decide
//! how much memory a guest uses.

use std::io::{self, BufRead, Read, Write};

use uninterruptible_guest::Connection;
use uninterruptible_guest_minimal as _;

/// In bytes, with the end of the line.
pub const LONGEST_LINE: u64 = 4096;

#[uninterruptible_guest::handler]
fn handle_request(mut connection: Connection) -> io::Result<()> {
    let mut line = Vec::new();
    (&mut connection).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let name = match line.trim_ascii() {
        [] => b"world",
        name => name,
    };
    connection.write_all(&[b"Hello ", name, b"!\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_LINE, handle_request};
    use uninterruptible_guest::testing::Peer;

    #[test]
    fn a_name_is_greeted() {
        for (said, answer) in [
            ("bob\n", "Hello bob!\n"),
            ("bob", "Hello bob!\n"),
            ("  bob the builder\r\n", "Hello bob the builder!\n"),
            ("Zoë\nand more", "Hello Zoë!\n"),
        ] {
            assert_eq!(Peer::new().sends(said).meets(handle_request).text(), answer, "{said:?}");
        }
    }

    #[test]
    fn without_a_name_the_world_is_greeted() {
        assert_eq!(Peer::new().meets(handle_request).text(), "Hello world!\n");
        assert_eq!(Peer::new().sends(" \t\r\n").meets(handle_request).text(), "Hello world!\n");
    }

    #[test]
    fn an_answer_does_not_wait_for_the_end_of_the_input() {
        assert_eq!(Peer::new().sends("bo").sends("b\n").stays_silent().meets(handle_request).text(), "Hello bob!\n");
    }

    #[test]
    fn an_endless_name_is_truncated() {
        let answer = Peer::new().sends("x".repeat(100_000)).meets(handle_request);
        assert_eq!(answer.bytes.len() as u64, LONGEST_LINE + "Hello !\n".len() as u64);
    }

    #[test]
    fn bytes_that_are_not_text_come_back_unchanged() {
        assert_eq!(Peer::new().sends(b"\xff\xfe\n").meets(handle_request).bytes, b"Hello \xff\xfe!\n");
    }

    #[test]
    fn a_reset_is_not_a_name() {
        let answer = Peer::new().sends("bo").resets("reset by peer").meets(handle_request);
        assert_eq!((answer.text().as_str(), answer.error.as_deref()), ("", Some("reset by peer")));
    }
}
