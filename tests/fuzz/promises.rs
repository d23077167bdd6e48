//! What parsers of bytes from strangers and operators promise for every input, one function a fuzz target of `tests/fuzz`. Each panics
//! where a promise is broken. Nothing of this is in a release: it is compiled for the fuzzer, and for the tests, which run it over the
//! fuzzer's seeds and over mutations of them.
#![expect(clippy::expect_used, reason = "a broken promise, or a machine without sockets, ends the fuzzer")]

use crate::{
    admin::{
        self,
        http::{Reach, serve},
        stream::Stream,
    },
    component::{Kind, cache::Known, contract::Declared},
    config::{Layers, cli},
    connection::{
        http::{
            framing::{Framing, Head, Length, Passed},
            syntax,
        },
        proxy_header::{self, Header},
    },
    handoff::message::Message,
    record::secret,
    system::kernel,
    wire::tls::pem::{self, Block},
};
use ::http::{Request, Version};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    fmt::Display,
    fs::File,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    pin::pin,
    str,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};
use twox_hash::XxHash3_128;
use wasmparser::{Validator, WasmFeatures};

#[cfg(test)]
mod tests;

/// The longest error message, in bytes.
const LONGEST_MESSAGE: usize = 6 << 10;

fn one_short_line(message: &impl Display) -> String {
    let message = message.to_string();
    assert!(message.len() <= LONGEST_MESSAGE, "a message of {} bytes", message.len());
    assert!(!message.contains(char::is_control), "control characters in {message:?}");
    message
}

/// A message of the handoff protocol is the same when it is encoded and decoded again.
pub fn handoff_message(bytes: &[u8]) {
    match Message::decode(bytes) {
        Ok(message) => {
            let again = Message::decode(&message.encode());
            assert_eq!(again.ok().as_ref(), Some(&message), "decoded, encoded and decoded again");
            assert!(message.descriptors() <= bytes.len(), "more descriptors than it has room to name");
        }
        Err(error) => drop(one_short_line(&error)),
    }
}

/// A PROXY header is recognised at its last byte and not before, whatever follows it.
pub fn proxy_header(bytes: &[u8]) {
    let decoded = proxy_header::decode(bytes);
    // Of a long one only some prefixes: each costs as much as the whole.
    let step = bytes.len() / 256 + 1;
    let earlier = (0..bytes.len()).filter(|length| length % step == 0 || bytes.len() - length < 32);
    let mut is_decided = false;
    for prefix in earlier.filter_map(|length| bytes.get(..length)) {
        let earlier = proxy_header::decode(prefix);
        assert!(!is_decided || earlier == decoded, "{} bytes, {earlier:?}, then {decoded:?}", prefix.len());
        is_decided |= earlier != Ok(None);
        if let Ok(Some((_, length))) = earlier {
            assert!(length <= prefix.len(), "{length} bytes of {}", prefix.len());
        }
    }
    assert!(!is_decided || decoded != Ok(None), "a shorter piece was decided");
    match decoded {
        Ok(Some((header, length))) => {
            assert!(length <= bytes.len() && length <= proxy_header::LONGEST, "{length} bytes");
            let [whole, cut] =
                [length, length - 1].map(|end| proxy_header::decode(bytes.get(..end).unwrap_or_default()));
            assert_eq!(whole, Ok(Some((header, length))), "exactly the header");
            assert_eq!(cut, Ok(None), "a header without its last byte");
            if let Header::Tcp { source, destination } = header {
                let line = format!(
                    "PROXY TCP{} {} {} {} {}\r\n",
                    if source.is_ipv4() { 4 } else { 6 },
                    source.ip(),
                    destination.ip(),
                    source.port(),
                    destination.port()
                );
                assert_eq!(proxy_header::decode(line.as_bytes()), Ok(Some((header, line.len()))), "{line:?}");
            }
        }
        Ok(None) => assert!(bytes.len() < proxy_header::LONGEST, "undecided after {} bytes", bytes.len()),
        Err(error) => drop(one_short_line(&error)),
    }
}

/// A PEM file is the same with other line ends, its blocks are the same when they are encoded and read again, and no error says
/// anything that could be part of a key.
pub fn pem(bytes: &[u8]) {
    let with_cr: Vec<u8> = bytes
        .iter()
        .flat_map(|&byte| if byte == b'\n' { &b"\r\n"[..] } else { std::slice::from_ref(&byte) }.to_vec())
        .collect();
    match (pem::blocks(bytes), pem::blocks(&with_cr)) {
        (Ok(blocks), Ok(others)) => {
            let told = |blocks: &[Block]| {
                blocks
                    .iter()
                    .map(|block| (block.kind, block.line, block.encrypted, block.der.to_vec()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(told(&blocks), told(&others), "with CR LF");
            assert!(blocks.is_sorted_by(|one, next| one.line < next.line), "in their order");
            for block in &blocks {
                let Some(text) = encoded(block) else { continue };
                let again = pem::blocks(text.as_bytes()).unwrap_or_default();
                let again: Vec<_> = again.iter().map(|block| (block.kind, block.encrypted, &block.der)).collect();
                assert_eq!(again, [(block.kind, block.encrypted, &block.der)], "{text}");
            }
        }
        (Err(fault), Err(other)) => {
            assert_eq!(fault, other, "with CR LF");
            let message = one_short_line(&fault);
            // The sentences about faults have no digits within long words; base64 has.
            let mut words =
                message.split(|character: char| !character.is_ascii_alphanumeric() && !"+/=".contains(character));
            assert!(
                !words.any(|word| word.len() >= 8 && word.contains(|character: char| character.is_ascii_digit())),
                "{message}"
            );
        }
        (one, other) => assert_eq!(one.err(), other.err(), "with CR LF"),
    }
}

/// A block as OpenSSL writes it; `None` for one of an unknown kind, of which nothing is kept.
fn encoded(block: &Block) -> Option<String> {
    const LINE: usize = 48;
    let label = block.kind.label()?;
    let header = if block.encrypted { "Proc-Type: 4,ENCRYPTED\n\n" } else { "" };
    let body: Vec<_> = block.der.chunks(LINE).map(base64).collect();
    Some(format!("-----BEGIN {label}-----\n{header}{}\n-----END {label}-----\n", body.join("\n")))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits =
            (0..3).fold(0_usize, |bits, index| bits << 8 | group.get(index).map_or(0, |&byte| usize::from(byte)));
        (0..4)
            .map(move |index| if index > group.len() { '=' } else { ALPHABET[bits >> (18 - 6 * index) & 63].into() })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// Each error about a configuration file is one short line that repeats nothing that looks like a secret.
pub fn configuration(bytes: &[u8]) {
    static TYPED: OnceLock<Option<cli::Arguments>> = OnceLock::new();
    let Some(typed) = TYPED.get_or_init(cli::nothing_typed) else { unreachable!("no option is required") };
    if let Err(error) = Layers::of(bytes, typed.clone()) {
        let message = one_short_line(&error);
        // Longer than any word of the messages themselves.
        const TELLING: usize = 20;
        let text = str::from_utf8(bytes).unwrap_or_default();
        let contents = text
            .split(|character: char| !character.is_ascii_alphanumeric() && character != '+')
            .filter(|word| secret::is_content(word));
        for content in contents {
            let mut pieces = (0..content.len() - TELLING).filter_map(|at| content.get(at..at + TELLING));
            // A key that is shown may have the same letters, and then they stand in the file twice.
            let repeated = |piece| message.contains(piece) && text.matches(piece).nth(1).is_none();
            assert!(!pieces.any(repeated), "{message} repeats a part of {content}");
        }
    }
}

/// Whatever a client sends to the admin endpoint, it gets one answer of HTTP/1.1, or none; and only a POST is a command.
pub fn admin_request(bytes: &[u8]) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let (mut client, endpoint) = UnixStream::pair().expect("sockets");
    endpoint.set_nonblocking(true).expect("a socket");
    // What the kernel does not take at once would wait for a reader.
    client.write_all(bytes.get(..64 << 10).unwrap_or(bytes)).expect("room in the socket");
    client.shutdown(Shutdown::Write).expect("a socket");
    let (commands, reached) = runtime.block_on(async {
        let (queue, mut inbox) = admin::open();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        let reached = Arc::new(AtomicBool::new(false));
        let stream = Stream::new(endpoint).expect("a socket");
        let serving = serve(stream, Reach::Machine, queue, Arc::clone(&reached), place);
        let mut commands = 0;
        let mut serving = pin!(serving);
        loop {
            tokio::select! {
                () = &mut serving => break,
                // Dropped, it is answered.
                _command = inbox.command() => commands += 1,
            }
        }
        (commands, reached.load(Ordering::Relaxed))
    });
    let mut answer = Vec::new();
    // A client that has sent too much is reset.
    client.read_to_end(&mut answer).ok();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
    assert!(reached || !answer.starts_with(b"HTTP/1.1 200"), "an answer without a request");
    assert!(commands <= usize::from(reached), "{commands} commands of one request");
    assert!(commands == 0 || find(bytes, b"POST").is_some(), "a command without a POST");
    let lower = bytes.to_ascii_lowercase();
    let ends = [b"\n\r\n".as_slice(), b"\n\n"].map(|end| find(&lower, end).unwrap_or(lower.len()));
    let head = lower.get(..ends[0].min(ends[1])).unwrap_or_default();
    assert!(commands == 0 || find(head, b"\norigin:").is_none(), "a command from a page");
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn panic_on(contradiction: &str) {
    assert!(contradiction.is_empty(), "{contradiction}");
}

/// An entry of the cache is read as it was written, and with one bit changed not at all. What stands behind the code is the same
/// when it is written and read again.
pub fn cache_entry(bytes: &[u8]) {
    if let Ok(behind) = undamaged(bytes) {
        let code = bytes.len() - behind.len() - 4 - 16;
        assert_eq!(entry(bytes.get(..code).unwrap_or_default(), &behind), bytes, "written again");
    }
    let (&code, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let (code, behind) = rest.split_at(rest.len().min(usize::from(code)));
    let mut whole = entry(code, behind);
    assert_eq!(undamaged(&whole).ok().as_deref(), Some(behind), "as it was written");
    let at = bytes.iter().fold(whole.len(), |at, &byte| at.wrapping_mul(31).wrapping_add(byte.into())) % whole.len();
    if let Some(byte) = whole.get_mut(at) {
        *byte ^= 1 << (at % 8);
    }
    assert!(undamaged(&whole).is_err(), "byte {at} is damaged");
    if let Ok(known) = serde_json::from_slice::<Known>(behind) {
        let again = serde_json::to_vec(&known).and_then(|text| serde_json::from_slice(&text));
        assert_eq!(again.ok().as_ref(), Some(&known), "read, written and read again");
    }
}

fn undamaged(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut file = File::from(memfd_create("entry", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    kernel::undamaged(&file, bytes.len() as u64)
}

fn entry(code: &[u8], behind: &[u8]) -> Vec<u8> {
    let mut entry = [code, behind, &(behind.len() as u32).to_le_bytes()].concat();
    let mut checksum = XxHash3_128::new();
    checksum.write(&entry);
    entry.extend(checksum.finish_128().to_le_bytes());
    entry
}

/// The declarations are found in every valid component and module, and each reason why a file is not a plugin is one short line.
pub fn plugin(bytes: &[u8]) {
    match Declared::by(bytes) {
        Ok(declared) => {
            for wanted in Kind::ALL.map(Some).into_iter().chain([None]) {
                match declared.contract(wanted) {
                    Ok(contract) => assert!(wanted.is_none_or(|wanted| wanted == contract.kind), "{contract}"),
                    Err(error) => drop(one_short_line(&error)),
                }
            }
            let again = serde_json::to_vec(&declared).and_then(|text| serde_json::from_slice(&text));
            assert_eq!(again.ok(), Some(declared), "written and read again");
        }
        Err(error) => {
            let message = one_short_line(&error);
            assert!(
                Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).is_err(),
                "valid, and {message}"
            );
        }
    }
}

/// HTTP/1 is passed on as it came, but for the CR that a line of a trailer section lacks, and in the same way in however many pieces
/// it comes; and no head makes the host's own checks panic.
pub fn http_framing(bytes: &[u8]) {
    let (messages, text) = passed_on(bytes, usize::MAX);
    let mut came = bytes.iter().peekable();
    for byte in &text {
        match came.peek() {
            Some(next) if *next == byte => drop(came.next()),
            _ => assert_eq!(*byte, b'\r', "something else was added"),
        }
    }
    assert_eq!(came.next(), None, "something was left out");
    for piece in [1, 2, 3, 61] {
        assert_eq!(passed_on(bytes, piece), (messages.clone(), text.clone()), "in pieces of {piece}");
    }
}

/// Where each head ended and whether it had a fragment, and all that was passed on, of bytes that came in pieces of one size. As the
/// library does it, each head is read, and tells what follows it.
fn passed_on(bytes: &[u8], piece: usize) -> (Vec<(usize, bool)>, Vec<u8>) {
    let head = Head::default();
    let mut framing = Framing::new(&head);
    // Since the end of the last head there is its body, and then the next.
    let (mut heads, mut text, mut last) = (Vec::new(), Vec::new(), (0, Length::Known(0)));
    let mut waiting = Vec::new();
    for piece in bytes.chunks(piece) {
        waiting.extend_from_slice(piece);
        while !waiting.is_empty() {
            let Passed { count, lacks_cr } = framing.pass(&waiting);
            assert!(count > 0 || lacks_cr, "nothing is passed on");
            text.extend(waiting.drain(..count));
            if lacks_cr {
                waiting.insert(0, b'\r');
            }
            if framing.is_behind_head() {
                let (end, length) = last;
                let behind = text.get(end..).unwrap_or_default();
                let Some(length) = without_body(behind, length).and_then(following) else { continue };
                heads.push((text.len(), head.has_fragment()));
                head.is_followed_by(length);
                last = (text.len(), length);
            }
        }
    }
    (heads, text)
}

/// What comes behind a body, where that is valid.
fn without_body(text: &[u8], length: Length) -> Option<&[u8]> {
    match length {
        Length::Known(length) => text.get(usize::try_from(length).ok()?..),
        Length::Chunked => {
            let mut rest = text;
            loop {
                let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
                    return None;
                };
                rest = rest.get(line..)?;
                if size == 0 {
                    break;
                }
                rest = rest.get(usize::try_from(size).ok()?..)?.strip_prefix(b"\r\n")?;
            }
            let mut trailers = [httparse::EMPTY_HEADER; 100];
            let Ok(httparse::Status::Complete((end, _))) = httparse::parse_headers(rest, &mut trailers) else {
                return None;
            };
            rest.get(end..)
        }
    }
}

/// What follows a whole head, where it is valid.
fn following(head: &[u8]) -> Option<Length> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(end) = parsed.parse(head).ok()? else {
        panic_on(&format!("the parser waits for more of {:?}", String::from_utf8_lossy(head)));
        return None;
    };
    assert_eq!(end, head.len(), "the parser has found another end of {:?}", String::from_utf8_lossy(head));
    let version = if parsed.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut request = Request::builder().method(parsed.method?).uri(parsed.path?).version(version);
    let mut length = Length::Known(0);
    for field in &*parsed.headers {
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            length = Length::Chunked;
        } else if field.name.eq_ignore_ascii_case("content-length") && length != Length::Chunked {
            let digits = str::from_utf8(field.value).unwrap_or_default();
            length = Length::Known(digits.parse().unwrap_or(0));
        }
        request = request.header(field.name, field.value);
    }
    // A refused request is the last of its connection, but what was read of it decides that, and not the framing.
    let refusal = request.body(()).ok().and_then(|request| syntax::refusal(&request));
    assert!(refusal.is_none_or(|status| status.is_client_error() || status.is_server_error()), "{refusal:?}");
    Some(length)
}
