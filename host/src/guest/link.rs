//! Links the imports of guests, and finds the exports of plugins.

use super::{
    bindings::{wasi_0_2, wasi_0_3},
    command,
    lowered::LoweredPre,
    program::ProgramPre,
    resources,
    state::State,
    wasi::{concurrent_files, files, outgoing, sockets},
};
use crate::{
    component::{Generation, Kind, Problem, code::Code, contract::Contract, engine::Concurrency, problem::one_line},
    wire::draining::Draining,
};
use std::time::Duration;
use wasmtime::{
    Engine,
    component::{Component, HasSelf, InstancePre, Linker, Resource},
};
use wasmtime_wasi::{
    WasiCtxView,
    cli::WasiCli,
    clocks::WasiClocks,
    p2::{
        Pollable,
        bindings::{self as p2, cli, clocks, random},
        subscribe,
    },
    p3::bindings as p3,
    random::WasiRandom,
};
use wasmtime_wasi_http::{p2::bindings as http_0_2, p3::bindings as http_0_3};
use wasmtime_wasi_io::{async_trait, bindings::wasi::io::poll::HostPollable, poll::DynPollable};

/// The linked export of a plugin.
pub(super) enum Handler {
    Lowered(LoweredPre),
    Wasi02(wasi_0_2::PluginPre<State>),
    Wasi03(wasi_0_3::PluginAsyncPre<State>),
    Command02(p2::CommandPre<State>),
    Command03(p3::CommandPre<State>),
    Http02(http_0_2::ProxyPre<State>),
    Http03(http_0_3::ServicePre<State>),
    Program(ProgramPre),
}

/// Links a plugin's imports, and finds its export.
pub(super) fn link(engine: &Engine, code: &Code, contract: &Contract) -> Result<Handler, Problem> {
    let linked = match code {
        Code::Lowered(module) => LoweredPre::new(engine, module).map(Handler::Lowered),
        Code::Module(module) => ProgramPre::new(engine, module).map(Handler::Program),
        Code::Component(component) => {
            linker(engine, contract).and_then(|linker| handler(linker.instantiate_pre(component)?, contract.kind))
        }
    };
    linked.map_err(|error| Problem::Link { built_for: contract.built_for.clone(), cause: one_line(&error) })
}

/// Whether a component's imports can be linked as those of a handler of WASI 0.2.
pub(super) fn links(engine: &Engine, component: &Component) -> bool {
    let mut linker = Linker::new(engine);
    link_wasi_0_2(&mut linker).is_ok() && linker.instantiate_pre(component).is_ok()
}

/// A linker with everything that a component of this kind may import.
fn linker(engine: &Engine, contract: &Contract) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    link_wasi_0_2(&mut linker)?;
    if contract.imports_http {
        outgoing::link_wasi_0_2(&mut linker)?;
    }
    if contract.concurrency == Concurrency::Concurrent {
        link_wasi_0_3(&mut linker)?;
        if contract.imports_http {
            outgoing::link_wasi_0_3(&mut linker)?;
        }
    }
    if matches!(contract.kind, Kind::Command(_)) {
        command::link(&mut linker, contract.concurrency)?;
    }
    Ok(linker)
}

fn handler(pre: InstancePre<State>, kind: Kind) -> wasmtime::Result<Handler> {
    match kind {
        Kind::Handler(Generation::Wasi02) => wasi_0_2::PluginPre::new(pre).map(Handler::Wasi02),
        Kind::Handler(Generation::Wasi03) => wasi_0_3::PluginAsyncPre::new(pre).map(Handler::Wasi03),
        Kind::Command(Generation::Wasi02) => p2::CommandPre::new(pre).map(Handler::Command02),
        Kind::Command(Generation::Wasi03) => p3::CommandPre::new(pre).map(Handler::Command03),
        Kind::Http(Generation::Wasi02) => http_0_2::ProxyPre::new(pre).map(Handler::Http02),
        Kind::Http(Generation::Wasi03) => http_0_3::ServicePre::new(pre).map(Handler::Http03),
        Kind::Module => Err(wasmtime::Error::msg("it is not a core module")),
    }
}

struct Drained(Draining);

#[async_trait]
impl Pollable for Drained {
    async fn ready(&mut self) {
        self.0.wait().await;
    }
}

/// Links all of WASI 0.2, and the contract's imports of that generation.
fn link_wasi_0_2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    // Streams and pollables need the table only.
    wasmtime_wasi_io::add_to_linker_async(linker)?;
    // These calls do not prevent a late start.
    random::random::add_to_linker::<State, WasiRandom>(linker, |state| state.quiet().ctx.random())?;
    random::insecure::add_to_linker::<State, WasiRandom>(linker, |state| state.quiet().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, |state| state.quiet().ctx.random())?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(linker, quiet_clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(linker, quiet_clocks)?;
    cli::environment::add_to_linker::<State, WasiCli>(linker, quiet_cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(linker, quiet_cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(linker, quiet_cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(linker, quiet_cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, quiet_cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, quiet_cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, quiet_cli)?;
    files::link_wasi_0_2(linker)?;
    resources::link_files(linker)?;
    sockets::link_wasi_0_2(linker)?;
    // A timer is more than reading the clock, and prevents one.
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    clock.func_wrap("subscribe-instant", |mut store, (when,): (u64,)| Ok((at(store.data_mut(), when)?,)))?;
    clock.func_wrap("subscribe-duration", |mut store, (period,): (u64,)| Ok((after(store.data_mut(), period)?,)))?;
    // So does asking whether a pollable is ready.
    linker.instance("wasi:io/poll@0.2.12")?.func_wrap_async("[method]pollable.ready", |mut store, (pollable,)| {
        Box::new(async move { Ok((is_ready(store.data_mut(), pollable).await?,)) })
    })?;
    wasi_0_2::uninterruptible::server::types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker
        .instance("uninterruptible:server/drain@0.2.0")?
        .func_wrap("subscribe", |mut store, (): ()| Ok((drained(store.data_mut())?,)))?;
    Ok(())
}

/// A pollable that is ready when the monotonic clock shows a time.
pub(super) fn at(state: &mut State, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
    state.learner.observable();
    clocks::monotonic_clock::Host::subscribe_instant(&mut quiet_clocks(state), when)
}

/// A pollable that is ready after this many nanoseconds.
pub(super) fn after(state: &mut State, period: u64) -> wasmtime::Result<Resource<DynPollable>> {
    state.learner.observable();
    clocks::monotonic_clock::Host::subscribe_duration(&mut quiet_clocks(state), period)
}

/// A pollable that is ready when the process drains.
pub(super) fn drained(state: &mut State) -> wasmtime::Result<Resource<DynPollable>> {
    state.learner.observable();
    let drained = state.table.push(Drained(state.draining.clone()))?;
    subscribe(&mut state.table, drained)
}

/// Whether a pollable is ready.
pub(super) async fn is_ready(state: &mut State, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
    state.learner.observable();
    HostPollable::ready(&mut state.table, pollable).await
}

/// Links all of WASI 0.3, and the contract's imports of that generation, beside those of
/// [`link_wasi_0_2`].
fn link_wasi_0_3(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::add_to_linker(linker)?;
    concurrent_files::link_wasi_0_3(linker)?;
    sockets::link_wasi_0_3(linker)?;
    // As in 0.2, a timer is more than reading the clock. The engine's own timer bypasses the state,
    // which has to notice it.
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.3.0")?;
    clock.func_wrap_concurrent("wait-for", |accessor, (period,): (u64,)| {
        accessor.with(|mut store| store.get().learner.observable());
        Box::pin(async move {
            if period > 0 {
                tokio::time::sleep(Duration::from_nanos(period)).await;
            }
            Ok(())
        })
    })?;
    clock.func_wrap_concurrent("wait-until", |accessor, (mark,): (u64,)| {
        let now = accessor.with(|mut store| {
            store.get().learner.observable();
            wasmtime_wasi::p3::bindings::clocks::monotonic_clock::Host::now(&mut quiet_clocks(store.get()))
        });
        Box::pin(async move {
            let period = Duration::from_nanos(mark.saturating_sub(now?));
            // A time in the past is ready at once. The timer would wait for a millisecond.
            if !period.is_zero() {
                tokio::time::sleep(period).await;
            }
            Ok(())
        })
    })?;
    wasi_0_3::uninterruptible::server::types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.instance("uninterruptible:server/drain@0.3.0")?.func_wrap_concurrent("wait", |accessor, (): ()| {
        let drained = accessor.with(|mut store| {
            let state = store.get();
            state.learner.observable();
            state.draining.wait()
        });
        Box::pin(async move {
            drained.await;
            Ok(())
        })
    })?;
    Ok(())
}

pub(super) fn quiet_clocks(state: &mut State) -> wasmtime_wasi::clocks::WasiClocksCtxView<'_> {
    let WasiCtxView { ctx, table } = state.quiet();
    wasmtime_wasi::clocks::WasiClocksCtxView { ctx: ctx.clocks(), table }
}

pub(super) fn quiet_cli(state: &mut State) -> wasmtime_wasi::cli::WasiCliCtxView<'_> {
    let WasiCtxView { ctx, table } = state.quiet();
    wasmtime_wasi::cli::WasiCliCtxView { ctx: ctx.cli(), table }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::{engine, interfaces::provided};

    /// One item of each package and generation, so that a package that is listed but not linked is
    /// found.
    #[test]
    fn listed_interfaces_can_be_linked() {
        const RESOURCE: &str = "(type (sub resource))";
        let engine = engine::compiler(Concurrency::Concurrent).unwrap();
        let mut linker = Linker::new(engine);
        link_wasi_0_2(&mut linker).unwrap();
        link_wasi_0_3(&mut linker).unwrap();
        outgoing::link_wasi_0_2(&mut linker).unwrap();
        outgoing::link_wasi_0_3(&mut linker).unwrap();
        let links = |interface: &str, item: &str, ty: &str| {
            let import =
                wat::parse_str(format!(r#"(component (import "{interface}" (instance (export "{item}" {ty}))))"#))
                    .unwrap();
            linker.instantiate_pre(&Component::new(engine, import).unwrap()).is_ok()
        };
        for (interface, item, ty) in [
            ("uninterruptible:server/types@0.2.0", "connection", RESOURCE),
            ("uninterruptible:server/types@0.3.0", "connection", RESOURCE),
            ("wasi:cli/environment@0.2.0", "get-arguments", "(func (result (list string)))"),
            ("wasi:cli/environment@0.3.0", "get-arguments", "(func (result (list string)))"),
            ("wasi:cli/terminal-input@0.2.0", "terminal-input", RESOURCE),
            ("wasi:cli/terminal-input@0.3.0", "terminal-input", RESOURCE),
            ("wasi:clocks/monotonic-clock@0.2.0", "now", "(func (result u64))"),
            ("wasi:clocks/monotonic-clock@0.3.0", "now", "(func (result u64))"),
            ("wasi:filesystem/types@0.2.0", "descriptor", RESOURCE),
            ("wasi:filesystem/types@0.3.0", "descriptor", RESOURCE),
            ("wasi:http/types@0.2.0", "fields", RESOURCE),
            ("wasi:http/types@0.3.0", "fields", RESOURCE),
            ("wasi:io/error@0.2.0", "error", RESOURCE),
            ("wasi:io/poll@0.2.0", "pollable", RESOURCE),
            ("wasi:io/streams@0.2.0", "input-stream", RESOURCE),
            ("wasi:random/random@0.2.0", "get-random-u64", "(func (result u64))"),
            ("wasi:random/random@0.3.0", "get-random-u64", "(func (result u64))"),
            ("wasi:sockets/network@0.2.0", "network", RESOURCE),
            ("wasi:sockets/types@0.3.0", "tcp-socket", RESOURCE),
        ] {
            assert!(provided(interface, None), "{interface} is not listed");
            assert!(links(interface, item, ty), "{interface} is listed and does not link");
        }
        assert!(!provided("acme:db/store@1.0.0", None));
        assert!(!links("acme:db/store@1.0.0", "store", RESOURCE), "a name that is missing does not link");
    }
}
