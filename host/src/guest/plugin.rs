//! A plugin: loaded once, from its file to something that serves; then one guest for each
//! connection.

use super::{
    background::Movable,
    command,
    io::Facts,
    late_start::{LateStart, Learner, Start},
    link::{self, Handler, link},
    memory::{Memory, Refused},
    meter::{Meter, Metered},
    outcome::Outcome,
    state::{PluginLog, State},
    wasi::idle::Idle,
};
use crate::{
    component::{
        Kind, Limits, LoadError, Problem, Shortage, Source, backtrace::Symbols, engine::Concurrency, file::PluginFile,
        grants::Granted, loaded::Loaded, pool::Pool, problem::one_line,
    },
    record::connection_id::ConnectionId,
    record::{
        digest::Digest,
        failure::{Failure, Reason},
        log::{self, Limiter},
    },
    wire::{Wire, draining::Draining},
};
use std::{
    num::NonZeroU32,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time;
use tracing::{info, warn};
use wasmtime::{Store, component::StreamReader};

/// Lines that all guests of a plugin together may log at once, and each second after that.
const OUTPUT_BURST: u32 = 1000;
const OUTPUT_RATE: u32 = 100;

/// How long the trial instance may take at start: a start function might wait for ever.
const LONGEST_START: Duration = Duration::from_secs(60);

/// A plugin that is ready to serve.
pub struct Plugin {
    pub(super) pool: Arc<Pool>,
    pub(super) handler: Handler,
    late_start: Arc<LateStart>,
    pub(super) limits: Limits,
    plugin_log: PluginLog,
    granted: Arc<Granted>,
    idle: Arc<Idle>,
    /// Whether its guests can create collections of fields.
    imports_http: bool,
    about: Arc<About>,
    /// Its debug information, if it has some.
    pub(super) symbols: Option<Arc<Symbols>>,
}

/// The facts about a served plugin for the operator.
#[derive(Debug)]
pub struct About {
    /// Its name: the file name without its extension.
    pub name: Arc<str>,
    /// Its file.
    pub path: PathBuf,
    /// Its kind.
    pub kind: Kind,
    /// The contract that it was built for.
    pub contract: String,
    /// The digest of the file when it was read.
    pub digest: Digest,
    /// The time of loading.
    pub loaded: SystemTime,
}

impl Plugin {
    /// Reads a plugin, compiles it or takes it from the cache, links and tries it. Takes up to ten
    /// seconds for a large plugin that is not in the cache. Call it within a runtime, where
    /// blocking is allowed.
    ///
    /// # Errors
    ///
    /// Anything that would keep a guest of it from starting.
    pub fn load(source: &Source) -> Result<Self, LoadError> {
        let name = source.path.file_stem().unwrap_or(source.path.as_os_str()).to_string_lossy();
        let granted = tokio::runtime::Handle::current().block_on(Granted::find(&source.grants, &name))?;
        Self::load_file(source, &name, granted)
            .map_err(|problem| LoadError::Plugin { path: source.path.clone(), problem })
    }

    fn load_file(source: &Source, name: &str, granted: Granted) -> Result<Self, Problem> {
        let file = PluginFile::open(&source.path)?;
        let Loaded { contract, digest, pool, code, symbols, advice } = Loaded::from(&file, source, link::links)?;
        let handler = link(&pool.engine, &code, &contract)?;
        let plugin = Self {
            pool,
            handler,
            late_start: LateStart::new(source.start),
            limits: source.limits,
            granted: Arc::new(granted),
            idle: Arc::default(),
            imports_http: contract.imports_http,
            about: Arc::new(About {
                name: name.into(),
                path: source.path.clone(),
                kind: contract.kind,
                contract: contract.built_for.clone(),
                digest,
                loaded: SystemTime::now(),
            }),
            symbols,
            plugin_log: PluginLog { plugin: name.into(), limiter: Arc::new(Limiter::new(OUTPUT_BURST, OUTPUT_RATE)) },
        };
        tokio::runtime::Handle::current().block_on(plugin.try_out())?;
        info!(plugin = %plugin.plugin_log.plugin, kind = %contract, bytes = file.length(), "plugin loaded");
        if let Some(warning) = contract.warning {
            warn!(plugin = %plugin.plugin_log.plugin, cause = warning, "plugin may overwrite its memory");
        }
        if let Some(advice) = advice {
            info!(plugin = %plugin.plugin_log.plugin, detail = %advice, "guest memory partly kept");
        }
        Ok(plugin)
    }

    /// Its name: the file name without its extension.
    pub fn name(&self) -> &Arc<str> {
        &self.plugin_log.plugin
    }

    /// The facts about it for the operator.
    pub fn about(&self) -> &Arc<About> {
        &self.about
    }

    /// Whether the kernel allows too few mappings for this many guests of these plugins.
    pub fn shortage<'a>(plugins: impl IntoIterator<Item = &'a Arc<Self>>, guests: NonZeroU32) -> Option<Shortage> {
        let mut pools: Vec<&Arc<Pool>> = Vec::new();
        for Self { pool, .. } in plugins.into_iter().map(Arc::as_ref) {
            if !pools.iter().any(|known| Arc::ptr_eq(known, pool)) {
                pools.push(pool);
            }
        }
        let each: Vec<_> = pools.iter().map(|pool| pool.mappings.each()).collect();
        Shortage::find(&each, guests)
    }

    /// Whether a guest is made only when there is input for it.
    pub fn starts_late(&self) -> bool {
        self.speaks_http() || self.late_start.start() == Start::FirstByte
    }

    /// Makes a guest and drops it, so that a fault shows at start and not at the first connection.
    async fn try_out(&self) -> Result<(), Problem> {
        let (facts, _peer) = Facts::of_trial().map_err(|error| Problem::Instantiate(error.to_string()))?;
        let meter = Meter::new(self.limits.guest_cpu_time, facts.wire.movement(), &self.pool.clock);
        let mut store = self.store(facts.id, facts.draining.clone(), Some(facts), &meter);
        let made = {
            let instantiation = pin!(async {
                match &self.handler {
                    Handler::Lowered(pre) => pre.instantiate(&mut store).await.map(drop),
                    Handler::Wasi02(pre) => pre.instantiate_async(&mut store).await.map(drop),
                    Handler::Wasi03(pre) => pre.instantiate_async(&mut store).await.map(drop),
                    Handler::Command02(pre) => pre.instantiate_async(&mut store).await.map(drop),
                    Handler::Command03(pre) => pre.instantiate_async(&mut store).await.map(drop),
                    Handler::Http02(pre) => pre.instantiate_async(&mut store).await.map(drop),
                    Handler::Http03(pre) => pre.instantiate_async(&mut store).await.map(drop),
                    Handler::Program(pre) => pre.instantiate(&mut store).await.map(drop),
                }
            });
            time::timeout(LONGEST_START, Metered::new(instantiation, &meter, Learner::default())).await
        };
        let Ok(made) = made else {
            return Err(Problem::Instantiate(format!("it took longer than {} s", LONGEST_START.as_secs())));
        };
        match made {
            Ok(()) => Ok(()),
            Err(_) if meter.exhausted() => Err(Problem::Instantiate("it uses more than --guest-cpu-time".to_owned())),
            Err(error) => Err(match store.data().memory.refused {
                Some(Refused::Memory { wanted, .. }) => {
                    Problem::Memory { needed: wanted, given: self.limits.guest_memory }
                }
                Some(refused) => Problem::Instantiate(refused.to_string()),
                None => Problem::Instantiate(one_line(&error)),
            }),
        }
    }

    /// The store of a guest. With facts, the guest has the connection for itself.
    pub(super) fn store(
        &self,
        connection: ConnectionId,
        draining: Draining,
        facts: Option<Facts>,
        meter: &Arc<Meter>,
    ) -> Store<State> {
        let memory = Memory::new(self.limits.guest_memory, self.pool.mappings.room());
        State::store(
            &self.pool.engine,
            connection,
            draining,
            facts,
            memory,
            Arc::clone(meter),
            self.plugin_log.clone(),
            self.late_start.learner(),
            Arc::clone(&self.granted),
            Arc::clone(&self.idle),
            self.imports_http,
            self.limits.guest_resources as usize,
        )
    }

    /// A learner that counts any wait as a wait for input. Only on the plain engine does a guest
    /// wait for nothing else. On the concurrent one it may just have yielded, so only taken input
    /// counts.
    fn learner_of_waits(&self) -> Learner {
        match self.handler {
            Handler::Lowered(_) | Handler::Wasi02(_) | Handler::Command02(_) | Handler::Program(_)
                if self.pool.concurrency() == Concurrency::Plain =>
            {
                self.late_start.learner()
            }
            _ => Learner::default(),
        }
    }

    /// A fresh guest for one connection.
    pub fn guest(self: &Arc<Self>, facts: Facts) -> Guest {
        let wire = Arc::clone(&facts.wire);
        let meter = Meter::new(self.limits.guest_cpu_time, wire.movement(), &self.pool.clock);
        let (plugin, tended, metered) = (Arc::clone(self), Arc::clone(&wire), Arc::clone(&meter));
        let call = Box::pin(async move {
            let mut store = plugin.store(facts.id, facts.draining.clone(), Some(facts), &metered);
            let ended = {
                let call = pin!(plugin.call(&mut store));
                // Together, since both share the wire.
                tokio::select! {
                    biased;
                    ended = Metered::new(call, &metered, plugin.learner_of_waits()) => ended,
                    never = tended.tend() => match never {},
                }
            };
            (ended, store)
        });
        Guest { call: Movable::new(call, Arc::clone(&meter)), plugin: Arc::clone(self), wire, meter }
    }

    async fn call(&self, store: &mut Store<State>) -> Returned {
        match &self.handler {
            Handler::Lowered(pre) => pre.run(store).await,
            Handler::Wasi02(pre) => {
                let guest = pre.instantiate_async(&mut *store).await?;
                let (connection, input, output) = store.data_mut().offer()?;
                guest.uninterruptible_server_handler().call_handle_request(&mut *store, connection, input, output).await
            }
            Handler::Wasi03(pre) => {
                let guest = pre.instantiate_async(&mut *store).await?;
                let (connection, input, output, closed) = store.data_mut().offer_concurrent()?;
                let input = StreamReader::new(&mut *store, input)?;
                store
                    .run_concurrent(async |accessor| {
                        let stream = guest
                            .uninterruptible_server_handler()
                            .call_handle_request(accessor, connection, input)
                            .await?;
                        accessor.with(|store| stream.pipe(store, output))?;
                        // The sender is dropped with the output, when the guest has closed it.
                        drop(closed.await);
                        Ok::<(), wasmtime::Error>(())
                    })
                    .await??;
                Ok(store.data_mut().declared_failure.take().map_or(Ok(()), Err))
            }
            Handler::Command02(pre) => {
                let guest = pre.instantiate_async(&mut *store).await?;
                command::outcome(guest.wasi_cli_run().call_run(&mut *store).await)
            }
            Handler::Command03(pre) => {
                let guest = pre.instantiate_async(&mut *store).await?;
                let run = store.run_concurrent(async |accessor| guest.wasi_cli_run().call_run(accessor).await);
                command::outcome(run.await.flatten())
            }
            Handler::Program(pre) => command::outcome(pre.run(store).await.map(Ok)),
            Handler::Http02(_) | Handler::Http03(_) => Err(wasmtime::Error::msg("it only answers HTTP requests")),
        }
    }
}

/// The result of a handler, or the error that ended it.
type Returned = wasmtime::Result<Result<(), String>>;

/// A guest at work for its connection, with its streams for itself.
pub struct Guest {
    plugin: Arc<Plugin>,
    call: Movable<(Returned, Store<State>)>,
    wire: Arc<Wire>,
    meter: Arc<Meter>,
}

impl Guest {
    /// Waits until the guest has finished and is gone.
    ///
    /// # Errors
    ///
    /// If the guest or this host failed, or the peer broke the connection.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        let (ended, store) = (&mut self.call).await;
        let failure = match ended {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(message)) => Failure { reason: Reason::Error, message: log::escaped(&message) },
            Err(error) => {
                let Some(outcome) = Outcome::of(&error, &store, &self.meter) else { return Ok(()) };
                // Before the store is dropped, and its output with it.
                self.wire.cut_output();
                self.wire.release();
                outcome.failure(&error, self.plugin.symbols.as_ref()).await
            }
        };
        // A failure of the guest after its peer is gone is not its fault.
        Err(if self.wire.broken() && matches!(failure.reason, Reason::Error | Reason::Trap) {
            Failure { reason: Reason::PeerReset, ..failure }
        } else {
            failure
        })
    }

    /// Ends the guest wherever it is. When this returns, it is gone.
    pub async fn stop(self) {
        self.call.stop().await;
    }
}
