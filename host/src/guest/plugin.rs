//! A plugin: loaded once, from file to something that serves connections; then one guest for each.

use super::{
    background::Movable,
    command,
    io::Facts,
    judgement::Judgement,
    late_start::{LateStart, Learner, Start},
    link::{Handler, link},
    memory::{Memory, Refused},
    meter::{Meter, Metered},
    state::{State, Voice},
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

/// What all guests of a plugin together may say in the log: at once, and a second after that.
const SPEECH_BURST: u32 = 1000;
const SPEECH_RATE: u32 = 100;

/// How long the first instance may take, at boot: a start function might wait for ever.
const LONGEST_START: Duration = Duration::from_secs(60);

/// A plugin that is ready to serve.
pub struct Plugin {
    pub(super) pool: Arc<Pool>,
    pub(super) handler: Handler,
    late_start: Arc<LateStart>,
    pub(super) limits: Limits,
    voice: Voice,
    granted: Arc<Granted>,
    idle: Arc<Idle>,
    /// Whether its guests can make collections of fields.
    imports_http: bool,
    about: Arc<About>,
    /// Where it carries debug information.
    pub(super) symbols: Option<Arc<Symbols>>,
}

/// What an operator is told of a plugin that is served.
#[derive(Debug)]
pub struct About {
    /// Its name: its file's, less the ending.
    pub name: Arc<str>,
    /// Its file.
    pub path: PathBuf,
    /// What kind of plugin it is.
    pub kind: Kind,
    /// The contract that it was built for.
    pub contract: String,
    /// What the file was when it was read.
    pub digest: Digest,
    /// When that was.
    pub loaded: SystemTime,
}

impl Plugin {
    /// Reads, compiles or finds compiled, links and tries a plugin. Takes up to ten seconds for a large one that was never
    /// compiled before. To be called where blocking is allowed, within a runtime.
    ///
    /// # Errors
    ///
    /// Everything that would keep a guest of it from starting.
    pub fn load(source: &Source) -> Result<Self, LoadError> {
        let name = source.path.file_stem().unwrap_or(source.path.as_os_str()).to_string_lossy();
        let granted = tokio::runtime::Handle::current().block_on(Granted::find(&source.grants, &name))?;
        Self::load_file(source, &name, granted)
            .map_err(|problem| LoadError::Plugin { path: source.path.clone(), problem })
    }

    fn load_file(source: &Source, name: &str, granted: Granted) -> Result<Self, Problem> {
        let file = PluginFile::open(&source.path)?;
        let Loaded { contract, digest, pool, code, symbols, advice } = Loaded::from(&file, source)?;
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
            voice: Voice { plugin: name.into(), limiter: Arc::new(Limiter::new(SPEECH_BURST, SPEECH_RATE)) },
        };
        tokio::runtime::Handle::current().block_on(plugin.try_out())?;
        info!(plugin = %plugin.voice.plugin, kind = %contract, bytes = file.length(), "plugin loaded");
        if let Some(warning) = contract.warning {
            warn!(plugin = %plugin.voice.plugin, cause = warning, "plugin may overwrite its memory");
        }
        if let Some(advice) = advice {
            info!(plugin = %plugin.voice.plugin, detail = %advice, "guest memory partly kept");
        }
        Ok(plugin)
    }

    /// The plugin's name: its file's, less the ending.
    pub fn name(&self) -> &Arc<str> {
        &self.voice.plugin
    }

    /// What an operator is told of it.
    pub fn about(&self) -> &Arc<About> {
        &self.about
    }

    /// Whether the kernel allows too few mappings for so many guests of these plugins.
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

    /// Makes a guest and throws it away, so that what would fail at the first connection fails at boot.
    async fn try_out(&self) -> Result<(), Problem> {
        let (facts, _peer) = Facts::of_nobody().map_err(|error| Problem::Instantiate(error.to_string()))?;
        let meter = Meter::new(self.limits.guest_cpu_time, facts.wire.movement(), &self.pool.clock);
        let mut store = self.store(facts.id, facts.draining.clone(), Some(facts), &meter);
        let made = {
            let instantiation = pin!(async {
                match &self.handler {
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

    /// For a guest of this connection, which has it for itself where there are facts.
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
            self.voice.clone(),
            self.late_start.learner(),
            Arc::clone(&self.granted),
            Arc::clone(&self.idle),
            self.imports_http,
            self.limits.guest_resources as usize,
        )
    }

    /// Learns from a wait as such. Only on the plain engine does a guest wait for nothing but what it was given; on the other it
    /// may also just have yielded, and so only input that it takes tells.
    fn learner_of_waits(&self) -> Learner {
        match self.handler {
            Handler::Wasi02(_) | Handler::Command02(_) | Handler::Program(_)
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
                // Together, since they share the wire.
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
                        // The sender goes with the output, when the guest has closed it.
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
            Handler::Http02(_) | Handler::Http03(_) => Err(wasmtime::Error::msg("it answers requests alone")),
        }
    }
}

/// What a handler returned, or why it returned nothing.
type Returned = wasmtime::Result<Result<(), String>>;

/// A guest at work for its connection, whose streams it has to itself.
pub struct Guest {
    plugin: Arc<Plugin>,
    call: Movable<(Returned, Store<State>)>,
    wire: Arc<Wire>,
    meter: Arc<Meter>,
}

impl Guest {
    /// Waits until it has finished, and is gone.
    ///
    /// # Errors
    ///
    /// Where the guest or this host failed, or the peer broke the connection.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        let (ended, store) = (&mut self.call).await;
        let failure = match ended {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(message)) => Failure { reason: Reason::Error, message: log::escaped(&message) },
            Err(error) => {
                let Some(judgement) = Judgement::of(&error, &store, &self.meter) else { return Ok(()) };
                // Before the store, and the output in it, are dropped.
                self.wire.cut_output();
                self.wire.release();
                judgement.failure(&error, self.plugin.symbols.as_ref()).await
            }
        };
        // A guest that fails because its peer is gone has done nothing wrong.
        Err(if self.wire.broken() && matches!(failure.reason, Reason::Error | Reason::Trap) {
            Failure { reason: Reason::PeerReset, ..failure }
        } else {
            failure
        })
    }

    /// Ends it in the middle of whatever it does. When this returns, it is gone.
    pub async fn stop(self) {
        self.call.stop().await;
    }
}
