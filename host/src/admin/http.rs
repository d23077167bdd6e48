//! One request at the endpoint: its command or view, and the answer. No error of it leaves this
//! room.
//!
//! Everything is bounded: the head of a request, and the time for a request and for its answer. The
//! body of a request is not read. Requests that a foreign page can make a browser send are
//! rejected: those to a name that is not this machine's (DNS rebinding), and commands that come
//! from a page.

use super::{
    command::{Answer, Caller, Command, Outcome, Until, Verb},
    metrics, page,
    queue::Queue,
    stream::Stream,
};
use crate::record::log;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{self, Instant},
};
use tracing::{debug, info};

/// The time for the head of a request, and for the client to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

const MOST_HEADERS: usize = 64;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// No script, no foreign resource, no frame, and no cache.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
];

/// A request, whose body is not read.
type AdminRequest = Request<Incoming>;

type AdminResponse = Response<Full<Bytes>>;

/// Which clients can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The user of the process, and root.
    Owner,
    /// Every program on this machine, browsers included.
    Machine,
}

/// Serves one request.
pub(crate) async fn serve(
    stream: Stream,
    reach: Reach,
    queue: Queue,
    asked: Arc<AtomicBool>,
    place: OwnedSemaphorePermit,
) {
    let (deadline, due) = watch::channel(Some(Instant::now() + PATIENCE));
    let service = service_fn(async |request: AdminRequest| {
        asked.store(true, Ordering::Relaxed);
        // A restart may take long.
        deadline.send_replace(None);
        let answer = answer(&request, reach, &queue).await;
        deadline.send_replace(Some(Instant::now() + PATIENCE));
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        // A client may close its side once it has sent the request.
        .half_close(true)
        .title_case_headers(true)
        .header_read_timeout(None)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(stream.clone(), service);
    tokio::select! {
        served = connection => match served {
            Ok(()) => {}
            Err(error) if error.is_parse() => {
                debug!(error = log::escaped(&error.to_string()), "admin endpoint: invalid request");
            }
            Err(error) => debug!(%error, "admin endpoint: client disconnected"),
        },
        () = passed(due) => match asked.load(Ordering::Relaxed) {
            false => debug!("admin endpoint: request timed out"),
            true => debug!("admin endpoint: response timed out"),
        },
    }
    stream.end().await;
    drop(place);
}

/// Waits for the deadline, which may move.
async fn passed(mut due: watch::Receiver<Option<Instant>>) {
    loop {
        let deadline = *due.borrow_and_update();
        tokio::select! {
            () = async {
                match deadline {
                    Some(deadline) => time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            } => return,
            Ok(()) = due.changed() => {}
        }
    }
}

/// The views and commands.
enum Target {
    Page,
    Status,
    Metrics,
    Verb(Verb),
}

async fn answer(request: &AdminRequest, reach: Reach, queue: &Queue) -> AdminResponse {
    if reach == Reach::Machine && !names_this_machine(request.uri(), request.headers()) {
        let why = "the Host header names a machine other than this one; use 127.0.0.1, [::1] or localhost\n";
        return text(StatusCode::MISDIRECTED_REQUEST, why);
    }
    let target = match (request.uri().path(), request.uri().query()) {
        ("/", _) => Target::Page,
        ("/status", _) => Target::Status,
        ("/metrics", _) => Target::Metrics,
        ("/restart", None | Some("wait=serving")) => Target::Verb(Verb::Restart(Until::Serving)),
        ("/restart", Some("wait=settled")) => Target::Verb(Verb::Restart(Until::Settled)),
        ("/restart", Some(_)) => {
            let why = "wait takes serving or settled, as in /restart?wait=settled\n";
            return text(StatusCode::BAD_REQUEST, why);
        }
        ("/rollback", _) => Target::Verb(Verb::Rollback),
        ("/reload", _) => Target::Verb(Verb::Reload),
        ("/stop", _) => Target::Verb(Verb::Stop),
        _ => {
            let why = "not found: GET /, /status or /metrics, or POST /restart, /rollback, /reload or /stop\n";
            return text(StatusCode::NOT_FOUND, why);
        }
    };
    match (target, request.method()) {
        (Target::Verb(_), &Method::POST) if comes_from_a_page(request.headers()) => {
            let why = "commands from web pages are rejected; use curl, or the subcommand\n";
            text(StatusCode::FORBIDDEN, why)
        }
        (Target::Verb(verb), &Method::POST) => ordered(verb, queue).await,
        (Target::Verb(_), _) => wrong_method("POST"),
        (target, &Method::GET | &Method::HEAD) => shown(&target, queue),
        _ => wrong_method("GET, HEAD"),
    }
}

/// Whether the request names this machine, in the `Host` field and in its target if that has an
/// authority.
fn names_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok());
    host.is_some_and(is_this_machine) && uri.authority().is_none_or(|authority| is_this_machine(authority.as_str()))
}

/// Whether a host name always means this machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    literal.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Every browser sends one of these with a POST from a page.
fn comes_from_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site")
}

fn shown(target: &Target, queue: &Queue) -> AdminResponse {
    let Some(status) = queue.status() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "not serving yet\n");
    };
    match target {
        Target::Page => respond(StatusCode::OK, "text/html; charset=utf-8", page::of(&status)),
        Target::Metrics => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::of(&status)),
        Target::Status | Target::Verb(_) => json(StatusCode::OK, &status),
    }
}

async fn ordered(verb: Verb, queue: &Queue) -> AdminResponse {
    info!(command = %verb, "admin endpoint: command received");
    let (caller, answer) = Caller::waiting();
    let gone = || Answer { outcome: Outcome::Elsewhere, detail: "this process is exiting; retry".into() };
    let answer = match time::timeout(PATIENCE, queue.commands.send(Command { verb, caller })).await {
        Ok(Ok(())) => answer.await.unwrap_or_else(|_ended| gone()),
        Ok(Err(_)) => gone(),
        Err(_elapsed) => Answer { outcome: Outcome::Refused, detail: "busy with other commands; retry".into() },
    };
    let status = match answer.outcome {
        Outcome::Done => StatusCode::OK,
        Outcome::Refused => StatusCode::CONFLICT,
        Outcome::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        Outcome::Elsewhere => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &answer)
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> AdminResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().extend(HEADERS);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(status: StatusCode, body: impl Into<String>) -> AdminResponse {
    respond(status, TEXT, body.into())
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> AdminResponse {
    match serde_json::to_string_pretty(value) {
        Ok(text) => respond(status, JSON, text + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn wrong_method(allowed: &'static str) -> AdminResponse {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} is allowed here\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_host_names_are_accepted() {
        for right in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:9000", "127.9.9.9:1", "[::1]", "[::1]:9000"]
        {
            assert!(is_this_machine(right), "{right}");
        }
        for wrong in
            ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "192.0.2.1", "[::2]:80", ":80"]
        {
            assert!(!is_this_machine(wrong), "{wrong}");
        }
    }
}
