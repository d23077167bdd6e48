//! What belongs to one guest inside its store, and how the engine's interfaces find it there.

use super::{
    concurrent_files, concurrent_streams,
    facts::{ConnectionId, Facts},
    files,
    grants::{Denials, Granted},
    late_start::Learner,
    memory::Memory,
    meter::Meter,
    outgoing,
    places::Places,
    program::Program,
    resources, sockets,
    stdio::{Lines, Speech},
    streams::{self, Tenure},
    ucspi,
};
use crate::{drain::Draining, log::Limiter, wire::Wire};
use std::{sync::Arc, time::Duration};
use wasmtime::{
    Engine, Store,
    component::{Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView,
    cli::WasiCli,
    clocks::WasiClocks,
    p2::{
        Pollable,
        bindings::{cli, clocks, random},
        subscribe,
    },
    random::WasiRandom,
};
use wasmtime_wasi_io::{
    IoView, async_trait,
    bindings::wasi::io::poll::HostPollable,
    poll::DynPollable,
    streams::{DynInputStream, DynOutputStream},
};

/// What a guest that was granted files or connections may hold of streams, futures and tasks of WASI 0.3: a stream takes three of
/// these, and 8 KiB.
const CONCURRENT_PART_OF_FILES: usize = 4;

/// What one host call may make the host allocate, in bytes. A stream takes 64 KiB at a time; paths, messages and lists of
/// pollables are smaller.
const HOSTCALL_BYTES: usize = 2 << 20;

/// The most random bytes that one call gives: generating them takes the host's time, some 10 ms for as many, which no epoch interrupts.
const RANDOM_BYTES: u64 = 16 << 20;

/// One guest's store data.
pub(super) struct State {
    pub(super) table: ResourceTable,
    pub(super) memory: Memory,
    pub(super) learner: Learner,
    /// What the guest said through `fail`, first.
    pub(super) declared_failure: Option<String>,
    pub(super) granted: Arc<Granted>,
    pub(super) places: Places,
    /// What the guest has of `wasi:http`, made when it first asks.
    pub(super) http: Option<Box<outgoing::Http>>,
    /// The state of a program of WASI 0.1, where it is one.
    pub(super) program: Option<Box<Program>>,
    /// Whether the guest had as many large resources as it may when it last asked for anything of `wasi:http`.
    pub(super) lacks_room_for_fields: bool,
    pub(super) connection: ConnectionId,
    draining: Draining,
    /// Where the guest has the connection for itself.
    facts: Option<Facts>,
    meter: Arc<Meter>,
    pub(super) voice: Voice,
    /// Its standard error, once it has one.
    stderr: Option<Lines>,
    /// Made when a guest first asks for anything of WASI, since most ask for nothing.
    wasi: Option<Box<WasiCtx>>,
}

/// What is needed to let a guest speak in the log.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    /// The plugin's name.
    pub(super) plugin: Arc<str>,
    /// What all guests of the plugin may say.
    pub(super) limiter: Arc<Limiter>,
}

impl Drop for State {
    fn drop(&mut self) {
        if self.http.is_some() {
            outgoing::abort_unfinished_bodies(&mut self.table);
        }
    }
}

impl State {
    /// A store for one guest, with every limit in force.
    #[expect(clippy::too_many_arguments, reason = "each is one of its parts")]
    pub(super) fn store(
        engine: &Engine,
        connection: ConnectionId,
        draining: Draining,
        facts: Option<Facts>,
        memory: Memory,
        meter: Arc<Meter>,
        voice: Voice,
        learner: Learner,
        granted: Arc<Granted>,
        imports_http: bool,
        resources: usize,
    ) -> Store<Self> {
        let concurrent_resources = if granted.reaches_out() || imports_http {
            resources.div_ceil(CONCURRENT_PART_OF_FILES)
        } else {
            resources
        };
        let mut table = ResourceTable::new();
        table.set_max_capacity(resources);
        let mut store = Store::new(
            engine,
            Self {
                table,
                memory,
                learner,
                declared_failure: None,
                granted,
                places: Places::default(),
                http: None,
                program: None,
                lacks_room_for_fields: false,
                connection,
                draining,
                facts,
                meter,
                voice,
                stderr: None,
                wasi: None,
            },
        );
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        store.set_max_component_handles(resources);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(concurrent_resources);
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| Ok(store.data().meter.tick()));
        store
    }

    /// What the guest has said last, as far as that may be why it ends.
    pub(super) fn last_words(&self) -> Option<String> {
        self.stderr.as_ref()?.last_words()
    }

    /// The connection's bytes, where the guest has it for itself.
    pub(super) fn wire(&self) -> wasmtime::Result<&Arc<Wire>> {
        Ok(&self.own_facts()?.wire)
    }

    fn own_facts(&self) -> wasmtime::Result<&Facts> {
        self.facts.as_ref().ok_or_else(|| wasmtime::Error::msg("the guest has no connection for itself"))
    }

    /// The parameters of `handle-request` on WASI 0.2.
    pub(super) fn offer(
        &mut self,
    ) -> wasmtime::Result<(Resource<Facts>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let facts = self.own_facts()?.clone();
        let input: DynInputStream = Box::new(streams::Input::new(&facts.wire, &self.learner, Tenure::Owned));
        let output: DynOutputStream = Box::new(streams::Output::new(&facts.wire, &self.learner, Tenure::Owned));
        Ok((self.table.push(facts)?, self.table.push(input)?, self.table.push(output)?))
    }

    /// The parameters of `handle-request` on WASI 0.3, the input still to be made a stream of the store's; where its result
    /// goes; and what resolves when the guest has closed that.
    pub(super) fn offer_concurrent(
        &mut self,
    ) -> wasmtime::Result<(
        Resource<Facts>,
        concurrent_streams::Input,
        concurrent_streams::Output,
        concurrent_streams::Ended,
    )> {
        let facts = self.own_facts()?.clone();
        // Why it ended is told by `input-end`.
        let (input, _ended) = concurrent_streams::Input::new(&facts.wire, &self.learner, Tenure::Owned);
        let (output, closed) = concurrent_streams::Output::new(&facts.wire, &self.learner, Tenure::Owned);
        Ok((self.table.push(facts)?, input, output, closed))
    }

    /// The guest is a program of WASI 0.1.
    pub(super) fn become_program(&mut self) -> wasmtime::Result<()> {
        let wire = Arc::clone(self.wire()?);
        self.program = Some(Box::new(Program::new(wire, self.learner.clone(), &self.granted)));
        Ok(())
    }

    /// The standard error of a program of WASI 0.1.
    pub(super) fn log_of_program(&mut self) -> &Lines {
        self.stderr.get_or_insert_with(|| {
            let speech = Speech::new(&self.voice.plugin, self.connection, &self.voice.limiter);
            Lines::new("stderr", &speech, &self.learner)
        })
    }

    /// What a command is told: what was granted, and what is known of its connection, unless a grant says otherwise.
    pub(super) fn environment_of_command(&mut self) -> Vec<(String, String)> {
        // It may act upon whom it serves.
        self.learner.observable();
        let mut environment = self.granted.environment().to_vec();
        let of_connection = self.facts.iter().flat_map(ucspi::variables);
        environment.extend(
            of_connection.filter(|(name, _)| self.granted.environment().iter().all(|(granted, _)| granted != name)),
        );
        environment
    }

    /// The words of a command, the first of which is always its name.
    pub(super) fn arguments_of_command(&self) -> Vec<String> {
        match self.granted.arguments() {
            [] => vec![self.voice.plugin.to_string()],
            arguments => arguments.to_vec(),
        }
    }

    /// For what this guest is denied.
    pub(super) fn denials(&self) -> Denials {
        Denials::new(&self.voice.plugin, self.connection, &self.voice.limiter)
    }

    /// WASI, for calls whose answer depends on nothing but the configuration, or that count as such (`late_start`).
    fn quiet(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            let speech = Speech::new(&self.voice.plugin, self.connection, &self.voice.limiter);
            let mut builder = WasiCtx::builder();
            let stderr = self.stderr.insert(Lines::new("stderr", &speech, &self.learner)).clone();
            builder.stdout(Lines::new("stdout", &speech, &self.learner)).stderr(stderr).max_random_size(RANDOM_BYTES);
            let denials = Denials::new(&self.voice.plugin, self.connection, &self.voice.limiter);
            self.granted.equip(&mut builder, denials);
            Box::new(builder.build())
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl IoView for State {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.learner.observable();
        self.quiet()
    }
}

struct Drained(Draining);

#[async_trait]
impl Pollable for Drained {
    async fn ready(&mut self) {
        self.0.wait().await;
    }
}

/// Links all of WASI 0.2 and our contract's imports of that generation.
pub(super) fn link_wasi_0_2(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    // Streams and pollables need the table only.
    wasmtime_wasi_io::add_to_linker_async(linker)?;
    // What does not keep a guest from starting late.
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
    // A timer is more than a look at the clock.
    let mut clock = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    clock.func_wrap("subscribe-instant", |mut store, (when,): (u64,)| {
        store.data_mut().learner.observable();
        let mut clocks = quiet_clocks(store.data_mut());
        Ok((clocks::monotonic_clock::Host::subscribe_instant(&mut clocks, when)?,))
    })?;
    clock.func_wrap("subscribe-duration", |mut store, (period,): (u64,)| {
        store.data_mut().learner.observable();
        let mut clocks = quiet_clocks(store.data_mut());
        Ok((clocks::monotonic_clock::Host::subscribe_duration(&mut clocks, period)?,))
    })?;
    // So is a look at whether there is something to wait for.
    linker.instance("wasi:io/poll@0.2.12")?.func_wrap_async("[method]pollable.ready", |mut store, (pollable,)| {
        Box::new(async move {
            let state: &mut State = store.data_mut();
            state.learner.observable();
            Ok((HostPollable::ready(&mut state.table, pollable).await?,))
        })
    })?;
    super::bindings::wasi_0_2::uninterruptible::server::types::add_to_linker::<
        State,
        wasmtime::component::HasSelf<State>,
    >(linker, |state| state)?;
    linker.instance("uninterruptible:server/drain@0.2.0")?.func_wrap("subscribe", |mut store, (): ()| {
        let state = store.data_mut();
        state.learner.observable();
        let drained = state.table.push(Drained(state.draining.clone()))?;
        let pollable: Resource<DynPollable> = subscribe(&mut state.table, drained)?;
        Ok((pollable,))
    })?;
    Ok(())
}

/// Links all of WASI 0.3 and our contract's imports of that generation, beside what [`link_wasi_0_2`] has linked.
pub(super) fn link_wasi_0_3(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::add_to_linker(linker)?;
    concurrent_files::link_wasi_0_3(linker)?;
    sockets::link_wasi_0_3(linker)?;
    // As in 0.2, a timer is more than a look at the clock; the engine's own does not ask the state, which would notice.
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
            // A mark in the past is ready at once; the timer would wait for a millisecond.
            if !period.is_zero() {
                tokio::time::sleep(period).await;
            }
            Ok(())
        })
    })?;
    super::bindings::wasi_0_3::uninterruptible::server::types::add_to_linker::<
        State,
        wasmtime::component::HasSelf<State>,
    >(linker, |state| state)?;
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

fn quiet_clocks(state: &mut State) -> wasmtime_wasi::clocks::WasiClocksCtxView<'_> {
    let WasiCtxView { ctx, table } = state.quiet();
    wasmtime_wasi::clocks::WasiClocksCtxView { ctx: ctx.clocks(), table }
}

fn quiet_cli(state: &mut State) -> wasmtime_wasi::cli::WasiCliCtxView<'_> {
    let WasiCtxView { ctx, table } = state.quiet();
    wasmtime_wasi::cli::WasiCliCtxView { ctx: ctx.cli(), table }
}
