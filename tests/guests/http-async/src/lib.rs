//! Answers HTTP requests on WASI 0.3. Each path tests one behaviour of the host.

use std::sync::atomic::{AtomicU32, Ordering};
use wasip3::{
    http::{
        client,
        types::{ErrorCode, Fields, Request, Response, Scheme},
    },
    wit_bindgen::{self, StreamResult},
    wit_future, wit_stream,
};

struct Guest;

wasip3::http::service::export!(Guest);

static REQUESTS: AtomicU32 = AtomicU32::new(0);

impl wasip3::exports::http::handler::Guest for Guest {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => Ok(whole(200, "hello from 0.3\n".to_owned())),
            "/count" => Ok(whole(200, format!("{}\n", REQUESTS.fetch_add(1, Ordering::Relaxed) + 1))),
            "/about" => Ok(whole(
                200,
                format!(
                    "scheme {:?}\nauthority {:?}\npath {target:?}\n",
                    request.get_scheme(),
                    request.get_authority()
                ),
            )),
            "/echo" => Ok(echo(request)),
            "/trap" => panic!("as asked"),
            "/error" => Err(ErrorCode::InternalError(Some("as asked".to_owned()))),
            "/part" => Ok(part()),
            "/unfinished" => Ok(unfinished(query)),
            "/ticks" => Ok(ticks(query)),
            "/past" => Ok(past()),
            "/forward" => forward(request, query).await,
            "/fetch" => Ok(fetch(query).await),
            _ => Ok(whole(404, "no such path\n".to_owned())),
        }
    }
}

fn whole(status: u16, text: String) -> Response {
    let (mut body, contents) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers);
    response.set_status_code(status).unwrap();
    wit_bindgen::spawn_local(async move {
        body.write_all(text.into_bytes()).await;
    });
    response
}

/// Sends back the body, a piece at a time, then the trailers.
fn echo(request: Request) -> Response {
    let (_, processed) = wit_future::new(|| Ok(()));
    let (mut input, trailers) = Request::consume_body(request, processed);
    let (mut output, contents) = wit_stream::new();
    let (trailers_out, trailers_in) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers_in);
    wit_bindgen::spawn_local(async move {
        loop {
            let (result, piece) = input.read(Vec::with_capacity(16 << 10)).await;
            output.write_all(piece).await;
            if !matches!(result, StreamResult::Complete(_)) {
                break;
            }
        }
        drop(output);
        let _ = trailers_out.write(trailers.await).await;
    });
    response
}

fn part() -> Response {
    let (mut body, contents) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers);
    wit_bindgen::spawn_local(async move {
        body.write_all(b"a part\n".to_vec()).await;
        panic!("in the middle");
    });
    response
}

/// Responses whose bodies do not match their heads, each in another way.
fn unfinished(how: &str) -> Response {
    let (mut body, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Ok(None));
    let headers = Fields::new();
    match how {
        "short" => headers.append("content-length", b"100").unwrap(),
        "full-error" => headers.append("content-length", b"7").unwrap(),
        "over" => headers.append("content-length", b"3").unwrap(),
        _ => {}
    }
    let contents = (how != "no-body").then_some(contents);
    let fails = !matches!(how, "short" | "over");
    let (response, _sent) = Response::new(headers, contents, trailers);
    wit_bindgen::spawn_local(async move {
        body.write_all(b"a part\n".to_vec()).await;
        drop(body);
        let end_of_it = if fails { Err(ErrorCode::InternalError(Some("as asked".to_owned()))) } else { Ok(None) };
        let _ = end.write(end_of_it).await;
    });
    response
}

/// A line every 20 ms, for ever, under this status.
fn ticks(status: &str) -> Response {
    let (mut body, contents) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(contents), trailers);
    response.set_status_code(status.parse().unwrap_or(200)).unwrap();
    wit_bindgen::spawn_local(async move {
        while body.write_all(b"tick\n".to_vec()).await.is_empty() {
            wasip3::clocks::monotonic_clock::wait_for(20_000_000).await;
        }
    });
    response
}

/// Whether waits for a time in the past are ready at the first poll.
fn past() -> Response {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };
    use wasip3::clocks::monotonic_clock::{now, wait_for, wait_until};
    let is_ready =
        |wait: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>| wait(&mut Context::from_waker(Waker::noop())).is_ready();
    let (mut long_ago, mut just_now, mut no_time) = (pin!(wait_until(0)), pin!(wait_until(now())), pin!(wait_for(0)));
    let ready = [
        is_ready(&mut |context| long_ago.as_mut().poll(context)),
        is_ready(&mut |context| just_now.as_mut().poll(context)),
        is_ready(&mut |context| no_time.as_mut().poll(context)),
    ];
    whole(200, format!("{ready:?}\n"))
}

/// Forwards the request with its body to the URL in the query, and returns the response.
async fn forward(request: Request, url: &str) -> Result<Response, ErrorCode> {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let method = request.get_method();
    let (_, processed) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, processed);
    let (onward, _sent) = Request::new(Fields::new(), Some(body), trailers, None);
    onward.set_method(&method).unwrap();
    onward.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).unwrap();
    onward.set_authority(Some(authority)).unwrap();
    onward.set_path_with_query(Some(path)).unwrap();
    client::send(onward).await
}

/// Requests the URL in the query, and answers with the result.
async fn fetch(url: &str) -> Response {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, trailers, None);
    request.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(path)).unwrap();
    match client::send(request).await {
        Err(code) => whole(502, format!("{code:?}\n")),
        Ok(response) => {
            let status = response.get_status_code();
            let (_, processed) = wit_future::new(|| Ok(()));
            let (body, _trailers) = Response::consume_body(response, processed);
            whole(status, String::from_utf8_lossy(&body.collect().await).into_owned())
        }
    }
}
