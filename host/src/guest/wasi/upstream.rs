//! Sends the requests of guests to granted targets, by granted names, over connections that take
//! one of the guest's places, as its sockets do. HTTP/1.1.
//!
//! ```text
//! send ─► idle (one of the plugin's connections to this authority) ─┬─► exchange ─► response ─►
//! its end ─► idle
//!     └─► connect: what is granted, TLS ───────────────────────────┘       └► dropped before that: closed
//! ```
//!
//! A connection that carries a request belongs to that request's guest, and ends with it. Between
//! requests it belongs to the plugin whose grants allowed it. Other plugins, and other loads of the
//! same plugin, do not use it.

use super::idle::{Connection, Idle, Key};
use crate::{
    component::grants::{Granted, Trust},
    wire::CHUNK,
};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    uri::Scheme,
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use rustls::pki_types::ServerName;
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{self, Instant, Sleep},
};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, io::TokioIo};

/// How long connecting to a server may take, and its response to begin or continue, unless the
/// guest asks for less. The idle timeout of the guest's own connection limits all of it together.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A response, and a future for its body: empty, since each connection has a task of its own.
pub(in crate::guest) type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// A guest, while it can take responses.
#[derive(Debug, Default)]
pub(in crate::guest) struct Asking(watch::Sender<()>);

/// Resolves when a guest has ended.
#[derive(Debug)]
pub(in crate::guest) struct Gone(watch::Receiver<()>);

impl Asking {
    pub(in crate::guest) fn gone(&self) -> Gone {
        Gone(self.0.subscribe())
    }
}

impl Gone {
    async fn wait(mut self) {
        // No value is ever sent: this ends with the sender.
        while self.0.changed().await.is_ok() {}
    }
}

/// Sends a request to the server of its authority, if the guest may connect there.
pub(in crate::guest) async fn send(
    (granted, idle): (&Granted, &Arc<Idle>),
    place: Option<Arc<()>>,
    gone: Gone,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Sent, Error> {
    let patience = |asked: Option<Duration>| asked.map_or(LONGEST_WAIT, |asked| asked.min(LONGEST_WAIT));
    let connected_by = Instant::now() + patience(options.connect_timeout);
    let authority = request.uri().authority().cloned().ok_or(Error::HttpRequestUriInvalid)?;
    let encrypted = request.uri().scheme() == Some(&Scheme::HTTPS);
    let port = port(request.uri());
    let network = granted.network().ok_or(Error::HttpRequestDenied)?;
    let place = place.ok_or(Error::ConnectionLimitReached)?;

    // A server takes a path, a proxy a URI.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = path.parse::<Uri>().map_err(|_invalid| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = uri;
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_invalid| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(HOST, host);
    }

    let key = Key::new(encrypted, authority.host(), port);
    let first_byte = patience(options.first_byte_timeout);
    let (response, connection) = loop {
        let Some(connection) = idle.take(&key) else {
            let connection = connect(granted, &key, connected_by).await?;
            break ask(connection, request, first_byte).await.map_err(|failed| failed.error)?;
        };
        if !network.permits(connection.address()) {
            continue;
        }
        let spare = repeatable(&request);
        match ask(connection, request, first_byte).await {
            Ok(answered) => break answered,
            // The server may have closed it at that moment. A request that was not sent, or may be
            // sent twice, is sent again.
            Err(Failed { unsent: Some(unsent), .. }) => request = unsent,
            Err(Failed { error: Error::Hyper(error), .. }) => request = spare.ok_or(error)?,
            Err(Failed { error, .. }) => return Err(error),
        }
    };
    let lease = Lease { connection, key, idle: Arc::clone(idle), place, gone };
    let between_bytes = patience(options.between_bytes_timeout);
    let response = response.map(|body| Patient::new(body, between_bytes, lease).boxed_unsync());
    Ok((response, Box::new(std::future::ready(Ok(())))))
}

/// The port that a URI names, or that of its scheme.
pub(in crate::guest) fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 })
}

/// A copy of the request, if it can be sent twice safely (RFC 9110, section 9.2.2) and has no body.
fn repeatable(request: &Request<WasiBody>) -> Option<Request<WasiBody>> {
    if !request.method().is_idempotent() || has_body(request) {
        return None;
    }
    let mut spare = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.headers_mut() = request.headers().clone();
    Some(spare)
}

/// Whether any of a body is sent. A body of WASI 0.3 does not know that it is empty before its
/// trailers arrive, but the library sends none with these methods unless the head announces one.
fn has_body(request: &Request<WasiBody>) -> bool {
    let is_announced =
        request.headers().contains_key(CONTENT_LENGTH) || request.headers().contains_key(TRANSFER_ENCODING);
    let is_sent = is_announced || !matches!(*request.method(), Method::GET | Method::HEAD);
    is_sent && !request.body().is_end_stream()
}

/// Connects to a permitted address.
async fn connect(granted: &Granted, key: &Key, connected_by: Instant) -> Result<Connection, Error> {
    let network = granted.network().ok_or(Error::HttpRequestDenied)?;
    let addresses = network.lookup(key.host()).await.ok_or(Error::HttpRequestDenied)?;
    let permitted: Vec<SocketAddr> = addresses
        .iter()
        .map(|address| SocketAddr::new(*address, key.port()))
        .filter(|address| network.permits(*address))
        .collect();
    if permitted.is_empty() {
        return Err(Error::HttpRequestDenied);
    }
    let stream = in_time(connected_by, TcpStream::connect(&*permitted)).await?.map_err(Error::Connect)?;
    stream.set_nodelay(true).map_err(Error::Connect)?;
    let address = stream.peer_addr().map_err(Error::Connect)?;
    if !key.is_encrypted() {
        return shake_hands(stream, address).await;
    }
    let name = key.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|_invalid| Error::HttpRequestUriInvalid)?;
    let trust = granted.trust().await.map_err(|Trust::Missing(why)| Error::InternalError(Some(why)))?;
    let stream = in_time(connected_by, TlsConnector::from(trust).connect(name, stream)).await?.map_err(Error::Tls)?;
    shake_hands(stream, address).await
}

async fn in_time<T>(end: Instant, future: impl Future<Output = T>) -> Result<T, Error> {
    time::timeout_at(end, future).await.map_err(|_elapsed| Error::ConnectionTimeout)
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    address: SocketAddr,
) -> Result<Connection, Error> {
    let (sender, connection) = http1::Builder::new().max_buf_size(CHUNK).handshake(TokioIo::new(stream)).await?;
    Ok(Connection::new(sender, address, connection))
}

/// Why there is no response.
struct Failed {
    error: Error,
    /// The request, if none of it was sent.
    unsent: Option<Request<WasiBody>>,
}

async fn ask(
    mut connection: Connection,
    request: Request<WasiBody>,
    first_byte: Duration,
) -> Result<(Response<Incoming>, Connection), Failed> {
    match time::timeout(first_byte, connection.sender().try_send_request(request)).await {
        Ok(Ok(response)) => Ok((response, connection)),
        Ok(Err(mut failed)) => Err(Failed { unsent: failed.take_message(), error: Error::Hyper(failed.into_error()) }),
        Err(_elapsed) => Err(Failed { unsent: None, error: Error::ConnectionReadTimeout }),
    }
}

/// A guest's connection for one request. Dropping it closes the connection.
struct Lease {
    connection: Connection,
    key: Key,
    idle: Arc<Idle>,
    place: Arc<()>,
    gone: Gone,
}

impl Lease {
    /// The response is complete. The connection becomes idle after the request is complete too, if
    /// its guest still exists then.
    fn end(self) {
        let Self { mut connection, key, idle, place, gone } = self;
        tokio::spawn(async move {
            let is_free = tokio::select! {
                biased;
                ready = connection.sender().ready() => ready.is_ok(),
                () = gone.wait() => false,
                () = time::sleep(LONGEST_WAIT) => false,
            };
            drop(place);
            if is_free {
                idle.put(key, connection);
            }
        });
    }
}

/// A response's body whose pieces must not be further apart than this.
struct Patient {
    body: Incoming,
    patience: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
    lease: Option<Lease>,
}

impl Patient {
    fn new(body: Incoming, patience: Duration, lease: Lease) -> Self {
        let mut patient = Self { body, patience, alarm: None, lease: Some(lease) };
        patient.end_if_over();
        patient
    }

    fn end_if_over(&mut self) {
        if self.body.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.end();
        }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.alarm = None;
            match &frame {
                Some(Ok(_)) => self.end_if_over(),
                Some(Err(_)) => self.lease = None,
                None => self.end(),
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)));
        }
        let patience = self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(time::sleep(patience)));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
