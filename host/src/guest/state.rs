//! The state of one guest inside its store, and how the engine's interfaces find it there.

use super::{
    io::{
        Facts, concurrent_streams,
        stdio::{GuestLog, Lines},
        streams::{self, Ownership},
        ucspi,
    },
    late_start::Learner,
    lowered::Lowered,
    memory::Memory,
    meter::Meter,
    program::Program,
    wasi::{idle::Idle, outgoing},
};
use crate::{
    component::{
        grants::{Denials, Granted},
        places::Places,
    },
    record::connection_id::ConnectionId,
    record::log::Limiter,
    wire::{Wire, draining::Draining},
};
use std::sync::Arc;
use wasmtime::{
    Engine, Store,
    component::{Resource, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::{
    IoView,
    streams::{DynInputStream, DynOutputStream},
};

/// The divisor of a guest's limit for streams, futures and tasks of WASI 0.3, if it was granted
/// files or connections: a stream takes three of these, and 8 KiB.
const CONCURRENT_PART_OF_FILES: usize = 4;

/// The most bytes that one host call may make the host allocate. A stream takes 64 KiB at a time;
/// paths, messages and lists of pollables are smaller.
pub(super) const HOSTCALL_BYTES: usize = 2 << 20;

/// The most random bytes of one call: generating them takes about 10 ms of the host's time, which
/// no epoch interrupts.
const RANDOM_BYTES: u64 = 16 << 20;

/// One guest's store data.
pub(super) struct State {
    pub(super) table: ResourceTable,
    pub(super) memory: Memory,
    pub(super) learner: Learner,
    /// The guest's first message through `fail`.
    pub(super) declared_failure: Option<String>,
    pub(super) granted: Arc<Granted>,
    /// The plugin's idle connections to other servers.
    pub(super) idle: Arc<Idle>,
    pub(super) places: Places,
    /// The guest's state of `wasi:http`, created at its first call.
    pub(super) http: Option<Box<outgoing::Http>>,
    /// The state of a program of WASI 0.1, if it is one.
    pub(super) program: Option<Box<Program>>,
    /// The state of a handler that is served without the component layer, if it is one.
    pub(super) lowered: Option<Box<Lowered>>,
    /// Whether the guest had its full number of large resources at its last call to `wasi:http`.
    pub(super) lacks_room_for_fields: bool,
    /// The most resources that the guest may hold.
    pub(super) resources: usize,
    pub(super) connection: ConnectionId,
    pub(super) draining: Draining,
    /// The facts, if the guest has the connection for itself.
    facts: Option<Facts>,
    meter: Arc<Meter>,
    pub(super) plugin_log: PluginLog,
    /// Its standard error, after the first use.
    stderr: Option<Lines>,
    /// Created at the first call to WASI, since most guests make none.
    wasi: Option<Box<WasiCtx>>,
}

/// The parts for logging a guest's output.
#[derive(Clone, Debug)]
pub(super) struct PluginLog {
    /// The plugin's name.
    pub(super) plugin: Arc<str>,
    /// The rate limit of all guests of the plugin.
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
        plugin_log: PluginLog,
        learner: Learner,
        granted: Arc<Granted>,
        idle: Arc<Idle>,
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
                idle,
                places: Places::default(),
                http: None,
                program: None,
                lowered: None,
                lacks_room_for_fields: false,
                resources,
                connection,
                draining,
                facts,
                meter,
                plugin_log,
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

    /// The guest's last output, if it may explain its end.
    pub(super) fn last_output(&self) -> Option<String> {
        self.stderr.as_ref()?.last_output()
    }

    /// The wire, if the guest has the connection for itself.
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
        let input: DynInputStream = Box::new(streams::Input::new(&facts.wire, &self.learner, Ownership::Owned));
        let output: DynOutputStream = Box::new(streams::Output::new(&facts.wire, &self.learner, Ownership::Owned));
        Ok((self.table.push(facts)?, self.table.push(input)?, self.table.push(output)?))
    }

    /// The parameters of `handle-request` on WASI 0.3, the input still to be made a stream of the
    /// store; the sender of its result; and a receiver that resolves when the guest has closed the
    /// output.
    pub(super) fn offer_concurrent(
        &mut self,
    ) -> wasmtime::Result<(
        Resource<Facts>,
        concurrent_streams::Input,
        concurrent_streams::Output,
        concurrent_streams::Ended,
    )> {
        let facts = self.own_facts()?.clone();
        // `input-end` reports the reason.
        let (input, _ended) = concurrent_streams::Input::new(&facts.wire, &self.learner, Ownership::Owned);
        let (output, closed) = concurrent_streams::Output::new(&facts.wire, &self.learner, Ownership::Owned);
        Ok((self.table.push(facts)?, input, output, closed))
    }

    /// Makes the guest a program of WASI 0.1.
    pub(super) fn become_program(&mut self) -> wasmtime::Result<()> {
        let wire = Arc::clone(self.wire()?);
        self.program = Some(Box::new(Program::new(wire, self.learner.clone(), &self.granted)));
        Ok(())
    }

    /// The standard error of a program of WASI 0.1.
    pub(super) fn log_of_program(&mut self) -> &Lines {
        self.stderr.get_or_insert_with(|| {
            let guest_log = GuestLog::new(&self.plugin_log.plugin, self.connection, &self.plugin_log.limiter);
            Lines::new("stderr", &guest_log, &self.learner)
        })
    }

    /// The environment of a command: its grants, and the facts about its connection unless a grant
    /// overrides them.
    pub(super) fn environment_of_command(&mut self) -> Vec<(String, String)> {
        // It may act on its peer's address.
        self.learner.observable();
        let mut environment = self.granted.environment().to_vec();
        let of_connection = self.facts.iter().flat_map(ucspi::variables);
        environment.extend(
            of_connection.filter(|(name, _)| self.granted.environment().iter().all(|(granted, _)| granted != name)),
        );
        environment
    }

    /// The arguments of a command. The first is always its name.
    pub(super) fn arguments_of_command(&self) -> Vec<String> {
        match self.granted.arguments() {
            [] => vec![self.plugin_log.plugin.to_string()],
            arguments => arguments.to_vec(),
        }
    }

    /// The record of denials of this guest.
    pub(super) fn denials(&self) -> Denials {
        Denials::new(&self.plugin_log.plugin, self.connection, &self.plugin_log.limiter)
    }

    /// WASI for calls whose answer depends only on the configuration, or that count as such
    /// (`late_start`).
    pub(super) fn quiet(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| {
            let guest_log = GuestLog::new(&self.plugin_log.plugin, self.connection, &self.plugin_log.limiter);
            let mut builder = WasiCtx::builder();
            let stderr = self.stderr.insert(Lines::new("stderr", &guest_log, &self.learner)).clone();
            builder
                .stdout(Lines::new("stdout", &guest_log, &self.learner))
                .stderr(stderr)
                .max_random_size(RANDOM_BYTES);
            let denials = Denials::new(&self.plugin_log.plugin, self.connection, &self.plugin_log.limiter);
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
