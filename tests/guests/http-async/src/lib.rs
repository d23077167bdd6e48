//! Answers HTTP requests on WASI 0.3. Each path does something that a host has to bear, or to do right.

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

/// Sends back what comes, a piece at a time, then the trailers.
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

/// Asks for the URL that the query is, and answers with what came of it.
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
