//! Connections that guests make, in both generations of WASI: the engine's own, except that a
//! socket takes one of the guest's places, and that this process resolves names, and only granted
//! ones.

use crate::guest::state::State;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};
use wasmtime_wasi::{
    p2::{
        Network, Pollable, TcpSocket,
        bindings::sockets::{network, tcp_create_socket},
        subscribe,
    },
    p3::bindings::sockets::{ip_name_lookup as lookup_0_3, types as sockets_0_3},
    sockets::WasiSocketsView,
};
use wasmtime_wasi_io::{async_trait, poll::DynPollable};

/// Addresses that a guest asked for and has not taken yet.
struct Lookup(Mutex<std::vec::IntoIter<IpAddr>>);

#[async_trait]
impl Pollable for Lookup {
    /// It was resolved before the guest got it.
    async fn ready(&mut self) {}
}

impl State {
    /// The lookup, without the store, which the resolver must not hold.
    fn granted_name(&mut self, name: String) -> impl Future<Output = Option<Arc<[IpAddr]>>> + Send + use<> {
        self.learner.observable();
        let (granted, denials) = (Arc::clone(&self.granted), self.denials());
        async move {
            let found = match granted.network() {
                Some(network) => network.lookup(&name).await,
                None => None,
            };
            if found.is_none() {
                denials.record("lookup", &name, format_args!("--guest-connect {name}:PORT"));
            }
            found
        }
    }
}

/// Replaces some of the engine's own functions.
pub(in crate::guest) fn link_wasi_0_2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wasi:sockets/tcp-create-socket@0.2.12")?.func_wrap(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, State>, (family,): (network::IpAddressFamily,)| {
            let state = store.data_mut();
            let Some(place) = state.places.take(&state.table) else {
                return Ok((Err(network::ErrorCode::NewSocketLimit),));
            };
            Ok((match tcp_create_socket::Host::create_tcp_socket(&mut state.sockets(), family) {
                Ok(socket) => {
                    // Its streams are its children, so that it cannot be dropped before them.
                    state.places.keep_for_entry::<TcpSocket>(place, &socket);
                    Ok(socket)
                }
                Err(error) => Err(error.downcast()?),
            },))
        },
    )?;
    let mut lookup = linker.instance("wasi:sockets/ip-name-lookup@0.2.12")?;
    lookup.resource("resolve-address-stream", ResourceType::host::<Lookup>(), |mut store, lookup| {
        store.data_mut().table.delete(Resource::<Lookup>::new_own(lookup))?;
        Ok(())
    })?;
    lookup.func_wrap_async(
        "resolve-addresses",
        |mut store: StoreContextMut<'_, State>, (network, name): (Resource<Network>, String)| {
            Box::new(async move {
                // A lookup requires a network resource.
                store.data_mut().table.get(&network)?;
                let asking = store.data_mut().granted_name(name);
                let Some(addresses) = asking.await else { return Ok((Err(network::ErrorCode::AccessDenied),)) };
                let addresses: Vec<_> = addresses.iter().copied().collect();
                let lookup = Lookup(Mutex::new(addresses.into_iter()));
                Ok((Ok(store.data_mut().table.push(lookup)?),))
            })
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |store: StoreContextMut<'_, State>, (lookup,): (Resource<Lookup>,)| {
            let Lookup(addresses) = store.data().table.get(&lookup)?;
            let next = addresses.lock().unwrap_or_else(PoisonError::into_inner).next();
            Ok((Ok::<_, network::ErrorCode>(next.map(network::IpAddress::from)),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, State>, (lookup,): (Resource<Lookup>,)| {
            let pollable: Resource<DynPollable> = subscribe(&mut store.data_mut().table, lookup)?;
            Ok((pollable,))
        },
    )
}

/// The same for WASI 0.3.
pub(in crate::guest) fn link_wasi_0_3(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wasi:sockets/types@0.3.0")?.func_wrap(
        "[static]tcp-socket.create",
        |mut store: StoreContextMut<'_, State>, (family,): (sockets_0_3::IpAddressFamily,)| {
            let state = store.data_mut();
            let Some(place) = state.places.take(&state.table) else {
                return Ok((Err(sockets_0_3::ErrorCode::OutOfMemory),));
            };
            Ok((match sockets_0_3::HostTcpSocket::create(&mut state.sockets(), family) {
                Ok(socket) => {
                    // Its streams may outlive it, and the host cannot see when they end.
                    state.places.keep_for_good(place);
                    Ok(socket)
                }
                Err(error) => Err(error.downcast()?),
            },))
        },
    )?;
    linker.instance("wasi:sockets/ip-name-lookup@0.3.0")?.func_wrap_concurrent(
        "resolve-addresses",
        |accessor, (name,): (String,)| {
            let asking = accessor.with(|mut store| store.get().granted_name(name));
            Box::pin(async move {
                Ok((match asking.await {
                    Some(addresses) => {
                        Ok(addresses.iter().map(|address| sockets_0_3::IpAddress::from(*address)).collect::<Vec<_>>())
                    }
                    None => Err(lookup_0_3::ErrorCode::AccessDenied),
                },))
            })
        },
    )
}
