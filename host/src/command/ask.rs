//! The subcommands that ask a running host: each sends a request, prints the answer in a line, and
//! exits accordingly.

use crate::{
    admin::{Answer, Outcome, stream::Stream},
    command,
    config::{Asking, What},
    net::Bind,
    record::{exit::Exit, log},
};
use bytes::Bytes;
use http::{Method, Request, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use serde_json::Value;
use std::{
    io,
    net::TcpStream,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};
use tokio::time::{self, Instant};

/// The longest accepted answer, in bytes: a status with thousands of listeners.
const LONGEST_ANSWER: usize = 4 << 20;

/// How long connecting and the handshake may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a request waits for another process to answer, after the asked one has stopped serving.
const SUCCESSION: Duration = Duration::from_secs(10);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no host answers there ({0}): is it running, with the same --admin?")]
    Nobody(io::Error),
    #[error("{0}: only the host's user and root may connect")]
    Forbidden(io::Error),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Late(Duration),
    #[error("the connection closed before the answer ({0})")]
    Broken(String),
    #[error("the server there is not an uninterruptible-host ({0})")]
    Strange(String),
}

impl Error {
    /// Whether another process may have become the host meanwhile.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Nobody(_) | Self::Broken(_))
    }
}

/// Sends the request and prints the answer. Call this where blocking is allowed, within a runtime.
pub(crate) fn run(asking: &Asking) -> Exit {
    let outcome = tokio::runtime::Handle::current().block_on(async {
        time::timeout(asking.timeout, asking.asked()).await.unwrap_or(Err(Error::Late(asking.timeout)))
    });
    match outcome {
        Ok((Exit::Finished, message)) => command::say(&format!("{message}\n")),
        Ok((exit, message)) => {
            log::complain(&format!("{}: {message}", asking.what));
            exit
        }
        Err(error) => {
            log::complain(&format!("{} at --admin {}: {error}", asking.what, asking.address));
            Exit::System
        }
    }
}

impl Asking {
    async fn asked(&self) -> Result<(Exit, String), Error> {
        let verb = match self.what {
            What::Status => return Ok((Exit::Finished, summary(&self.status().await?))),
            What::StatusAsJson => {
                return Ok((Exit::Finished, format!("{:#}", self.status().await?)));
            }
            What::Restart => "/restart",
            What::RestartUntilSettled => "/restart?wait=settled",
            What::Rollback => "/rollback",
            What::Reload => "/reload",
            What::Stop => "/stop",
        };
        let before = generation(&self.status().await?);
        let until = Instant::now() + SUCCESSION;
        loop {
            let asked = self.once(Method::POST, verb).await;
            match asked.and_then(|(status, body)| answer(status, &body)) {
                Ok(Answer { outcome: Outcome::Done, detail }) => return Ok((Exit::Finished, detail)),
                Ok(Answer { outcome: Outcome::Elsewhere, .. }) if Instant::now() < until => time::sleep(PAUSE).await,
                Ok(Answer { detail, .. }) => return Ok((Exit::CutShort, detail)),
                Err(error) if error.may_pass() => return self.found_out(before, error).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// The asked process ended before it answered: the next one reports the outcome.
    async fn found_out(&self, before: u64, error: Error) -> Result<(Exit, String), Error> {
        if self.what == What::Stop {
            return Ok((Exit::Finished, "it has ended".to_owned()));
        }
        let until = Instant::now() + SUCCESSION;
        loop {
            match self.status().await {
                Ok(status) if generation(&status) > before && self.is_far_enough(&status) => {
                    let message = format!("generation {} serves (process {})", generation(&status), status["pid"]);
                    return match self.what {
                        What::Restart | What::RestartUntilSettled => Ok((Exit::Finished, message)),
                        _ => Ok((Exit::CutShort, format!("the process ended before it answered; {message}"))),
                    };
                }
                Ok(_) if Instant::now() < until => {}
                Ok(_) => return Ok((Exit::CutShort, format!("{error}; the generation has not changed"))),
                Err(_) if Instant::now() < until => {}
                Err(_) => return Err(error),
            }
            time::sleep(PAUSE).await;
        }
    }

    fn is_far_enough(&self, status: &Value) -> bool {
        self.what != What::RestartUntilSettled || status["state"] != "probation"
    }

    async fn status(&self) -> Result<Value, Error> {
        let (status, body) = self.once(Method::GET, "/status").await?;
        match serde_json::from_slice::<Value>(&body) {
            Ok(value) if status == 200 && value.get("generation").is_some() => Ok(value),
            _ => Err(Error::Strange(format!("{status}"))),
        }
    }

    /// Sends one request, and returns the status and the body of its answer.
    async fn once(&self, method: Method, path: &str) -> Result<(u16, Vec<u8>), Error> {
        let bind = self.address.bind().clone();
        let connected = tokio::task::spawn_blocking(move || connect(&bind));
        let stream = match time::timeout(CONNECT, connected).await {
            Ok(Ok(Ok(socket))) => Stream::new(socket).map_err(Error::Nobody)?,
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::Forbidden(error));
            }
            Ok(Ok(Err(error))) => return Err(Error::Nobody(error)),
            Ok(Err(bug)) => return Err(Error::Strange(bug.to_string())),
            Err(_elapsed) => return Err(Error::Late(CONNECT)),
        };
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost").body(Empty::<Bytes>::new());
        let request = request.map_err(|bug| Error::Strange(bug.to_string()))?;
        let (mut requests, connection) = http1::handshake(stream).await.map_err(broken)?;
        // The connection ends once the sender is dropped.
        let exchange = async move {
            let response = requests.send_request(request).await.map_err(broken)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
            let body = body.map_err(|error| Error::Broken(error.to_string()))?;
            Ok((status, body.to_bytes().into()))
        };
        let (answered, _closed) = tokio::join!(exchange, connection);
        answered
    }
}

fn broken(error: hyper::Error) -> Error {
    if error.is_parse() { Error::Strange(error.to_string()) } else { Error::Broken(error.to_string()) }
}

/// Blocks while the listen queue is full.
fn connect(to: &Bind) -> io::Result<OwnedFd> {
    match to {
        Bind::Unix(path, _) => {
            let socket = UnixStream::connect(path.as_ref())?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        }
        Bind::Tcp(address) => {
            let socket = TcpStream::connect_timeout(address, CONNECT)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        }
        Bind::Systemd(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn answer(status: u16, body: &[u8]) -> Result<Answer, Error> {
    serde_json::from_slice(body).map_err(|_error| Error::Strange(format!("{status}")))
}

fn generation(status: &Value) -> u64 {
    status["generation"].as_u64().unwrap_or_default()
}

/// The status in a few lines. Fields that another version lacks or changes are left out.
fn summary(status: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => log::escaped(text),
        Value::Null => "unknown".to_owned(),
        value => value.to_string(),
    };
    let connections = &status["connections"];
    let failed: u64 = connections["failed"]
        .as_object()
        .into_iter()
        .flat_map(|failed| failed.values())
        .filter_map(Value::as_u64)
        .sum();
    let seconds = status["uptime-seconds"].as_f64().map_or(0, |seconds| seconds as u64);
    let mut lines = vec![
        format!(
            "generation {} (process {}), {}, version {}, up {}",
            status["generation"],
            status["pid"],
            text(&status["state"]),
            text(&status["version"]),
            humantime::format_duration(Duration::from_secs(seconds))
        ),
        format!(
            "connections  {} open of {}, {} accepted, {} finished, {failed} failed, {} refused",
            connections["open"],
            connections["most"],
            connections["accepted"],
            connections["finished"],
            connections["refused"]
        ),
    ];
    let each = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    for listener in each("listeners") {
        let plugins: Vec<_> = listener["plugins"].as_array().into_iter().flatten().map(text).collect();
        let accepting = if listener["accepting"] == true { "" } else { ", not accepting here" };
        let tls = if listener["tls"] == true { ", TLS" } else { "" };
        lines.push(format!("listener     {}: {}{tls}{accepting}", text(&listener["address"]), plugins.join(", ")));
    }
    for plugin in each("plugins") {
        lines.push(format!(
            "plugin       {}: {} ({}), SHA-256 {}, loaded {}",
            text(&plugin["name"]),
            text(&plugin["kind"]),
            text(&plugin["contract"]),
            text(&plugin["sha256"]),
            text(&plugin["loaded"])
        ));
    }
    for draining in each("draining") {
        lines.push(format!(
            "draining     generation {} (process {}), {} connections",
            text(&draining["generation"]),
            draining["pid"],
            text(&draining["connections"])
        ));
    }
    for (name, of) in [("restarts", "last restart"), ("reloads", "last reload")] {
        let last = &status[name]["last"];
        if !last.is_null() {
            lines.push(format!("{of:<12} {} {}: {}", text(&last["at"]), text(&last["outcome"]), text(&last["detail"])));
        }
    }
    lines.join("\n")
}
