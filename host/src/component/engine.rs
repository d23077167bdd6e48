//! The engine: how plugins are compiled, and the clock that interrupts their guests.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};
use wasmtime::{Config, Engine, EngineWeak};

/// How often a running guest is interrupted to check the clock. A guest that does not yield delays
/// another on its worker by at most twice this time (`meter`).
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// The clock rests after this many ticks without a running guest.
const REST_AFTER: u32 = 20;

/// Whether the engine supports the component model's own concurrency. It costs every connection 2
/// to 3 µs, so only plugins that use it get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concurrency {
    /// WASI 0.2 only.
    Plain,
    /// WASI 0.2 and 0.3, async functions, streams and futures.
    Concurrent,
}

/// The settings that change code generation. They must be the same for compiling and running.
pub(super) fn config(concurrency: Concurrency) -> Config {
    let concurrent = concurrency == Concurrency::Concurrent;
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(concurrent).wasm_component_model_async(concurrent);
    config
}

impl Concurrency {
    /// The number of stacks that a guest usually needs. With concurrent tasks it needs a second one
    /// for the host's work in its memory. A guest of several instances that wait for each other may
    /// take more, from the other guests of its plugin.
    pub(super) fn stacks(self) -> u32 {
        match self {
            Self::Plain => 1,
            Self::Concurrent => 2,
        }
    }
}

/// An engine that compiles, and loads compiled plugins to find out what their guests need.
pub(crate) fn compiler(concurrency: Concurrency) -> wasmtime::Result<&'static Engine> {
    static COMPILERS: [OnceLock<Engine>; 2] = [const { OnceLock::new() }; 2];
    let compiler = match concurrency {
        Concurrency::Plain => &COMPILERS[0],
        Concurrency::Concurrent => &COMPILERS[1],
    };
    if let Some(made) = compiler.get() {
        return Ok(made);
    }
    let made = Engine::new(&config(concurrency))?;
    Ok(compiler.get_or_init(|| made))
}

/// Advances the epoch while guests run, and rests while they wait.
#[derive(Debug)]
pub(crate) struct Clock {
    running: Arc<AtomicBool>,
    resting: Arc<AtomicBool>,
    thread: Thread,
}

impl Clock {
    /// Call this when a guest begins to run, and at each tick that finds it running.
    pub(crate) fn guest_runs(&self) {
        if !self.running.load(Ordering::SeqCst) {
            self.running.store(true, Ordering::SeqCst);
        }
        // The clock marks itself as resting before its last check for running guests, so that at
        // least one side sees the other.
        if self.resting.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// Starts the clock of an engine. It ends with the engine.
    pub(super) fn start(engine: EngineWeak) -> wasmtime::Result<Arc<Self>> {
        let running = Arc::new(AtomicBool::new(false));
        let resting = Arc::new(AtomicBool::new(false));
        let (runs, rests) = (Arc::clone(&running), Arc::clone(&resting));
        let thread = thread::Builder::new().name("epochs".into()).spawn(move || {
            let mut idle = 0;
            loop {
                idle = if runs.swap(false, Ordering::SeqCst) { 0 } else { idle + 1 };
                if idle < REST_AFTER {
                    thread::park_timeout(TICK);
                } else {
                    rests.store(true, Ordering::SeqCst);
                    if !runs.load(Ordering::SeqCst) {
                        // Also wakes once a second, to notice that the engine is gone.
                        thread::park_timeout(Duration::from_secs(1));
                    }
                    rests.store(false, Ordering::SeqCst);
                }
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Arc::new(Self { running, resting, thread: thread.thread().clone() }))
    }
}
