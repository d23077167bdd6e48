//! A plugin: loaded once, from file to something that serves connections; then one guest for each.

use super::{
    backtrace::{self, Symbols},
    bindings::{wasi_0_2, wasi_0_3},
    cache::{self, Cache},
    contract::{self, Contract},
    digest::Digest,
    engine::{self, Concurrency, Runtime},
    facts::Facts,
    failure::{Failure, Reason},
    grants::{self, Granted, Grants},
    kind::{Generation, Kind},
    late_start::{LateStart, Learner, Start},
    memory::Memory,
    meter::{Heavy, Meter, Metered},
    state::{self, State, Voice},
};
use crate::{
    config::{GuestStart, Limits, Wasi03},
    log::{self, Limiter},
    sys::Artifact,
};
use std::{
    fs,
    io::{self, Read},
    num::NonZeroU32,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::time;
use tracing::{info, warn};
use wasmtime::{
    Engine, ResourcesRequired, Store,
    component::{Component, Linker, StreamReader},
};

/// What all guests of a plugin together may say in the log: at once, and a second after that.
const SPEECH_BURST: u32 = 1000;
const SPEECH_RATE: u32 = 100;

/// The largest plugin, in bytes: ten times what an interpreter with its library takes.
const LARGEST: u64 = 256 << 20;

/// How long the first instance may take, at boot: a start function might wait for ever.
const LONGEST_START: Duration = Duration::from_secs(60);

/// How a plugin is to be loaded and its guests to be run.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What it must be, where that was said.
    pub digest: Option<Digest>,
    /// What kind it is taken for, where that was said.
    pub kind: Option<Kind>,
    /// What its guests are granted.
    pub grants: Grants,
    /// Where its compiled form is kept.
    pub cache_dir: Option<PathBuf>,
    /// When its guests start.
    pub start: GuestStart,
    /// Whether it may be of WASI 0.3.
    pub wasi_0_3: Wasi03,
    /// What its guests may use.
    pub limits: Limits,
    /// How many of them there are at most.
    pub max_connections: NonZeroU32,
    /// How many threads will serve.
    pub workers: NonZeroU32,
}

/// Why a plugin cannot be served: one line that names what is wrong and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file.
    #[error("--plugin {}: {problem}", .path.display())]
    Plugin {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
    /// What its guests are granted.
    #[error(transparent)]
    Grant(#[from] grants::Error),
}

/// What is wrong with a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is a directory, a pipe, a device.
    #[error("is not a regular file: name the component itself, as in target/plugins/hello.wasm")]
    NotAFile,
    /// Reading it would take memory from those who are served.
    #[error("is {0} bytes, and a plugin has at most {LARGEST}: is it the right file?")]
    TooLarge(u64),
    /// What was read of it may be the old file and the new one in one.
    #[error("is being written to: put a new file in its place by a rename")]
    Changing,
    /// It is another one than was asked for.
    #[error(
        "has the SHA-256 {found}, and --plugin-sha256 asks for {wanted}: put the right file there, or the right digest"
    )]
    Digest {
        /// That of the file.
        found: Digest,
        /// That of the option.
        wanted: Digest,
    },
    /// It is not a plugin.
    #[error(transparent)]
    Contract(#[from] contract::Error),
    /// It is one of WASI 0.3, which was switched off.
    #[error(
        "uses WASI 0.3 or its concurrency, and --disable-wasi-0-3 is given: build it for 0.2 alone, or leave that option out"
    )]
    Wasi03Disabled,
    /// Its kind is none that is served yet.
    #[error("is a {0}, which this version of the host does not serve yet: build it for the world in wit/")]
    Unserved(Kind),
    /// It does not compile.
    #[error("does not compile: {0}")]
    Compile(String),
    /// Its compiled form was to be kept.
    #[error(transparent)]
    Keep(cache::KeepError),
    /// It cannot be linked: something that it needs differs from what the host has.
    #[error(
        "was built for {built_for}, and cannot be linked with what this host has (uninterruptible:server@0.2.0 and @0.3.0, WASI 0.2.12 \
         and 0.3.0): {cause}"
    )]
    Link {
        /// The package of what it exports.
        built_for: String,
        /// What differs.
        cause: String,
    },
    /// A guest of it needs more memory than it may have.
    #[error("needs {needed} bytes of memory to start, --guest-memory gives {given}: raise it")]
    Memory {
        /// What its memories take at the start.
        needed: u64,
        /// What they may.
        given: usize,
    },
    /// A first guest of it could not be made.
    #[error("cannot be instantiated: {0}")]
    Instantiate(String),
    /// The host could not make room.
    #[error(
        "no room for {connections} guests ({cause}): lower --max-connections, for as many of which each plugin has room, or raise vm.max_map_count and ulimit -v"
    )]
    Room {
        /// How many were asked for.
        connections: u32,
        /// What the system said.
        cause: String,
    },
}

impl Problem {
    /// Whether the plugin itself may be fine.
    pub fn is_refusal_of_the_system(&self) -> bool {
        matches!(self, Self::Room { .. } | Self::Keep(cache::KeepError::Unwritten { .. }))
    }
}

impl LoadError {
    /// Whether the plugin itself may be fine.
    pub fn is_refusal_of_the_system(&self) -> bool {
        match self {
            Self::Plugin { problem, .. } => problem.is_refusal_of_the_system(),
            Self::Grant(error) => error.is_refusal_of_the_system,
        }
    }
}

/// A plugin that is ready to serve.
pub struct Plugin {
    runtime: Runtime,
    handler: Handler,
    late_start: Arc<LateStart>,
    limits: Limits,
    heavy: Heavy,
    voice: Voice,
    granted: Arc<Granted>,
    /// Where it carries debug information.
    symbols: Option<Arc<Symbols>>,
}

/// The plugin's `handle-request`, linked, its exports found.
pub(super) enum Handler {
    Wasi02(wasi_0_2::PluginPre<State>),
    Wasi03(wasi_0_3::PluginAsyncPre<State>),
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
        let bytes = read(&source.path)?;
        if let Some(wanted) = source.digest {
            let found = Digest::of(&bytes);
            if found != wanted {
                return Err(Problem::Digest { found, wanted });
            }
        }
        let contract = accepted(&bytes, source.kind, source.wasi_0_3)?;
        let (runtime, component) = prepare(source, &contract, &bytes)?;
        let handler = link(&runtime.engine, &component, &contract)?;
        let plugin = Self {
            runtime,
            handler,
            late_start: LateStart::new(source.start),
            limits: source.limits,
            heavy: Heavy::new(source.workers),
            granted: Arc::new(granted),
            symbols: Symbols::of(&bytes),
            voice: Voice { plugin: name.into(), limiter: Arc::new(Limiter::new(SPEECH_BURST, SPEECH_RATE)) },
        };
        tokio::runtime::Handle::current().block_on(plugin.try_out())?;
        info!(plugin = %plugin.voice.plugin, kind = %contract, bytes = bytes.len(), "plugin loaded");
        Ok(plugin)
    }

    /// The plugin's name: its file's, less the ending.
    pub fn name(&self) -> &Arc<str> {
        &self.voice.plugin
    }

    /// Whether a guest is made only when there is input for it.
    pub fn starts_late(&self) -> bool {
        self.late_start.start() == Start::FirstByte
    }

    /// Makes a guest and throws it away, so that what would fail at the first connection fails at boot.
    async fn try_out(&self) -> Result<(), Problem> {
        let (facts, _peer) = Facts::of_nobody().map_err(|error| Problem::Instantiate(error.to_string()))?;
        let meter = Meter::new(self.limits.guest_cpu_time, &facts.wire, &self.heavy, &self.runtime.clock);
        let mut store = self.store(facts, &meter);
        let made = {
            let instantiation = pin!(async {
                match &self.handler {
                    Handler::Wasi02(pre) => pre.instantiate_async(&mut store).await.map(drop),
                    Handler::Wasi03(pre) => pre.instantiate_async(&mut store).await.map(drop),
                }
            });
            time::timeout(LONGEST_START, Metered::new(instantiation, &meter, Learner::default())).await
        };
        let Ok(made) = made else {
            return Err(Problem::Instantiate(format!("it was not done after {} s", LONGEST_START.as_secs())));
        };
        match made {
            Ok(()) => Ok(()),
            Err(_) if meter.exhausted() => Err(Problem::Instantiate("it uses more than --guest-cpu-time".to_owned())),
            Err(_) if store.data().memory.wanted > 0 => {
                Err(Problem::Memory { needed: store.data().memory.wanted, given: self.limits.guest_memory })
            }
            Err(error) => Err(Problem::Instantiate(one_line(&error))),
        }
    }

    fn store(&self, facts: Facts, meter: &Arc<Meter>) -> Store<State> {
        let memory = Memory::new(self.limits.guest_memory);
        State::store(
            &self.runtime.engine,
            facts,
            memory,
            Arc::clone(meter),
            self.voice.clone(),
            self.late_start.learner(),
            Arc::clone(&self.granted),
        )
    }

    /// Learns from a wait as such. Only on the plain engine does a guest wait for nothing but what it was given; on the other it
    /// may also just have yielded, and so only input that it takes tells.
    fn learner_of_waits(&self) -> Learner {
        match self.handler {
            Handler::Wasi02(_) if self.runtime.concurrency == Concurrency::Plain => self.late_start.learner(),
            _ => Learner::default(),
        }
    }

    /// Serves one connection with a fresh guest, which is gone when this returns or is dropped.
    ///
    /// # Errors
    ///
    /// Where the guest or this host failed, or the peer broke the connection.
    pub async fn serve(&self, facts: Facts) -> Result<(), Failure> {
        let wire = Arc::clone(&facts.wire);
        let meter = Meter::new(self.limits.guest_cpu_time, &wire, &self.heavy, &self.runtime.clock);
        let mut store = self.store(facts, &meter);
        let ended = {
            let call = pin!(self.call(&mut store));
            Metered::new(call, &meter, self.learner_of_waits()).await
        };
        let failure = match ended {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(message)) => Failure { reason: Reason::Error, message: log::escaped(&message) },
            Err(error) => {
                let Some((reason, what)) = judge(&error, &store, &meter) else { return Ok(()) };
                // Before the store, and the output in it, are dropped.
                wire.cut_output();
                let words = store.data().last_words();
                let what = match what {
                    Some(what) => what,
                    // Boxed so that connections of guests that do not trap are no larger for it.
                    None => Box::pin(backtrace::described(&error, self.symbols.as_ref())).await,
                };
                Failure { reason, message: joined(words, what) }
            }
        };
        // A guest that fails because its peer is gone has done nothing wrong.
        Err(if wire.broken() && matches!(failure.reason, Reason::Error | Reason::Trap) {
            Failure { reason: Reason::PeerReset, ..failure }
        } else {
            failure
        })
    }

    async fn call(&self, store: &mut Store<State>) -> wasmtime::Result<Result<(), String>> {
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
        }
    }
}

/// What the file says of itself, where that can be served.
pub(super) fn accepted(bytes: &[u8], kind: Option<Kind>, wasi_0_3: Wasi03) -> Result<Contract, Problem> {
    let contract = contract::read(bytes, kind)?;
    refused(&contract, wasi_0_3).map_or(Ok(contract), Err)
}

/// Why what a file says of itself cannot be served, where it cannot.
pub(super) fn refused(contract: &Contract, wasi_0_3: Wasi03) -> Option<Problem> {
    if !contract.missing.is_empty() {
        return Some(contract::Error::MissingImports(contract.missing.clone()).into());
    }
    if contract.concurrency == Concurrency::Concurrent && wasi_0_3 == Wasi03::Disabled {
        return Some(Problem::Wasi03Disabled);
    }
    match contract.kind {
        Kind::Handler(_) => None,
        kind @ (Kind::Http(_) | Kind::Command(_) | Kind::Module) => Some(Problem::Unserved(kind)),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    // Opening a pipe would wait for its writer.
    let file = fs::metadata(path).map_err(Problem::Unreadable)?;
    if !file.is_file() {
        return Err(Problem::NotAFile);
    }
    if file.len() > LARGEST {
        return Err(Problem::TooLarge(file.len()));
    }
    let mut file = fs::File::open(path).map_err(Problem::Unreadable)?;
    let stamp = |file: &fs::File| file.metadata().map(|file| (file.len(), file.mtime(), file.mtime_nsec()));
    let before = stamp(&file).map_err(Problem::Unreadable)?;
    let mut bytes = Vec::new();
    file.by_ref().take(LARGEST).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
    if stamp(&file).map_err(Problem::Unreadable)? != before {
        return Err(Problem::Changing);
    }
    Ok(bytes)
}

fn prepare(source: &Source, contract: &Contract, bytes: &[u8]) -> Result<(Runtime, Component), Problem> {
    let compile_error = |error: wasmtime::Error| Problem::Compile(one_line(&error));
    let compiler = engine::compiler(contract.concurrency).map_err(compile_error)?;
    let cache = Cache::open(source.cache_dir.as_deref());
    let mut artifact = cache.artifact(&compiler, bytes).map_err(compile_error)?;
    let mut probe = artifact.load(&compiler);
    if let (Artifact::Kept(_), Err(error)) = (&artifact, &probe) {
        // A file system that forbids execution, for example.
        warn!("the compiled plugin cannot be loaded and is made anew: {}", one_line(error));
        artifact = cache::compile(&compiler, bytes).map_err(compile_error)?;
        probe = artifact.load(&compiler);
    }
    let required = probe.map_err(compile_error)?.resources_required().unwrap_or(ResourcesRequired {
        num_memories: 1,
        max_initial_memory_size: None,
        num_tables: 1,
        max_initial_table_size: None,
    });
    let needed = engine::initial_memory(&required);
    if needed > source.limits.guest_memory as u64 {
        return Err(Problem::Memory { needed, given: source.limits.guest_memory });
    }
    let runtime = Runtime::new(contract.concurrency, &required, &source.limits, source.max_connections)
        .map_err(|error| Problem::Room { connections: source.max_connections.get(), cause: one_line(&error) })?;
    let component = artifact.load(&runtime.engine).map_err(compile_error)?;
    Ok((runtime, component))
}

pub(super) fn link(engine: &Engine, component: &Component, contract: &Contract) -> Result<Handler, Problem> {
    let link_error =
        |error: wasmtime::Error| Problem::Link { built_for: contract.built_for.clone(), cause: one_line(&error) };
    let linked = || {
        let mut linker = Linker::new(engine);
        state::link_wasi_0_2(&mut linker)?;
        if contract.concurrency == Concurrency::Concurrent {
            state::link_wasi_0_3(&mut linker)?;
        }
        linker.instantiate_pre(component)
    };
    let pre = linked().map_err(link_error)?;
    match contract.kind {
        Kind::Handler(Generation::Wasi02) => wasi_0_2::PluginPre::new(pre).map(Handler::Wasi02).map_err(link_error),
        Kind::Handler(Generation::Wasi03) => {
            wasi_0_3::PluginAsyncPre::new(pre).map(Handler::Wasi03).map_err(link_error)
        }
        kind @ (Kind::Http(_) | Kind::Command(_) | Kind::Module) => Err(Problem::Unserved(kind)),
    }
}

/// What an error from the engine says of its guest, and about it, where it is no trap; `None` where the guest left with status 0,
/// which is no failure.
fn judge(error: &wasmtime::Error, store: &Store<State>, meter: &Meter) -> Option<(Reason, Option<String>)> {
    if meter.exhausted() {
        return Some((Reason::CpuTime, Some(String::new())));
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return (exit.0 != 0).then(|| (Reason::Error, Some(format!("the guest exited with status {}", exit.0))));
    }
    let reason = if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        Reason::Host
    } else if store.data().memory.refused {
        Reason::Memory
    } else {
        Reason::Trap
    };
    Some((reason, None))
}

/// What happened to a guest, after what it has said last: a panic's message says more than the trap that it ends in.
fn joined(words: Option<String>, what: String) -> String {
    log::escaped(&match words {
        Some(words) if !what.is_empty() => format!("{words}; {what}"),
        _ => what,
    })
}

/// The chain of an error from the engine, which may be a paragraph, as one line.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    log::escaped(&format!("{error:#}").replace('\n', " "))
}
