//! One request at the endpoint: what it asks for, and the answer. No error of it leaves this room.
//!
//! Everything is bounded: the head of a request, the time in which it has to come and the answer to be taken. A body is not looked
//! at. What a browser might be made to send by somebody else's page is refused: a name that is not this machine's
//! (DNS rebinding), and a verb that comes from a page.

use super::{
    desk::Desk,
    message::{self, Error, Request},
    metrics,
    order::{Answer, Asker, Order, Outcome, Until, Verb},
    page,
    stream::Stream,
};
use crate::record::log;
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::OwnedSemaphorePermit, time};
use tracing::{debug, info};

/// How long a request may take to come, and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// No script, nothing from elsewhere, in nobody's frame; and nobody keeps what is out of date in a moment.
const HEADERS: [(&str, &str); 4] = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

/// Who can connect at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The user of the process, and root.
    Owner,
    /// Whatever runs on this machine, browsers included.
    Machine,
}

/// Serves one request.
pub(super) async fn serve(
    socket: Stream,
    reach: Reach,
    desk: Desk,
    asked: Arc<AtomicBool>,
    place: OwnedSemaphorePermit,
) {
    let (response, head_only) = match time::timeout(PATIENCE, Request::read(&socket)).await {
        Ok(Ok(request)) => {
            asked.store(true, Ordering::Relaxed);
            (answer(&request, reach, &desk).await, request.method == "HEAD")
        }
        Ok(Err(error @ (Error::Malformed(_) | Error::TooLong))) => {
            let status = if matches!(error, Error::TooLong) { Status::TooLong } else { Status::BadRequest };
            (Response::text(status, format!("{error}\n")), false)
        }
        Ok(Err(error)) => {
            debug!(error = log::escaped(&error.to_string()), "somebody at the admin endpoint has asked nothing");
            return;
        }
        Err(_elapsed) => {
            debug!("somebody at the admin endpoint was too slow to ask");
            return;
        }
    };
    let send = async {
        let sent = socket.write(&response.written(head_only)).await;
        socket.end().await;
        sent
    };
    match time::timeout(PATIENCE, send).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "somebody at the admin endpoint was gone before the answer"),
        Err(_elapsed) => debug!("somebody at the admin endpoint does not take the answer"),
    }
    drop(place);
}

/// What can be asked.
enum Asked {
    Page,
    Status,
    Metrics,
    Verb(Verb),
}

struct Response {
    status: Status,
    kind: &'static str,
    allow: Option<&'static str>,
    body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    BadRequest,
    Forbidden,
    NotFound,
    WrongMethod,
    Conflict,
    Misdirected,
    TooLong,
    Failed,
    Unavailable,
}

async fn answer(request: &Request, reach: Reach, desk: &Desk) -> Response {
    if reach == Reach::Machine && !request.only("host").is_some_and(is_this_machine) {
        let why = "the Host field names another machine than this one; ask for 127.0.0.1, [::1] or localhost\n";
        return Response::text(Status::Misdirected, why);
    }
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*request.target, None),
    };
    let asked = match (path, query) {
        ("/", _) => Asked::Page,
        ("/status", _) => Asked::Status,
        ("/metrics", _) => Asked::Metrics,
        ("/restart", None | Some("wait=serving")) => Asked::Verb(Verb::Restart(Until::Serving)),
        ("/restart", Some("wait=settled")) => Asked::Verb(Verb::Restart(Until::Settled)),
        ("/restart", Some(_)) => {
            let why = "restart waits for serving or settled, as in /restart?wait=settled\n";
            return Response::text(Status::BadRequest, why);
        }
        ("/rollback", _) => Asked::Verb(Verb::Rollback),
        ("/reload", _) => Asked::Verb(Verb::Reload),
        ("/stop", _) => Asked::Verb(Verb::Stop),
        _ => {
            let why = "there are /, /status and /metrics to GET, and /restart, /rollback, /reload and /stop to POST\n";
            return Response::text(Status::NotFound, why);
        }
    };
    match (asked, &*request.method) {
        (Asked::Verb(_), "POST") if comes_from_a_page(request) => {
            let why = "a verb is not taken from a page in a browser; use curl, or the subcommand\n";
            Response::text(Status::Forbidden, why)
        }
        (Asked::Verb(verb), "POST") => ordered(verb, desk).await,
        (Asked::Verb(_), _) => Response::wrong_method("POST"),
        (asked, "GET" | "HEAD") => shown(&asked, desk),
        _ => Response::wrong_method("GET, HEAD"),
    }
}

/// Whether the name by which this was reached is one that only this machine has.
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

/// Every browser sends one of these with what a page has it POST.
fn comes_from_a_page(request: &Request) -> bool {
    request.has("origin") || request.has("sec-fetch-site")
}

fn shown(asked: &Asked, desk: &Desk) -> Response {
    let Some(status) = desk.status() else {
        return Response::text(Status::Unavailable, "not serving yet\n");
    };
    match asked {
        Asked::Page => Response::new(Status::Ok, "text/html; charset=utf-8", page::of(&status)),
        Asked::Metrics => Response::new(Status::Ok, "text/plain; version=0.0.4; charset=utf-8", metrics::of(&status)),
        Asked::Status | Asked::Verb(_) => Response::json(Status::Ok, &status),
    }
}

async fn ordered(verb: Verb, desk: &Desk) -> Response {
    info!("{verb} was asked for at the admin endpoint");
    let (asker, answer) = Asker::waiting();
    let gone = || Answer { outcome: Outcome::Elsewhere, detail: "this process ends; ask again".into() };
    let answer = match time::timeout(PATIENCE, desk.orders.send(Order { verb, asker })).await {
        Ok(Ok(())) => answer.await.unwrap_or_else(|_ended| gone()),
        Ok(Err(_)) => gone(),
        Err(_elapsed) => Answer { outcome: Outcome::Refused, detail: "busy with other orders; ask again".into() },
    };
    let status = match answer.outcome {
        Outcome::Done => Status::Ok,
        Outcome::Refused => Status::Conflict,
        Outcome::Failed => Status::Failed,
        Outcome::Elsewhere => Status::Unavailable,
    };
    Response::json(status, &answer)
}

impl Response {
    fn new(status: Status, kind: &'static str, body: String) -> Self {
        Self { status, kind, allow: None, body }
    }

    fn text(status: Status, body: impl Into<String>) -> Self {
        Self::new(status, TEXT, body.into())
    }

    fn json(status: Status, value: &impl serde::Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(text) => Self::new(status, JSON, text + "\n"),
            Err(error) => Self::text(Status::Failed, format!("{error}\n")),
        }
    }

    fn wrong_method(allowed: &'static str) -> Self {
        Self { allow: Some(allowed), ..Self::text(Status::WrongMethod, format!("this is to {allowed}\n")) }
    }

    fn written(&self, head_only: bool) -> Vec<u8> {
        let own = [("Content-Type", self.kind)].into_iter().chain(self.allow.map(|methods| ("Allow", methods)));
        let headers: Vec<_> = own.chain(HEADERS).collect();
        message::written(self.status.line(), &headers, &self.body, head_only)
    }
}

impl Status {
    fn line(self) -> (u16, &'static str) {
        match self {
            Self::Ok => (200, "OK"),
            Self::BadRequest => (400, "Bad Request"),
            Self::Forbidden => (403, "Forbidden"),
            Self::NotFound => (404, "Not Found"),
            Self::WrongMethod => (405, "Method Not Allowed"),
            Self::Conflict => (409, "Conflict"),
            Self::Misdirected => (421, "Misdirected Request"),
            Self::TooLong => (431, "Request Header Fields Too Large"),
            Self::Failed => (500, "Internal Server Error"),
            Self::Unavailable => (503, "Service Unavailable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
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
