//! Common crates for framing protocols work with the SDK: an HTTP parser, and codecs in the form of
//! `tokio-util`. The tests are here because in the SDK's workspace these crates would change the
//! features of its own dependencies.
#![cfg(not(target_family = "wasm"))]

use std::io::{self, BufRead, ErrorKind, Read, Write};

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec, LinesCodec};
use uninterruptible_guest::Connection;
use uninterruptible_guest::testing::Peer;

#[test]
fn httparse_finds_the_head_and_leaves_the_body() {
    let request = "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\n\r\n";
    let peer = request.as_bytes().chunks(7).fold(Peer::new(), Peer::sends);
    let answer = peer.meets(|mut connection: Connection| {
        let head = |bytes: &[u8]| -> io::Result<Option<(String, usize)>> {
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let mut request = httparse::Request::new(&mut headers);
            let status =
                request.parse(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
            let path = request.path.unwrap_or_default().to_owned();
            Ok(match status {
                httparse::Status::Complete(length) => Some((path, length)),
                httparse::Status::Partial => None,
            })
        };
        let path = connection.read_frame(1024, head)?.expect("a request");
        let mut body = [0; 4];
        connection.read_exact(&mut body)?;
        let next = connection.read_frame(1024, head)?.expect("a request");
        write!(connection, "{path} {} {next}", String::from_utf8_lossy(&body))
    });
    assert_eq!((answer.text().as_str(), answer.error), ("/p body /", None));
}

/// A codec has its own buffer. This loop, which fills it, is all the code between the two.
fn decode<D: Decoder<Error = E>, E: From<io::Error>>(
    connection: &mut Connection,
    codec: &mut D,
    buffer: &mut BytesMut,
) -> Result<Option<D::Item>, E> {
    loop {
        if let Some(item) = codec.decode(buffer)? {
            return Ok(Some(item));
        }
        let arrived = connection.fill_buf()?;
        if arrived.is_empty() {
            return codec.decode_eof(buffer);
        }
        buffer.extend_from_slice(arrived);
        let length = arrived.len();
        connection.consume(length);
    }
}

#[test]
fn codecs_decode_and_encode_over_a_connection() {
    let sent = b"\0\0\0\x03one\0\0\0\x05three";
    let peer = sent.chunks(2).fold(Peer::new(), Peer::sends);
    let answer = peer.meets(|mut connection: Connection| -> io::Result<()> {
        let (mut codec, mut buffer, mut out) = (LengthDelimitedCodec::new(), BytesMut::new(), BytesMut::new());
        while let Some(frame) = decode(&mut connection, &mut codec, &mut buffer)? {
            codec.encode(frame.freeze(), &mut out)?;
        }
        connection.write_all(&out)
    });
    assert_eq!((answer.bytes.as_slice(), answer.error), (sent.as_slice(), None));

    let answer = Peer::new().sends("a\nb").sends("c\n").meets(|mut connection: Connection| {
        let (mut codec, mut buffer) = (LinesCodec::new_with_max_length(100), BytesMut::new());
        while let Some(line) = decode(&mut connection, &mut codec, &mut buffer).map_err(|error| error.to_string())? {
            writeln!(connection, "{}", line.len()).map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(())
    });
    assert_eq!((answer.text().as_str(), answer.error), ("1\n2\n", None));
}
