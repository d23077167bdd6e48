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

/// How often a running guest is interrupted for a look at the clock; also the longest that one which does not yield delays
/// another on its worker, twice over (`meter`).
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// The clock rests when no guest has run for so many ticks.
const REST_AFTER: u32 = 20;

/// Whether the engine can run the component model's own concurrency. It costs every connection 2 to 3 µs, so that only the
/// plugins that use it pay for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concurrency {
    /// WASI 0.2 only.
    Plain,
    /// WASI 0.2 and 0.3, async functions, streams and futures.
    Concurrent,
}

/// What changes the code that is generated, and must be the same wherever that is compiled and run.
pub(super) fn config(concurrency: Concurrency) -> Config {
    let concurrent = concurrency == Concurrency::Concurrent;
    let mut config = Config::new();
    config.epoch_interruption(true).concurrency_support(concurrent).wasm_component_model_async(concurrent);
    config
}

impl Concurrency {
    /// How many stacks a guest usually needs: one whose tasks run concurrently, a second one for what the host does in its memory meanwhile.
    /// It may take more, from the others of its plugin, where it consists of several instances that wait for each other.
    pub(super) fn stacks(self) -> u32 {
        match self {
            Self::Plain => 1,
            Self::Concurrent => 2,
        }
    }
}

/// An engine that compiles, and reads compiled plugins to find out what their guests need.
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
    /// To be called when a guest begins to run, and at each tick that finds it running.
    pub(crate) fn guest_runs(&self) {
        if !self.running.load(Ordering::SeqCst) {
            self.running.store(true, Ordering::SeqCst);
        }
        // The clock says that it rests before it looks for the last time whether a guest runs, so that one of the two is seen.
        if self.resting.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// Ticks for an engine as long as there is that.
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
                        // Wakes once a second all the same, to notice when the engine is gone.
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
