//! Requests that guests make, in both generations of `wasi:http`: to where they may connect, by names that were granted, over
//! connections that take a place of the guest's as its sockets do. HTTP/1.1, a connection for each request.

use super::{
    grants::{Granted, Trust},
    state::State,
};
use crate::wire::CHUNK;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1};
use rustls::pki_types::ServerName;
use std::{
    io, mem,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{self, Instant, Sleep},
};
use tokio_rustls::TlsConnector;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    io::TokioIo,
    p2::{
        bindings::http::{outgoing_handler, types as types_0_2},
        body::{HostOutgoingBody, StreamContext},
        types::HostOutgoingRequest,
    },
    p3::bindings::http::{client, types as types_0_3},
};

/// How long a connection to a server may take to be made, and its response to begin or go on, where the guest asks for no less. What
/// bounds all of it together is that the guest's own connection is idle meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What one collection of fields may hold, as the engine counts: the bytes, and some 70 for each field. Of requests the largest head
/// that is let in takes two thirds of it.
const FIELDS_BYTES: usize = 64 << 10;

/// What a guest has of `wasi:http`, made when it first asks.
pub(super) struct Http {
    context: WasiHttpCtx,
    outgoing: Outgoing,
}

/// A guest's way out.
struct Outgoing {
    granted: Arc<Granted>,
    /// For the connection of the request that is about to be made.
    place: Option<Arc<()>>,
}

impl Http {
    pub(super) fn new(granted: &Arc<Granted>) -> Box<Self> {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELDS_BYTES);
        Box::new(Self { context, outgoing: Outgoing { granted: Arc::clone(granted), place: None } })
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.learner.observable();
        let Http { context, outgoing } = &mut **self.http.get_or_insert_with(|| Http::new(&self.granted));
        WasiHttpCtxView { hooks: outgoing, table: &mut self.table, ctx: context }
    }
}

impl State {
    /// Takes a place for the connection of a request that is about to be made.
    fn make_way(&mut self) {
        let place = self.places.take(&self.table);
        self.http.get_or_insert_with(|| Http::new(&self.granted)).outgoing.place = place;
    }
}

/// Links `wasi:http` for WASI 0.2: the engine's own, and what is sent takes a place.
pub(super) fn link_wasi_0_2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.instance("wasi:http/outgoing-handler@0.2.12")?.func_wrap(
        "handle",
        |mut store, (request, options): (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>)| {
            let state: &mut State = store.data_mut();
            state.make_way();
            Ok((match outgoing_handler::Host::handle(&mut state.http(), request, options) {
                Ok(response) => Ok(response),
                Err(error) => Err(error.downcast()?),
            },))
        },
    )
}

/// The same for the newer generation.
pub(super) fn link_wasi_0_3(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    linker.instance("wasi:http/client@0.3.0")?.func_wrap_concurrent(
        "send",
        |accessor, (request,): (Resource<types_0_3::Request>,)| {
            accessor.with(|mut store| store.get().make_way());
            Box::pin(async move {
                let accessor = accessor.with_getter::<WasiHttp>(State::http);
                Ok((match <WasiHttp as client::HostWithStore<State>>::send(&accessor, request).await {
                    Ok(response) => Ok(response),
                    Err(error) => Err(error.downcast()?),
                },))
            })
        },
    )
}

/// Aborts each body that the guest has neither finished nor dropped. The engine would end these as complete ones when the guest's
/// table is dropped.
pub(super) fn abort_unfinished_bodies(table: &mut ResourceTable) {
    for entry in table.iter_mut() {
        if let Some(body) = entry.downcast_mut::<HostOutgoingBody>() {
            let (spare, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
            mem::replace(body, spare).abort();
        }
    }
}

type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (granted, place) = (Arc::clone(&self.granted), self.place.take());
        Box::new(async move { send(&granted, place, request, options.unwrap_or_default()).await })
    }

    // Two pieces of it are kept, so that as much of a body is held as of anything else.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK / 2
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK / 2
    }

    // What a peer or a server does wrong is told to the guest, and need not be in the log.
    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> types_0_2::ErrorCode {
        if is_end(error) { types_0_2::ErrorCode::ConnectionTerminated } else { types_0_2::ErrorCode::HttpProtocolError }
    }

    fn p3_error_from_hyper(&mut self, error: &hyper::Error) -> types_0_3::ErrorCode {
        if is_end(error) { types_0_3::ErrorCode::ConnectionTerminated } else { types_0_3::ErrorCode::HttpProtocolError }
    }

    fn p2_error_from_connect(&mut self, _error: &io::Error) -> types_0_2::ErrorCode {
        types_0_2::ErrorCode::ConnectionRefused
    }

    fn p3_error_from_connect(&mut self, _error: &io::Error) -> types_0_3::ErrorCode {
        types_0_3::ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _error: &io::Error) -> types_0_2::ErrorCode {
        types_0_2::ErrorCode::TlsProtocolError
    }

    fn p3_error_from_tls(&mut self, _error: &io::Error) -> types_0_3::ErrorCode {
        types_0_3::ErrorCode::TlsProtocolError
    }
}

fn is_end(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed()
}

/// Sends a request to where its authority says, if the guest may connect there.
async fn send(
    granted: &Granted,
    place: Option<Arc<()>>,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Sent, Error> {
    let patience = |asked: Option<Duration>| asked.map_or(LONGEST_WAIT, |asked| asked.min(LONGEST_WAIT));
    let connected_by = Instant::now() + patience(options.connect_timeout);
    let authority = request.uri().authority().cloned().ok_or(Error::HttpRequestUriInvalid)?;
    let encrypted = request.uri().scheme() == Some(&Scheme::HTTPS);
    let port = authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 });

    let network = granted.network().ok_or(Error::HttpRequestDenied)?;
    let place = place.ok_or(Error::ConnectionLimitReached)?;
    let addresses = network.lookup(authority.host()).await.ok_or(Error::HttpRequestDenied)?;
    let permitted: Vec<SocketAddr> = addresses
        .iter()
        .map(|address| SocketAddr::new(*address, port))
        .filter(|address| network.permits(*address))
        .collect();
    if permitted.is_empty() {
        return Err(Error::HttpRequestDenied);
    }
    let stream = in_time(connected_by, TcpStream::connect(&*permitted)).await?.map_err(Error::Connect)?;
    stream.set_nodelay(true).map_err(Error::Connect)?;

    // A server is asked for a path, a proxy for a URI.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = path.parse::<Uri>().map_err(|_invalid| Error::HttpRequestUriInvalid)?;
    *request.uri_mut() = uri;
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_invalid| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(HOST, host);
    }

    let first_byte = patience(options.first_byte_timeout);
    let between_bytes = patience(options.between_bytes_timeout);
    if encrypted {
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_invalid| Error::HttpRequestUriInvalid)?;
        let trust = granted.trust().await.map_err(|Trust::Missing(why)| Error::InternalError(Some(why)))?;
        let stream =
            in_time(connected_by, TlsConnector::from(trust).connect(name, stream)).await?.map_err(Error::Tls)?;
        exchange(stream, place, request, first_byte, between_bytes).await
    } else {
        exchange(stream, place, request, first_byte, between_bytes).await
    }
}

async fn in_time<T>(end: Instant, future: impl Future<Output = T>) -> Result<T, Error> {
    time::timeout_at(end, future).await.map_err(|_elapsed| Error::ConnectionTimeout)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: Arc<()>,
    request: Request<WasiBody>,
    first_byte: Duration,
    between_bytes: Duration,
) -> Result<Sent, Error> {
    let (mut sender, connection) = http1::Builder::new().max_buf_size(CHUNK).handshake(TokioIo::new(stream)).await?;
    let mut connection = Box::pin(async move {
        let _place = place;
        connection.await.map_err(Error::Hyper)
    });
    let sent = async {
        let mut sending = pin!(sender.send_request(request));
        let response = tokio::select! {
            biased;
            response = &mut sending => return Ok((response?, None)),
            ended = &mut connection => {
                ended?;
                sending.await?
            }
        };
        Ok::<_, Error>((response, Some(())))
    };
    let (response, over) = time::timeout(first_byte, sent).await.map_err(|_elapsed| Error::ConnectionReadTimeout)??;
    let response = response.map(|body| Patient::new(body, between_bytes).boxed_unsync());
    // The rest of what has to be done for the body.
    let rest: Box<dyn Future<Output = _> + Send> = match over {
        Some(()) => Box::new(async { Ok(()) }),
        None => Box::new(connection),
    };
    Ok((response, rest))
}

/// A response's body, no two pieces of which may be further apart than this.
struct Patient {
    body: Incoming,
    patience: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, alarm: None }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.alarm = None;
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
