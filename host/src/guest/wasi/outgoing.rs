//! Requests that guests make, in both generations of `wasi:http`. `upstream` sends them.

use super::{
    idle::Idle,
    upstream::{self, Asking, Sent},
};
use crate::{
    component::grants::{Denials, Granted},
    guest::{resources, state::State},
    wire::CHUNK,
};
use http::Request;
use std::{io, mem, sync::Arc};
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::{
        bindings::http::{outgoing_handler, types as types_0_2},
        body::{HostOutgoingBody, StreamContext},
        types::HostOutgoingRequest,
    },
    p3::bindings::http::{client, types as types_0_3},
};

/// The most bytes of one collection of fields, as the engine counts: the text, and some 70 for each
/// field. The largest accepted request head takes two thirds of it.
const FIELDS_BYTES: usize = 64 << 10;

/// A guest's state of `wasi:http`, created at its first call.
pub(in crate::guest) struct Http {
    context: WasiHttpCtx,
    outgoing: Outgoing,
}

/// The hooks for a guest's outgoing requests.
struct Outgoing {
    granted: Arc<Granted>,
    idle: Arc<Idle>,
    /// The place for the connection of the next request.
    place: Option<Arc<()>>,
    /// Ends the guest's requests when the guest ends.
    guest: Asking,
    denials: Denials,
}

impl Http {
    fn new(granted: &Arc<Granted>, idle: &Arc<Idle>, denials: Denials) -> Box<Self> {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELDS_BYTES);
        Box::new(Self {
            context,
            outgoing: Outgoing {
                granted: Arc::clone(granted),
                idle: Arc::clone(idle),
                place: None,
                guest: Asking::default(),
                denials,
            },
        })
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.learner.observable();
        // A guest that has too many collections of fields can make only empty ones.
        self.lacks_room_for_fields = !self.has_room_for_large();
        let fields = if self.lacks_room_for_fields { 0 } else { FIELDS_BYTES };
        let denials = || Denials::new(&self.plugin_log.plugin, self.connection, &self.plugin_log.limiter);
        let Http { context, outgoing } =
            &mut **self.http.get_or_insert_with(|| Http::new(&self.granted, &self.idle, denials()));
        context.set_field_size_limit(fields);
        WasiHttpCtxView { hooks: outgoing, table: &mut self.table, ctx: context }
    }
}

impl State {
    /// Takes a place for the connection of the next request.
    fn make_way(&mut self) {
        let place = self.places.take(&self.table);
        let denials = || Denials::new(&self.plugin_log.plugin, self.connection, &self.plugin_log.limiter);
        self.http.get_or_insert_with(|| Http::new(&self.granted, &self.idle, denials())).outgoing.place = place;
    }
}

/// Links `wasi:http` for WASI 0.2: the engine's own, except that a request takes a place.
pub(in crate::guest) fn link_wasi_0_2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    resources::link_bodies(linker)?;
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

/// Links `wasi:http` for WASI 0.3.
pub(in crate::guest) fn link_wasi_0_3(linker: &mut Linker<State>) -> wasmtime::Result<()> {
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

/// Aborts each body that the guest has neither finished nor dropped. When the guest's table is
/// dropped, the engine would end them as if they were complete.
pub(in crate::guest) fn abort_unfinished_bodies(table: &mut ResourceTable) {
    for entry in table.iter_mut() {
        if let Some(body) = entry.downcast_mut::<HostOutgoingBody>() {
            let (spare, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
            mem::replace(body, spare).abort();
        }
    }
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (granted, idle) = (Arc::clone(&self.granted), Arc::clone(&self.idle));
        let (place, gone) = (self.place.take(), self.guest.gone());
        let denials = self.denials.clone();
        Box::new(async move {
            let uri = request.uri().clone();
            let sent = upstream::send((&granted, &idle), place, gone, request, options.unwrap_or_default()).await;
            if let (Err(Error::HttpRequestDenied), Some(authority)) = (&sent, uri.authority()) {
                let port = upstream::port(&uri);
                denials.record("request", authority, format_args!("--guest-connect {}:{port}", authority.host()));
            }
            sent
        })
    }

    // Two pieces are kept, so that a body holds as much as other streams.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK / 2
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK / 2
    }

    // The guest gets these errors, so the log need not have them.
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
