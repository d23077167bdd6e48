//! Answers HTTP requests. Each path tests one behaviour of the host.

use std::{
    io::{Read, Write},
    sync::atomic::{AtomicU32, Ordering},
};
use wasip2::http::{
    outgoing_handler,
    types::{
        ErrorCode, Fields, FutureTrailers, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest,
        OutgoingResponse, ResponseOutparam, Scheme,
    },
};

struct Guest;

wasip2::http::proxy::export!(Guest);

static REQUESTS: AtomicU32 = AtomicU32::new(0);

impl wasip2::exports::http::incoming_handler::Guest for Guest {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => whole(out, 200, "hello\n"),
            "/count" => whole(out, 200, &format!("{}\n", REQUESTS.fetch_add(1, Ordering::Relaxed) + 1)),
            "/about" => about(&request, out),
            "/echo" => echo(&request, out),
            "/sized" => sized(out, query),
            "/big" => big(out, query),
            "/length" => length(&request, out),
            "/early" => early(&request, out),
            "/trap" => panic!("as asked"),
            "/loop" => loop {
                std::hint::spin_loop();
            },
            "/allocate" => allocate(),
            "/nothing" => drop(out),
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("as asked".to_owned())))),
            "/informational" => respond(out, 101, &[]).map_or((), drop),
            "/exit" => std::process::exit(0),
            "/part" => {
                let body = respond(out, 200, &[]);
                write(body.as_ref(), b"a part\n");
                panic!("in the middle");
            }
            "/part-of-length" => {
                let body = respond(out, 200, &[("content-length", "100")]);
                write(body.as_ref(), b"a part\n");
                panic!("in the middle");
            }
            "/finished-then-trap" => {
                whole(out, 200, "all of it\n");
                panic!("after the end");
            }
            "/unfinished" => unfinished(out, query),
            "/ticks" => ticks(out, query),
            "/waits" => waits(&request, out),
            "/fields" => keep_fields(out, query),
            "/bodies" => keep_bodies(out, query),
            "/after" => {
                whole(out, 200, "done\n");
                eprintln!("after the response");
            }
            "/after-loop" => {
                whole(out, 200, "done\n");
                loop {
                    std::hint::spin_loop();
                }
            }
            "/never" => loop {
                eprintln!("no response will come");
                std::thread::sleep(std::time::Duration::from_secs(3600));
            },
            "/fetch" => fetch(out, query),
            "/no-content" => whole(out, 204, ""),
            _ => whole(out, 404, "no such path\n"),
        }
    }
}

fn fields(list: &[(&str, &str)]) -> Fields {
    let list: Vec<(String, Vec<u8>)> =
        list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&list).unwrap()
}

fn respond(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> Option<OutgoingBody> {
    let response = OutgoingResponse::new(fields(headers));
    response.set_status_code(status).unwrap();
    let body = response.body().ok();
    ResponseOutparam::set(out, Ok(response));
    body
}

fn write(body: Option<&OutgoingBody>, bytes: &[u8]) {
    body.unwrap().write().unwrap().write_all(bytes).unwrap();
}

fn whole(out: ResponseOutparam, status: u16, text: &str) {
    let body = respond(out, status, &[("content-type", "text/plain")]).unwrap();
    if !text.is_empty() {
        write(Some(&body), text.as_bytes());
    }
    OutgoingBody::finish(body, None).unwrap();
}

/// Responses whose bodies do not match their heads, each in another way.
fn unfinished(out: ResponseOutparam, how: &str) {
    let length = |length| [("content-length", length)];
    match how {
        "dropped" => write(respond(out, 200, &[]).as_ref(), b"a part\n"),
        "dropped-empty" => drop(respond(out, 200, &[])),
        "left-open" => {
            let body = respond(out, 200, &[]);
            write(body.as_ref(), b"a part\n");
            std::mem::forget(body);
        }
        "exit" => {
            let body = respond(out, 200, &[]);
            write(body.as_ref(), b"a part\n");
            std::process::exit(0);
        }
        "short" => {
            let body = respond(out, 200, &length("100"));
            write(body.as_ref(), b"a part\n");
            OutgoingBody::finish(body.unwrap(), None).unwrap_err();
        }
        "short-dropped" => write(respond(out, 200, &length("100")).as_ref(), b"a part\n"),
        "full-dropped" => write(respond(out, 200, &length("7")).as_ref(), b"a part\n"),
        "over" => {
            let body = respond(out, 200, &length("3"));
            let written = body.as_ref().unwrap().write().unwrap().write_all(b"a part\n");
            drop((body, written));
        }
        "no-body" => {
            let response = OutgoingResponse::new(fields(&length("100")));
            ResponseOutparam::set(out, Ok(response));
        }
        _ => whole(out, 404, "no such way\n"),
    }
}

/// A line every 20 ms, for ever, under this status.
fn ticks(out: ResponseOutparam, status: &str) {
    let body = respond(out, status.parse().unwrap_or(200), &[]).unwrap();
    let mut output = body.write().unwrap();
    // Until the client has gone.
    while output.write_all(b"tick\n").is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(output);
    OutgoingBody::finish(body, None).unwrap();
}

/// The facts about a request, a line each.
fn about(request: &IncomingRequest, out: ResponseOutparam) {
    let mut text = format!(
        "method {:?}\nscheme {:?}\nauthority {:?}\npath {:?}\n",
        request.method(),
        request.scheme(),
        request.authority(),
        request.path_with_query()
    );
    for (name, value) in request.headers().entries() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    whole(out, 200, &text);
}

/// Sends back the body, a piece at a time, then the trailers, with one more.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let answer = respond(out, 200, &[("trailer", "x-echoed, x-sum")]).unwrap();
    let question = request.consume().unwrap();
    {
        let (mut input, mut output) = (question.stream().unwrap(), answer.write().unwrap());
        let mut piece = [0; 16 << 10];
        loop {
            let count = Read::read(&mut input, &mut piece).unwrap();
            if count == 0 {
                break;
            }
            output.write_all(&piece[..count]).unwrap();
        }
    }
    let trailers = trailers(question);
    trailers.append("x-echoed", b"yes").unwrap();
    OutgoingBody::finish(answer, Some(trailers)).unwrap();
}

fn trailers(body: IncomingBody) -> Fields {
    let future: FutureTrailers = IncomingBody::finish(body);
    future.subscribe().block();
    let trailers = future.get().unwrap().unwrap().unwrap();
    trailers.map_or_else(Fields::new, |trailers| trailers.clone())
}

fn sized(out: ResponseOutparam, length: &str) {
    let count: usize = length.parse().unwrap();
    let body = respond(out, 200, &[("content-length", length)]).unwrap();
    write(Some(&body), &vec![b'x'; count]);
    OutgoingBody::finish(body, None).unwrap();
}

/// This many pieces of 64 KiB.
fn big(out: ResponseOutparam, count: &str) {
    let body = respond(out, 200, &[]).unwrap();
    {
        let mut output = body.write().unwrap();
        for _ in 0..count.parse().unwrap() {
            output.write_all(&[b'x'; 64 << 10]).unwrap();
        }
    }
    OutgoingBody::finish(body, None).unwrap();
}

/// The length of the request's body.
fn length(request: &IncomingRequest, out: ResponseOutparam) {
    let question = request.consume().unwrap();
    let mut input = question.stream().unwrap();
    let (mut piece, mut total) = ([0; 16 << 10], 0);
    loop {
        match Read::read(&mut input, &mut piece).unwrap() {
            0 => break,
            count => total += count,
        }
    }
    whole(out, 200, &format!("{total}\n"));
}

/// The length of the request's body, with a pollable kept for each byte, as some runtimes keep one
/// for each piece.
fn waits(request: &IncomingRequest, out: ResponseOutparam) {
    let question = request.consume().unwrap();
    let mut input = question.stream().unwrap();
    let (mut kept, mut total) = (Vec::new(), 0);
    let mut piece = [0; 16 << 10];
    loop {
        match Read::read(&mut input, &mut piece).unwrap() {
            0 => break,
            count => {
                total += count;
                kept.extend((0..count).map(|_| input.subscribe()));
            }
        }
    }
    kept.clear();
    whole(out, 200, &format!("{total}\n"));
}

/// Keeps this many collections of fields, each of the largest size, and answers how many it got.
fn keep_fields(out: ResponseOutparam, count: &str) {
    let value = vec![b'x'; 60 << 10];
    let mut kept = Vec::new();
    for _ in 0..count.parse().unwrap() {
        let fields = Fields::new();
        fields.append("x", &value).unwrap();
        kept.push(fields);
    }
    let large = kept.len();
    whole(out, 200, &format!("{large}\n"));
}

/// Keeps this many bodies of requests that it never sends.
fn keep_bodies(out: ResponseOutparam, count: &str) {
    let requests: Vec<OutgoingRequest> =
        (0..count.parse().unwrap()).map(|_| OutgoingRequest::new(Fields::new())).collect();
    let bodies: Vec<OutgoingBody> = requests.iter().map(|request| request.body().unwrap()).collect();
    whole(out, 200, &format!("{}\n", bodies.len()));
}

/// Begins the response before it has read the request.
fn early(request: &IncomingRequest, out: ResponseOutparam) {
    let answer = respond(out, 200, &[]).unwrap();
    write(Some(&answer), b"begun\n");
    let question = request.consume().unwrap();
    let mut rest = Vec::new();
    question.stream().unwrap().read_to_end(&mut rest).unwrap();
    OutgoingBody::finish(answer, None).unwrap();
}

fn allocate() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
    }
}

/// Requests the URL in the query, and answers with the result.
fn fetch(out: ResponseOutparam, url: &str) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(path)).unwrap();
    let answer = outgoing_handler::handle(request, None).and_then(|future| {
        future.subscribe().block();
        future.get().unwrap().unwrap()
    });
    match answer {
        Err(code) => whole(out, 502, &format!("{code:?}\n")),
        Ok(answer) => {
            let body = answer.consume().unwrap();
            let mut text = String::new();
            body.stream().unwrap().read_to_string(&mut text).unwrap();
            whole(out, answer.status(), &text);
        }
    }
}
